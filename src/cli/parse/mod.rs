//! From the process' arguments and environment to a [`Command`].

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::commands::{Cli, Command};
use super::{Code, Exit};
use crate::args::go_flags::{self, Kind};
use crate::args::go_values::{go_bool, go_int};

/// Reads the command line and the `FLANNELD_*` variables of this process.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    parse_from(args, |name| std::env::var_os(name))
}

/// The parser's description of the command line, for the manual page and completions.
pub fn clap_command() -> clap::Command {
    Cli::command()
}

/// Reads a command line, program name first, with `env` as the environment.
pub fn parse_from(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, Exit> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "flannel-udp".into());
    let mut args: Vec<OsString> = args.collect();
    // Linked under the name of flannel's script, the program is that script.
    if Path::new(&program).file_name() == Some(OsStr::new("mk-docker-opts.sh")) {
        args.insert(0, "docker-opts".into());
    }
    let command = clap_command();
    let is_tool = args.first().is_some_and(|first| {
        command.get_subcommands().any(|tool| OsStr::new(tool.get_name()) == first)
    });
    let mut warnings = Vec::new();
    if !is_tool {
        let flags = Flags::of(&command);
        args = go_flags::normalize(args, |name| flags.kind(name));
        if let Some(stray) = flags.first_stray(&args) {
            return Err(Exit::usage(format!(
                "error: unexpected argument '{stray}'; flags come as --name=value, a boolean one as \
                 --name or --name=false\n\nFor more information, try '--help'."
            )));
        }
        let wants_text = args.iter().any(|arg| arg == "--help" || arg == "--version");
        if !wants_text {
            add_environment(&mut args, &mut warnings, &flags, env)?;
        }
    }
    let matches = command
        .try_get_matches_from(std::iter::once(OsString::from("flannel-udp")).chain(args))
        .map_err(exit_of)?;
    let cli = Cli::from_arg_matches(&matches).map_err(exit_of)?;
    if let Some(tool) = cli.tool {
        return Ok(Command::Tool(Box::new(tool)));
    }
    let mut options = cli.options;
    if let Some(sentence) = options.refused() {
        return Err(Exit::usage(format!("error: {sentence}")));
    }
    options.warnings = warnings;
    Ok(Command::Daemon(Box::new(options)))
}

/// Puts variables before the arguments, for flags that the command line does not have.
///
/// Where Go's flag type itself refuses the text (a boolean or a number), flanneld warns and goes on
/// with the default, so we do. Everything else that is wrong with a value is as fatal as on the
/// command line.
fn add_environment(
    args: &mut Vec<OsString>,
    warnings: &mut Vec<String>,
    flags: &Flags,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Exit> {
    let mut from_env = Vec::new();
    for (name, go_type) in &flags.0 {
        let variable = format!("FLANNELD_{}", name.to_ascii_uppercase().replace('-', "_"));
        let prefix = format!("--{name}=");
        let on_command_line = args.iter().any(|arg| arg.to_string_lossy().starts_with(&prefix));
        let Some(value) = env(&variable).filter(|v| !v.is_empty() && !on_command_line) else {
            continue;
        };
        let Some(text) = value.to_str() else {
            return Err(Exit::usage(format!("error: the value of {variable} is not UTF-8")));
        };
        let refusal = match go_type {
            GoType::Bool => go_bool(text).err(),
            GoType::Int => go_int(text).err(),
            GoType::Other => None,
        };
        match refusal {
            Some(why) => warnings.push(format!(
                "ignoring {variable}={text:?}: {why}; going on with the default of --{name}"
            )),
            None => from_env.push(OsString::from(format!("{prefix}{text}"))),
        }
    }
    // One that clap refuses shall be named as the variable it came from.
    for arg in &from_env {
        let alone = [OsString::from("flannel-udp"), arg.clone()];
        if let Err(error) = clap_command().try_get_matches_from(alone) {
            let text = arg.to_string_lossy();
            let name = text.trim_start_matches('-').split('=').next().unwrap_or_default();
            let variable = name.to_ascii_uppercase().replace('-', "_");
            return Err(Exit::usage(format!(
                "{}\n(the value comes from the environment variable FLANNELD_{variable})",
                error.render().to_string().trim_end()
            )));
        }
    }
    from_env.append(args);
    *args = from_env;
    Ok(())
}

/// How Go's flag package types a flag, as far as its errors differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoType {
    Bool,
    Int,
    Other,
}

/// The daemon's flags by name.
struct Flags(Vec<(String, GoType)>);

/// Numbers among flanneld's flags.
const INTEGERS: [&str; 4] = ["healthz-port", "iptables-resync", "subnet-lease-renew-margin", "v"];

impl Flags {
    fn of(command: &clap::Command) -> Self {
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

    /// The first argument that is neither a flag nor its value, unless an unknown flag comes before.
    fn first_stray(&self, args: &[OsString]) -> Option<String> {
        for arg in args {
            let text = arg.to_string_lossy();
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

    fn kind(&self, name: &str) -> Option<Kind> {
        let (_, go_type) = self.0.iter().find(|(known, _)| known == name)?;
        Some(if *go_type == GoType::Bool { Kind::Bool } else { Kind::Value })
    }
}

fn exit_of(error: clap::Error) -> Exit {
    use clap::error::ErrorKind;
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::new(Code::Ok, text.to_string()),
        _ => Exit::usage(text.to_string()),
    }
}

#[cfg(test)]
mod tests;
