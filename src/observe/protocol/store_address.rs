//! The lease store that the daemon uses, for commands that read the same store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::subnet::{EtcdOptions, StoreKind, StoreOptions};

/// The daemon's settings for the lease store, under the names of its flags; files by absolute path.
///
/// It has the names of users and files and no secret: passwords and keys never pass through the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreAddress {
    /// `etcd`, or `file:DIR`.
    pub registry: String,
    /// URLs of etcd.
    pub etcd_endpoints: Vec<String>,
    /// Prefix of flannel's keys.
    pub etcd_prefix: String,
    /// Certificate authorities.
    pub etcd_cafile: Option<String>,
    /// Client certificate.
    pub etcd_certfile: Option<String>,
    /// The client certificate's key.
    pub etcd_keyfile: Option<String>,
    /// User name.
    pub etcd_username: Option<String>,
}

impl StoreAddress {
    /// Kind and address of the store, as in messages.
    pub fn describe(&self) -> String {
        match self.registry.strip_prefix("file:") {
            Some(directory) => format!("directory {directory}"),
            None => format!("etcd at {}", self.etcd_endpoints.join(", ")),
        }
    }
}

impl From<&StoreOptions> for StoreAddress {
    fn from(options: &StoreOptions) -> Self {
        let etcd = &options.etcd;
        let file = |file: &Option<PathBuf>| file.as_deref().map(absolute);
        Self {
            registry: match &options.kind {
                StoreKind::Etcd => "etcd".into(),
                StoreKind::File(directory) => format!("file:{}", absolute(directory)),
            },
            etcd_endpoints: etcd.endpoints.clone(),
            etcd_prefix: etcd.prefix.clone(),
            etcd_cafile: file(&etcd.ca_file),
            etcd_certfile: file(&etcd.cert_file),
            etcd_keyfile: file(&etcd.key_file),
            etcd_username: etcd.username.clone(),
        }
    }
}

impl StoreAddress {
    /// How to open the store, without the password, which is in no answer.
    ///
    /// # Errors
    /// A `registry` that this version does not know.
    pub fn options(&self) -> Result<StoreOptions, String> {
        let file = |path: &Option<String>| path.as_ref().map(PathBuf::from);
        let etcd = EtcdOptions {
            endpoints: self.etcd_endpoints.clone(),
            prefix: self.etcd_prefix.clone(),
            ca_file: file(&self.etcd_cafile),
            cert_file: file(&self.etcd_certfile),
            key_file: file(&self.etcd_keyfile),
            username: self.etcd_username.clone(),
            ..EtcdOptions::default()
        };
        Ok(StoreOptions { kind: self.registry.parse()?, etcd })
    }
}

/// The path for a process with another working directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
