//! The one place that lists the stores: from options to a store, and to what depends on its kind.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::{EtcdOptions, FileOptions, LeaseStore, OpenError};

/// A kind of store and its address, as `--registry` gives them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StoreKind {
    /// An etcd cluster: `etcd`.
    #[default]
    Etcd,
    /// A directory: `file:DIR`.
    File(PathBuf),
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "etcd" => Ok(Self::Etcd),
            Some(("file", dir)) if !dir.is_empty() => Ok(Self::File(dir.into())),
            _ => Err(format!("not a lease store: \"{text}\"; use `etcd` or `file:DIR`")),
        }
    }
}

/// The options of all stores; [`kind`](Self::kind) says whose count.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The store in use.
    pub kind: StoreKind,
    /// How to reach etcd, for [`StoreKind::Etcd`].
    pub etcd: EtcdOptions,
}

impl StoreOptions {
    /// A command of this program on the same store, as a line for a shell. The password is left out: it belongs
    /// into the environment.
    pub fn command(&self, command: &str) -> String {
        let etcd = &self.etcd;
        let path = |file: &Option<PathBuf>| Some(file.as_ref()?.display().to_string());
        let flags = match &self.kind {
            StoreKind::File(directory) => {
                vec![("registry", Some(format!("file:{}", directory.display())))]
            }
            StoreKind::Etcd => vec![
                ("etcd-endpoints", Some(etcd.endpoints.join(","))),
                ("etcd-prefix", Some(etcd.prefix.clone())),
                ("etcd-cafile", path(&etcd.ca_file)),
                ("etcd-certfile", path(&etcd.cert_file)),
                ("etcd-keyfile", path(&etcd.key_file)),
                ("etcd-username", etcd.username.clone()),
            ],
        };
        let mut line = format!("flannel-udp {command}");
        for (flag, value) in flags {
            if let Some(value) = value {
                line += &format!(" --{flag}={}", shell_word(&value));
            }
        }
        line
    }

    /// The settings of the store in use.
    pub fn settings(&self) -> Box<dyn StoreSettings> {
        match &self.kind {
            StoreKind::Etcd => Box::new(self.etcd.clone()),
            StoreKind::File(dir) => Box::new(FileOptions::new(dir)),
        }
    }
}

/// A network config, for commands that show how to write one.
pub const CONFIG_EXAMPLE: &str = r#"{"Network": "10.0.0.0/16", "Backend": {"Type": "udp"}}"#;

/// What a store's options say before the store is opened.
pub trait StoreSettings {
    /// Opens the store; connects to nothing yet.
    ///
    /// # Errors
    /// Options that can never work: an unreadable certificate, no endpoint, a directory that
    /// cannot be created.
    fn open(&self) -> Result<Arc<dyn LeaseStore>, OpenError>;

    /// What is wrong with the options: everything that shows without a connection and without a change, in a
    /// sentence each.
    fn problems(&self) -> Vec<String>;

    /// Opens the store to read the network config alone; changes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn reader(&self) -> Result<Arc<dyn LeaseStore>, OpenError>;

    /// What the store has to reach while the daemon runs, for the daemon's sandbox.
    fn access(&self) -> StoreAccess;

    /// Where the network config is kept: a key or a path.
    fn config_location(&self) -> String;

    /// A shell command that writes `config`, a JSON document, as the network config.
    fn put_config_command(&self, config: &str) -> String;

    /// A shell command that removes the entry `name` under `subnets/`.
    fn remove_entry_command(&self, name: &str) -> String;
}

/// What a store has to reach outside of the process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreAccess {
    /// Files that are read, and may be replaced by others of the same name at any time.
    pub read_files: Vec<PathBuf>,
    /// Directories in which files are created and replaced.
    pub write_dirs: Vec<PathBuf>,
    /// Servers that are connected to: host name or IP address, and TCP port.
    pub servers: Vec<(String, u16)>,
}

/// Opens the store that the options describe; connects to nothing yet.
///
/// # Errors
/// As [`StoreSettings::open`].
pub fn open(options: &StoreOptions) -> Result<Arc<dyn LeaseStore>, OpenError> {
    options.settings().open()
}

/// `text` as one word of a shell command, in quotes if the shell needs them.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_store() {
        assert_eq!("etcd".parse(), Ok(StoreKind::Etcd));
        assert_eq!("file:/a:b".parse(), Ok(StoreKind::File("/a:b".into())));
        for bad in ["", "file:", "file", "etcd:x", "zk"] {
            assert!(bad.parse::<StoreKind>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_kind_has_its_own_commands() {
        let etcd = StoreOptions::default().settings();
        assert_eq!(etcd.config_location(), "/coreos.com/network/config");
        assert_eq!(
            etcd.put_config_command("{}"),
            "ETCDCTL_API=3 etcdctl --endpoints=http://127.0.0.1:4001,http://127.0.0.1:2379 put \
             /coreos.com/network/config '{}'"
        );
        let kind = StoreKind::File("/leases".into());
        let file = StoreOptions { kind, ..StoreOptions::default() }.settings();
        assert_eq!(file.config_location(), "/leases/config");
        assert_eq!(file.put_config_command("{}"), "echo '{}' > /leases/config");
        assert_eq!(file.remove_entry_command("10.0.7.0-24"), "rm /leases/subnets/10.0.7.0-24");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(shell_word("/a/10.0.7.0-24"), "/a/10.0.7.0-24");
        assert_eq!(shell_word("10.0.7.0-24&fc00::-64"), "'10.0.7.0-24&fc00::-64'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn access_follows_from_the_options() {
        let mut options = StoreOptions::default();
        options.etcd.endpoints = vec!["https://etcd.example:2379/".into(), "[::1]:4001".into()];
        options.etcd.ca_file = Some("/ca.pem".into());
        let access = options.settings().access();
        assert_eq!(access.servers, [("etcd.example".to_owned(), 2379), ("::1".to_owned(), 4001)]);
        assert_eq!(access.read_files, [PathBuf::from("/ca.pem")]);
        options.kind = StoreKind::File("/leases".into());
        let access = options.settings().access();
        assert_eq!(access.write_dirs, [PathBuf::from("/leases")]);
        assert!(access.servers.is_empty() && access.read_files.is_empty());
    }
}
