//! The daemon's environment: `FLANNELD_*` variables by the rules of Go's flag package.

use std::ffi::OsString;

use super::problems::refusal;
use crate::args::go_flags::FlagKind;
use crate::args::go_values::{go_bool, go_int};
use crate::exit::Exit;

/// Inserts the `FLANNELD_*` variables before the arguments, for flags that the command line does not have.
///
/// A value that Go's own flag type rejects (a boolean or a number) costs a warning and leaves the default in
/// force, as in flanneld. Every other bad value is as fatal as on the command line.
///
/// Values that clap rejects, or that are not UTF-8, are left out and returned as errors that name the variable.
pub(super) fn add_environment(
    args: &mut Vec<OsString>,
    warnings: &mut Vec<String>,
    flags: &Flags,
    env: impl Fn(&str) -> Option<OsString>,
) -> Vec<Exit> {
    let (mut from_env, mut wrong) = (Vec::new(), Vec::new());
    // A variable that turns the daemon into a check would be a trap.
    for (name, go_type) in flags.0.iter().filter(|(name, _)| name != "check") {
        let variable = format!("FLANNELD_{}", name.to_ascii_uppercase().replace('-', "_"));
        let prefix = format!("--{name}=");
        let on_command_line = args.iter().any(|arg| arg.to_string_lossy().starts_with(&prefix));
        let Some(value) = env(&variable).filter(|v| !v.is_empty() && !on_command_line) else {
            continue;
        };
        let Some(text) = value.to_str() else {
            wrong.push(Exit::usage(format!("error: the value of {variable} is not UTF-8")));
            continue;
        };
        let ignored = match go_type {
            GoType::Bool => go_bool(text).err(),
            GoType::Int => go_int(text).err(),
            GoType::Other => None,
        };
        match ignored {
            Some(why) => warnings.push(format!(
                "ignoring {variable}={text:?}: {why}; using the default of --{name}"
            )),
            None => {
                let arg = OsString::from(format!("{prefix}{text}"));
                // Each variable is parsed alone, so that the message for a bad value can name it.
                match refusal(&arg) {
                    Some(error) => wrong.push(Exit::usage(format!(
                        "{}\n(the value comes from the environment variable {variable})",
                        error.render().to_string().trim_end()
                    ))),
                    None => from_env.push(arg),
                }
            }
        }
    }
    from_env.append(args);
    *args = from_env;
    wrong
}

/// The type of a flag in Go's flag package, as far as its errors differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoType {
    Bool,
    Int,
    Other,
}

/// The daemon's flags: name and type.
pub(super) struct Flags(Vec<(String, GoType)>);

/// The flags of flanneld that take a number.
const INTEGERS: [&str; 4] = ["healthz-port", "iptables-resync", "subnet-lease-renew-margin", "v"];

impl Flags {
    pub(super) fn of(command: &clap::Command) -> Self {
        let flags = command.get_arguments().filter_map(|arg| {
            let name = arg.get_long()?.to_owned();
            let go_type = if arg.get_num_args().is_some_and(|n| n.min_values() == 0) {
                GoType::Bool
            } else if INTEGERS.contains(&name.as_str()) {
                GoType::Int
            } else {
                GoType::Other
            };
            Some((name, go_type))
        });
        Self(flags.filter(|(name, _)| name != "help" && name != "version").collect())
    }

    /// The first argument that is neither a flag nor the value of one. `None` if an unknown flag comes before:
    /// clap reports that one.
    pub(super) fn first_stray(&self, args: &[OsString]) -> Option<String> {
        for arg in args {
            let text = arg.to_string_lossy();
            if text == "-h" {
                return None;
            }
            match text.strip_prefix("--").filter(|rest| !rest.is_empty()) {
                None => return Some(text.into_owned()),
                Some(rest) => {
                    let name = rest.split('=').next().unwrap_or(rest);
                    self.kind(name)?;
                }
            }
        }
        None
    }

    /// Whether a flag takes text, of which none is as good as no flag: flanneld's own numbers and booleans do not,
    /// and an empty `--socket` disables the socket.
    pub(super) fn takes_text(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(known, go_type)| known == name && *go_type == GoType::Other && name != "socket")
    }

    pub(super) fn kind(&self, name: &str) -> Option<FlagKind> {
        let (_, go_type) = self.0.iter().find(|(known, _)| known == name)?;
        Some(if *go_type == GoType::Bool { FlagKind::Bool } else { FlagKind::Value })
    }
}
