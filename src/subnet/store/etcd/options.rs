//! How to reach an etcd cluster.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// flannel's `--etcd-*` flags, and how long to wait for what.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// URLs of the members; `host:port` without a scheme works too.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    pub prefix: String,
    /// Authorities that may have signed the servers' certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// User, if etcd asks for one.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// How long a connection may take, TLS included. Short: several endpoints may be dead, and
    /// when one returns we want to notice.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How often a silent connection is asked for a sign of life (HTTP/2 PING).
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

/// The keys of one network.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The cleaned prefix.
    pub(super) prefix: String,
    /// Key of the config.
    pub(super) config: String,
    /// What all leases' keys begin with. The slash at its end keeps siblings out.
    pub(super) subnets: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = clean(prefix);
        let config = clean(&format!("{prefix}/config"));
        let subnets = clean(&format!("{prefix}/subnets")) + "/";
        Self { prefix, config, subnets }
    }
}

/// Go's `path.Clean`, which flannel's `path.Join` applies: a missing leading slash stays missing.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_joined_as_flannel_joins_them() {
        for (prefix, config, subnets) in [
            ("/coreos.com/network", "/coreos.com/network/config", "/coreos.com/network/subnets/"),
            ("/coreos.com/network//", "/coreos.com/network/config", "/coreos.com/network/subnets/"),
            ("/a/./b/../c", "/a/c/config", "/a/c/subnets/"),
            ("plain", "plain/config", "plain/subnets/"),
            ("/", "/config", "/subnets/"),
            ("/a(b", "/a(b/config", "/a(b/subnets/"),
        ] {
            let keys = Keys::new(prefix);
            assert_eq!((keys.config.as_str(), keys.subnets.as_str()), (config, subnets));
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let options =
            EtcdOptions { password: Some(Secret::new("hunter2")), ..EtcdOptions::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
