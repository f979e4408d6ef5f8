//! The lease store of a command: by its flags and variables, else the store of the daemon on this host, else
//! that of the settings file of its unit.

use std::fmt;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{StoreArgs, unit_settings};
use crate::observe::protocol::snapshot::Snapshot;
use crate::subnet::{EtcdOptions, StoreKind, StoreOptions};

/// The flags for the lease store, of a command that asks the daemon on this host for those that are not given.
#[derive(Clone, Debug)]
pub struct LocalStoreArgs {
    flags: StoreArgs,
    /// Names of the flags that the command line or the environment gives.
    given: Vec<Flag>,
}

/// A lease store, and where its settings come from; `Display` says both.
#[derive(Clone, Debug)]
pub struct LocalStore {
    /// How to open it.
    pub options: StoreOptions,
    origin: StoreOrigin,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum StoreOrigin {
    /// From flags and variables, the rest from the defaults.
    Flags,
    /// From the daemon on this host with this process ID, except for the flags that are named.
    Daemon(u32, Vec<Flag>),
    /// From the settings of the systemd unit, whose daemon did not answer, except for the flags that are named.
    Unit(Vec<Flag>),
    /// From the defaults, because the daemon did not answer, for this reason.
    Defaults(String),
}

impl LocalStoreArgs {
    /// Whether a flag or variable says where the store is, so that the daemon need not be asked.
    pub fn is_located(&self) -> bool {
        self.is_given(ENDPOINTS) || self.is_given(REGISTRY)
    }

    fn is_given(&self, name: Flag) -> bool {
        self.given.contains(&name)
    }

    /// The lease store, given the daemon's answer to `status` or why there is none.
    ///
    /// Flags that say where the store is replace the settings of others altogether: the credentials for one
    /// store are not presented to another.
    pub fn choose(&self, daemon: Result<&Snapshot, &str>) -> LocalStore {
        let (options, origin) = self.merge(daemon, unit_settings::store);
        LocalStore { options, origin }
    }

    fn merge(
        &self,
        daemon: Result<&Snapshot, &str>,
        unit: impl FnOnce() -> Option<StoreOptions>,
    ) -> (StoreOptions, StoreOrigin) {
        let own = self.flags.options();
        if self.is_located() {
            return (own, StoreOrigin::Flags);
        }
        let answer = daemon.map_err(str::to_owned).and_then(|now| {
            let store =
                now.store.as_ref().ok_or("the running daemon does not name its lease store")?;
            Ok((now.process.pid, store.options()?))
        });
        let (theirs, origin) = match (answer, unit()) {
            (Ok((pid, theirs)), _) => (theirs, StoreOrigin::Daemon(pid, self.given.clone())),
            (Err(_), Some(theirs)) => (theirs, StoreOrigin::Unit(self.given.clone())),
            (Err(why), None) => return (own, StoreOrigin::Defaults(why)),
        };
        if theirs.kind != StoreKind::Etcd && !self.given.is_empty() {
            let why =
                "flags for etcd are given, but the daemon on this host uses a directory".into();
            return (own, StoreOrigin::Defaults(why));
        }
        let (etcd, theirs, kind) = (own.etcd, theirs.etcd, theirs.kind);
        let path = |flag, own, theirs| if self.is_given(flag) { own } else { theirs };
        let etcd = EtcdOptions {
            endpoints: theirs.endpoints,
            prefix: if self.is_given(PREFIX) { etcd.prefix } else { theirs.prefix },
            ca_file: path(CA_FILE, etcd.ca_file, theirs.ca_file),
            cert_file: path(CERT_FILE, etcd.cert_file, theirs.cert_file),
            key_file: path(KEY_FILE, etcd.key_file, theirs.key_file),
            username: etcd.username.or(theirs.username),
            password: etcd.password.or(theirs.password),
            ..etcd
        };
        (StoreOptions { kind, etcd }, origin)
    }
}

impl LocalStore {
    /// Whether these are only the defaults: nothing says where the store is.
    pub fn is_default(&self) -> bool {
        matches!(self.origin, StoreOrigin::Defaults(_))
    }

    /// Whether the daemon has a user name, whose password it gives to no command, and none is given here.
    pub fn lacks_password(&self) -> bool {
        let etcd = &self.options.etcd;
        let is_daemons = matches!(self.origin, StoreOrigin::Daemon(..));
        let is_etcd = self.options.kind == StoreKind::Etcd;
        is_daemons && is_etcd && etcd.username.is_some() && etcd.password.is_none()
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let etcd = &self.options.etcd;
        match &self.options.kind {
            StoreKind::Etcd => write!(f, "etcd at {}, {}", etcd.endpoints.join(", "), etcd.prefix)?,
            StoreKind::File(directory) => write!(f, "directory {}", directory.display())?,
        }
        match &self.origin {
            StoreOrigin::Flags => f.write_str(", as given"),
            StoreOrigin::Daemon(pid, given) => {
                write!(f, ", as the daemon on this host uses it (pid {pid})")?;
                except(f, given)?;
                if self.lacks_password() {
                    let user = etcd.username.as_deref().unwrap_or_default();
                    write!(
                        f,
                        "; without the password of user {user}, which the daemon does not disclose"
                    )?;
                }
                Ok(())
            }
            StoreOrigin::Unit(given) => {
                write!(f, ", as set for the daemon in {}", unit_settings::SETTINGS_FILE)?;
                except(f, given)?;
                f.write_str("; the daemon does not answer")
            }
            StoreOrigin::Defaults(why) => {
                write!(
                    f,
                    ", the default: neither --etcd-endpoints nor --registry is given, and {why}"
                )
            }
        }
    }
}

/// Appends the flags that override settings of the daemon or of its unit.
fn except(f: &mut fmt::Formatter<'_>, given: &[Flag]) -> fmt::Result {
    if given.is_empty() { Ok(()) } else { write!(f, " except for --{}", given.join(" and --")) }
}

impl FromArgMatches for LocalStoreArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self { flags: StoreArgs::from_arg_matches(matches)?, given: Vec::new() };
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.flags.update_from_arg_matches(matches)?;
        let is_given = |flag: &Flag| {
            let source = matches.value_source(&flag.replace('-', "_"));
            source.is_some_and(|source| source != ValueSource::DefaultValue)
        };
        self.given = FLAGS.into_iter().filter(is_given).collect();
        Ok(())
    }
}

impl Args for LocalStoreArgs {
    fn augment_args(command: Command) -> Command {
        StoreArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        StoreArgs::augment_args_for_update(command)
    }
}

type Flag = &'static str;
const ENDPOINTS: Flag = "etcd-endpoints";
const PREFIX: Flag = "etcd-prefix";
const KEY_FILE: Flag = "etcd-keyfile";
const CERT_FILE: Flag = "etcd-certfile";
const CA_FILE: Flag = "etcd-cafile";
const USERNAME: Flag = "etcd-username";
const PASSWORD: Flag = "etcd-password";
const REGISTRY: Flag = "registry";
const FLAGS: [Flag; 8] =
    [ENDPOINTS, PREFIX, KEY_FILE, CERT_FILE, CA_FILE, USERNAME, PASSWORD, REGISTRY];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::protocol::snapshot::StoreAddress;

    fn choose(flags: &[&str], daemon: &str) -> String {
        let command = LocalStoreArgs::augment_args(Command::new("x")).mut_args(|arg| arg.env(None));
        let matches = command.try_get_matches_from([&["x"], flags].concat()).unwrap();
        let args = LocalStoreArgs::from_arg_matches(&matches).unwrap();
        let settings = ["--etcd-prefix=/net", "--etcd-cafile=/ca", "--etcd-username=flannel"];
        let theirs = LocalStoreArgs::augment_args(Command::new("x"))
            .mut_args(|arg| arg.env(None))
            .try_get_matches_from(["x", daemon].iter().chain(&settings))
            .unwrap();
        let theirs = StoreArgs::from_arg_matches(&theirs).unwrap().options();
        let snapshot = Snapshot { store: Some(StoreAddress::from(&theirs)), ..Snapshot::default() };
        let chosen = args.choose(Ok(&snapshot));
        let lacks = if chosen.lacks_password() { " (password?)" } else { "" };
        chosen.options.command("x").replace("flannel-udp x ", "") + lacks
    }

    /// A setting that is not given here is the daemon's, unless another store is given.
    #[test]
    fn settings_that_are_not_given_are_the_daemons() {
        const ETCD: &str = "--etcd-endpoints=https://a:1,http://u:hunter2@b:2";
        let daemons =
            "--etcd-endpoints=https://a:1,http://b:2 --etcd-prefix=/net --etcd-cafile=/ca";
        let user = "--etcd-username=flannel";
        for (flags, chosen) in [
            (&[][..], format!("{daemons} {user} (password?)")),
            (&["--etcd-password=x"], format!("{daemons} {user}")),
            (
                &["--etcd-prefix=/coreos.com/network", "--etcd-username=me", "--etcd-password=x"],
                format!("{daemons} --etcd-username=me").replace("/net", "/coreos.com/network"),
            ),
            // Even if they are the defaults.
            (
                &["--etcd-endpoints=http://127.0.0.1:2379"],
                "--etcd-endpoints=http://127.0.0.1:2379 --etcd-prefix=/coreos.com/network".into(),
            ),
            (&["--registry=file:/d"], "--registry=file:/d".into()),
        ] {
            assert_eq!(choose(flags, ETCD), chosen, "{flags:?}");
        }
        assert_eq!(choose(&[], "--registry=file:/d"), "--registry=file:/d");
        assert!(choose(&["--etcd-prefix=/y"], "--registry=file:/d").contains("127.0.0.1:2379"));
    }

    #[test]
    fn the_daemons_answer_has_absolute_paths_and_no_password() {
        let mut options = StoreOptions::default();
        options.etcd.key_file = Some("key.pem".into());
        options.etcd.password = Some("hunter2".parse().unwrap());
        let text = serde_json::to_string(&StoreAddress::from(&options)).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let here = std::env::current_dir().unwrap().join("key.pem");
        assert!(text.contains(here.to_str().unwrap()), "{text}");
    }
}
