//! From the arguments and the environment of the process to an [`Invocation`].

mod environment;
mod problems;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser};

use self::environment::{Flags, add_environment};
use self::problems::{brief, without_wrong};
use super::Tool;
use super::examples::with_examples;
use crate::args::go_flags;
use crate::daemon::Options;
use crate::exit::{Code, Exit};

/// A parsed command line.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Run the daemon.
    Daemon(Box<Options>),
    /// Check what the daemon would run with; the texts are what is wrong with the flags and the environment.
    Check(Box<Options>, Vec<String>),
    /// Run one of the commands.
    Tool(Box<Tool>),
}

/// The description of the command line for clap.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "flannel-udp",
    version,
    about = "Overlay network for containers: IP over UDP in user space, compatible with flannel's udp backend",
    long_about = "Gives this host a subnet of an overlay network and carries IP packets between hosts \
inside UDP. Accepts flanneld's flags (also in Go's spelling: -iface=x, --ip-masq=false) and its FLANNELD_* \
environment variables, and uses its keys in etcd.\n\nWithout a command it runs the daemon.",
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    after_help = "`flannel-udp --help` lists all flags of the daemon, `flannel-udp status --help` those of a command.",
    after_long_help = "Each flag can also be set by an environment variable: FLANNELD_ and the name of the flag \
in capitals, with _ for -. A flag on the command line wins. An empty variable counts as not set, and an empty text \
flag as not given, except that --socket= disables the socket.\n\
Exit codes are listed in the manual page and in docs/compatibility.md."
)]
pub struct CommandLine {
    /// A command; without one the daemon runs.
    #[command(subcommand)]
    pub tool: Option<Tool>,
    /// The daemon's flags.
    #[command(flatten)]
    pub options: Options,
}

/// Parses a command line and the `FLANNELD_*` variables of this process.
///
/// # Errors
/// The message and exit code for a bad command line, and those of `--help` and `--version`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Exit> {
    parse_from(args, |name| std::env::var_os(name))
}

/// The description of the command line, as the parser, the manual pages and the completions use it.
pub fn clap_command() -> clap::Command {
    // Flags that the daemon shares with its commands: the daemon's own are not accepted behind a command, and
    // their variables are read by `add_environment`, not by clap.
    CommandLine::command().mut_args(|arg| arg.global(false).env(Resettable::Reset))
}

/// Leaves the flags out of `-h` that few hosts set. The manual page is made without this: it would omit their text.
fn summarized(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let in_summary = SUMMARY.contains(&arg.get_id().as_str());
        arg.hide_short_help(!in_summary)
    })
}

/// The flags of the daemon that `-h` lists, so that it fits on a page: what most hosts set.
const SUMMARY: [&str; 12] = [
    "etcd_endpoints",
    "etcd_prefix",
    "etcd_cafile",
    "registry",
    "iface",
    "public_ip",
    "subnet_file",
    "ip_masq",
    "healthz_port",
    "metrics_addr",
    "log_level",
    "check",
];

/// Removes variables that are set to nothing from the flags of all commands: empty counts as unset.
fn without_empty_variables(
    command: clap::Command,
    env: &impl Fn(&str) -> Option<OsString>,
) -> clap::Command {
    let is_empty = |name: &OsStr| name.to_str().and_then(env).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| {
            if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg }
        })
        .mut_subcommands(|tool| without_empty_variables(tool, env))
}

/// Reads a command line, program name first, with `env` as the environment.
pub fn parse_from(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Exit> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "flannel-udp".into());
    let mut args: Vec<OsString> = args.collect();
    // A link with the name of flannel's script behaves as that script.
    if Path::new(&program).file_name() == Some(OsStr::new("mk-docker-opts.sh")) {
        args.insert(0, "docker-opts".into());
    }
    let command = summarized(without_empty_variables(clap_command(), &env));
    let command = with_examples(command, "");
    // A word in first place is meant as a command: if it is none, clap suggests the nearest.
    let is_tool = args.first().is_some_and(|first| !first.as_encoded_bytes().starts_with(b"-"));
    let mut warnings = Vec::new();
    // What is wrong, if all of it is asked for and not only the first.
    let mut problems = None;
    let flags = Flags::of(&command);
    if is_tool {
        args = go_flags::without_empty(args, |name| name == "socket" || flags.takes_text(name));
    } else {
        args = go_flags::normalize(args, |name| flags.kind(name));
        let wants_text =
            args.iter().any(|arg| arg == "-h" || arg == "--help" || arg == "--version");
        if !wants_text && args.iter().any(|arg| arg == "--check=true") {
            problems = Some(Vec::new());
        }
        let stray = match &problems {
            // Behind an unknown flag too: all of them are reported.
            Some(_) => args.iter().find(|arg| !arg.as_encoded_bytes().starts_with(b"-")),
            None => None,
        };
        let stray = stray.map(|arg| arg.to_string_lossy().into_owned());
        if let Some(stray) = stray.or_else(|| flags.first_stray(&args)) {
            let advice = if command.find_subcommand(&stray).is_some() {
                "a command must come first, and takes only its own flags"
            } else {
                "write flags as --name=value, boolean flags as --name or --name=false"
            };
            let text = format!("error: unexpected argument '{stray}'; {advice}");
            let Some(problems) = &mut problems else {
                return Err(Exit::usage(format!("{text}\n\nFor more information, try '--help'.")));
            };
            problems.push(brief(&text));
            // Flags end here.
            args.truncate(args.iter().position(|arg| *arg == *stray).unwrap_or(args.len()));
        }
        args = go_flags::without_empty(args, |name| flags.takes_text(name));
        if let Some(problems) = &mut problems {
            args = without_wrong(args, problems);
        }
        if !wants_text {
            let wrong = add_environment(&mut args, &mut warnings, &flags, env);
            if let Some(problems) = &mut problems {
                problems.extend(wrong.iter().map(|exit| brief(&exit.message)));
            } else if let Some(first) = wrong.into_iter().next() {
                return Err(first);
            }
        }
    }
    let matches = command
        .try_get_matches_from(std::iter::once(OsString::from("flannel-udp")).chain(args))
        .map_err(exit_of)?;
    let cli = CommandLine::from_arg_matches(&matches).map_err(exit_of)?;
    if let Some(tool) = cli.tool {
        return Ok(Invocation::Tool(Box::new(tool)));
    }
    let mut options = cli.options;
    options.warnings = warnings;
    let unsupported = options.unsupported();
    match (problems, unsupported.first()) {
        (Some(mut problems), _) => {
            problems.extend(unsupported);
            Ok(Invocation::Check(Box::new(options), problems))
        }
        (None, Some(sentence)) => Err(Exit::usage(format!("error: {sentence}"))),
        (None, None) => Ok(Invocation::Daemon(Box::new(options))),
    }
}

fn exit_of(error: clap::Error) -> Exit {
    use clap::error::ErrorKind;
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp => Exit::new(Code::Ok, text.to_string()),
        // As flanneld prints its own: the version alone, as releases are tagged.
        ErrorKind::DisplayVersion => Exit::new(Code::Ok, concat!("v", env!("CARGO_PKG_VERSION"))),
        _ => Exit::usage(text.to_string()),
    }
}

#[cfg(test)]
mod tests;
