//! `completions`: prints a completion script for a shell.

use std::io;

use clap::Args;

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Prints the script to standard output.
pub(super) fn run(args: &CompletionsArgs) {
    clap_complete::generate(
        args.shell,
        &mut super::clap_command(),
        "flannel-udp",
        &mut io::stdout(),
    );
}
