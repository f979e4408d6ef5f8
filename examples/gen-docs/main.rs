//! Writes the manual pages and shell completions into a directory.
//!
//! ```sh
//! cargo run --example gen-docs -- target/generated
//! ```

mod page;
mod tables;
mod tidy;

use std::io;
use std::path::PathBuf;

use clap_complete::Shell;
use flannel_udp::cli::clap_command;

use page::Page;

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or("target/generated".into()));
    std::fs::create_dir_all(&directory)?;
    for (name, text) in manual()? {
        std::fs::write(directory.join(name), text)?;
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut clap_command(), "flannel-udp", &directory)?;
    }
    Ok(())
}

/// The command line with what clap adds: full names, and the flags that subcommands share.
fn built() -> clap::Command {
    // `help` prints the pages, and has none.
    let mut command =
        clap_command().disable_help_subcommand(true).subcommand_help_heading("COMMANDS");
    command.build();
    command
}

/// The file names and texts of all pages: flannel-udp(8), and one for each command and each of its subcommands.
fn manual() -> io::Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    add(&built(), &[], &mut pages)?;
    Ok(pages)
}

/// Adds the page of `command`, whose chain of parents is `parents`, and those of its subcommands.
fn add(
    command: &clap::Command,
    parents: &[&clap::Command],
    pages: &mut Vec<(String, String)>,
) -> io::Result<()> {
    let page = Page { command, parents };
    pages.push((format!("{}.{}", page.name(), page::SECTION), page.render()?));
    let chain = [parents, &[command]].concat();
    for tool in command.get_subcommands().filter(|tool| !tool.is_hide_set()) {
        add(tool, &chain, pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
