//! How to reach an etcd cluster.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::EtcdStore;
use super::check;
use super::keys::Keys;
use crate::subnet::store::settings::shell_word;
use crate::subnet::store::{LeaseStore, OpenError, StoreAccess, StoreSettings};

/// flannel's `--etcd-*` flags, and the time limits of connections and requests.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// URLs of the members; `host:port` without a scheme works too.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    pub prefix: String,
    /// Certificate authorities that sign the servers' certificates, PEM; `None` means those of the
    /// system.
    pub ca_file: Option<PathBuf>,
    /// The client certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// The client certificate's key, PEM.
    pub key_file: Option<PathBuf>,
    /// User name, if etcd has authentication enabled.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Time limit for a connection, TLS handshake included. It is short, because several endpoints
    /// may be dead, and the return of one has to be noticed soon.
    pub connect_timeout: Duration,
    /// Time limit for the answer to a request.
    pub request_timeout: Duration,
    /// Interval of HTTP/2 PINGs on a silent connection (RFC 9113, section 6.7).
    pub keep_alive: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:4001".into(), "http://127.0.0.1:2379".into()],
            prefix: "/coreos.com/network".into(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            username: None,
            password: None,
            connect_timeout: Duration::from_millis(1500),
            request_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
        }
    }
}

impl EtcdOptions {
    /// A command of etcdctl on these servers, as a line for a shell. With a user, etcdctl asks for the password.
    pub fn etcdctl(&self, command: &str) -> String {
        let mut line = "ETCDCTL_API=3 etcdctl".to_owned();
        let endpoints = self.endpoints.iter().map(|endpoint| endpoint.trim());
        let path = |file: &Option<PathBuf>| Some(file.as_ref()?.display().to_string());
        for (flag, value) in [
            ("endpoints", Some(endpoints.collect::<Vec<_>>().join(","))),
            ("cacert", path(&self.ca_file)),
            ("cert", path(&self.cert_file)),
            ("key", path(&self.key_file)),
            ("user", self.username.clone()),
        ] {
            if let Some(value) = value {
                line += &format!(" --{flag}={}", shell_word(&value));
            }
        }
        line + " " + command
    }
}

impl StoreSettings for EtcdOptions {
    fn open(&self) -> Result<Arc<dyn LeaseStore>, OpenError> {
        Ok(Arc::new(EtcdStore::new(self.clone())?))
    }

    fn problems(&self) -> Vec<String> {
        check::problems(&mut self.clone())
    }

    fn reader(&self) -> Result<Arc<dyn LeaseStore>, OpenError> {
        self.open()
    }

    fn access(&self) -> StoreAccess {
        let tls = [&self.ca_file, &self.cert_file, &self.key_file];
        let mut read_files: Vec<PathBuf> = tls.into_iter().flatten().cloned().collect();
        if self.ca_file.is_none() {
            // The files behind the links, so that a sandbox need not allow the links' directories.
            read_files
                .extend(SYSTEM_AUTHORITIES.iter().filter_map(|f| Path::new(f).canonicalize().ok()));
        }
        let servers = self.endpoints.iter().filter_map(|endpoint| {
            let address = endpoint.trim().trim_end_matches('/');
            let address = address.split_once("://").map_or(address, |(_, rest)| rest);
            let (host, port) = address.rsplit_once(':')?;
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        });
        StoreAccess { read_files, servers: servers.collect(), ..StoreAccess::default() }
    }

    fn config_location(&self) -> String {
        Keys::new(&self.prefix).config
    }

    fn put_config_command(&self, config: &str) -> String {
        let key = shell_word(&self.config_location());
        self.etcdctl(&format!("put {key} {}", shell_word(config)))
    }

    fn remove_entry_command(&self, name: &str) -> String {
        let key = Keys::new(&self.prefix).subnets + name;
        self.etcdctl(&format!("del {}", shell_word(&key)))
    }
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

/// Bundles of certificate authorities, where Debian, Red Hat and Alpine install them.
pub(super) const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let options =
            EtcdOptions { password: Some(Secret::new("hunter2")), ..EtcdOptions::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
