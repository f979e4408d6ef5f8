//! The lease store: the flags of the daemon, of `leases` and of `doctor`.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command};

use crate::subnet::store::{EtcdOptions, Secret, StoreKind, StoreOptions, wrong_endpoint};

/// The lease store and the credentials for it.
///
/// The flags are global and name their environment variables for the commands that embed this struct. The
/// daemon's parser takes both away again (see `cli/parse`): a flag of the daemon is no flag of its commands,
/// and the daemon reads the environment by the rules of Go's flag package.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Lease store")]
pub struct StoreArgs {
    /// Comma-separated etcd endpoints; `host:port` without a scheme is taken as http
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        value_parser = EndpointParser,
        action = ArgAction::Set,
        env = "FLANNELD_ETCD_ENDPOINTS",
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379",
        global = true
    )]
    pub etcd_endpoints: Vec<String>,
    /// Prefix of flannel's keys in etcd
    #[arg(
        long,
        value_name = "PATH",
        env = "FLANNELD_ETCD_PREFIX",
        default_value = "/coreos.com/network",
        global = true
    )]
    pub etcd_prefix: String,
    /// Client key for etcd
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_KEYFILE", global = true)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Client certificate for etcd
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_CERTFILE", global = true)]
    pub etcd_certfile: Option<PathBuf>,
    /// Certificate authority that must have signed etcd's certificate; sufficient on its own for TLS
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_CAFILE", global = true)]
    pub etcd_cafile: Option<PathBuf>,
    /// User name for etcd
    #[arg(long, value_name = "NAME", env = "FLANNELD_ETCD_USERNAME", global = true)]
    pub etcd_username: Option<String>,
    /// Password for etcd; prefer the environment variable FLANNELD_ETCD_PASSWORD, because ps shows flags to
    /// every user
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "FLANNELD_ETCD_PASSWORD",
        hide_env_values = true,
        global = true
    )]
    pub etcd_password: Option<Secret>,
    /// Lease store: `etcd`, or `file:DIR` for a directory that all hosts share; its file DIR/config holds the
    /// network config
    #[arg(
        long,
        value_name = "STORE",
        env = "FLANNELD_REGISTRY",
        default_value = "etcd",
        global = true
    )]
    pub registry: StoreKind,
}

impl StoreArgs {
    /// The options to open the lease store with.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            kind: self.registry.clone(),
            etcd: EtcdOptions {
                endpoints: self.etcd_endpoints.iter().map(|url| without_userinfo(url)).collect(),
                prefix: self.etcd_prefix.clone(),
                ca_file: self.etcd_cafile.clone(),
                cert_file: self.etcd_certfile.clone(),
                key_file: self.etcd_keyfile.clone(),
                username: self.etcd_username.clone(),
                password: self.etcd_password.clone(),
                ..EtcdOptions::default()
            },
        }
    }
}

/// Parses an endpoint of etcd; its error shows no password.
#[derive(Clone, Copy)]
struct EndpointParser;

impl TypedValueParser for EndpointParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        let text = clap::builder::StringValueParser::new().parse_ref(command, arg, value)?;
        match wrong_endpoint(&without_userinfo(&text)) {
            None => Ok(text),
            Some(error) => {
                let message = format!("--etcd-endpoints: {error}\n");
                Err(clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command))
            }
        }
    }
}

/// The URL without `user:password@`, which etcd's Go client ignores too, and which would be printed with the URL.
fn without_userinfo(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let Some((_, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}
