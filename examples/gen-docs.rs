//! Writes the manual pages and shell completions into a directory.
//!
//! ```sh
//! cargo run --example gen-docs -- target/generated
//! ```

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use flannel_udp::cli::{Code, clap_command};

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or("target/generated".into()));
    std::fs::create_dir_all(&directory)?;
    manual(&directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut clap_command(), "flannel-udp", &directory)?;
    }
    Ok(())
}

/// flannel-udp(1), and a page for each tool.
fn manual(directory: &Path) -> io::Result<()> {
    // `help` prints these pages, and has none.
    let mut command = clap_command().disable_help_subcommand(true);
    // Gives subcommands their full names.
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    page.extend_from_slice(sections().as_bytes());
    std::fs::write(directory.join("flannel-udp.1"), page)?;
    for tool in command.get_subcommands().filter(|tool| !tool.is_hide_set()) {
        let name = format!("flannel-udp-{}", tool.get_name());
        let mut page = Vec::new();
        clap_mangen::Man::new(tool.clone()).title(name.clone()).render(&mut page)?;
        std::fs::write(directory.join(format!("{name}.1")), page)?;
    }
    Ok(())
}

/// What clap knows nothing of.
fn sections() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for code in Code::ALL {
        let _ = writeln!(text, ".TP\n.B {}\n{}", code as u8, code.meaning());
    }
    text.push_str(
        ".SH SIGNALS\n\
         .TP\n.B SIGTERM, SIGINT, SIGHUP\nStop: flannel0 goes, the lease, the subnet file and the \
         firewall rules stay for the next start.\n\
         .TP\n.B SIGUSR1\nWrite the counters to the file of \\-\\-stats\\-json.\n\
         .SH FILES\n\
         .TP\n.I /run/flannel/subnet.env\nThe subnet of this host, for the container runtime.\n\
         .TP\n.I /run/docker_opts.env\nOptions for dockerd, written by \\fBflannel\\-udp docker\\-opts\\fR.\n\
         .TP\n.I /run/flannel/flannel\\-udp.sock\nStatus socket: answers root.\n\
         .TP\n.I /etc/default/flannel\\-udp\nEnvironment of the systemd unit.\n",
    );
    text
}
