//! `bugreport`: what a developer needs to know about this host, in one archive and without secrets.
//!
//! Each part is collected by itself, all at the same time, with a limit of time and size. A part that fails is named
//! in the report and does not end it, so the command works on a host without a daemon, and as an ordinary user.

mod collect;
mod parts;
mod redact;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::future::join_all;

use crate::args::{SocketArgs, SubnetFileArgs};
use crate::exit::{Code, Exit};
use crate::humanize;
use crate::output_file;
use collect::{Collected, collect};
use redact::Redactor;

/// Arguments of `bugreport`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The archive contains the output of status, peers, routes, leases, doctor, iptables, nft, ip and \
similar commands, the unit's log, kernel settings, and the daemon's command line, FLANNELD_* variables and files. \
Passwords, tokens, private keys and the user part of URLs are left out; addresses and host names are not. Run it as \
root: other users cannot read most of it. The commands that it runs read the same FLANNELD_* variables as bugreport."
)]
pub struct BugreportArgs {
    /// Archive to write, such as report.tar.gz; only its owner may read it (mode 0600)
    pub file: PathBuf,
    /// The daemon to report on.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// The subnet file of that daemon.
    #[command(flatten)]
    pub subnet_file: SubnetFileArgs,
}

/// Collects everything and writes the archive.
///
/// # Errors
/// [`Code::CannotCreate`] if the archive cannot be written.
pub(super) async fn run(args: &BugreportArgs) -> Result<(), Exit> {
    let daemon = args.socket.client().status_soon().await;
    let pid = daemon.as_ref().ok().map(|now| now.process.pid);
    let redactor = Redactor::of_this_host(pid);
    let parts = parts::all(&args.socket.path, &args.subnet_file.path, pid);
    let collected = join_all(parts.into_iter().map(|part| collect(part, &redactor))).await;
    let name = format!("flannel-udp-{}", humantime::format_rfc3339_seconds(SystemTime::now()));
    let summary = summary(&collected, daemon.as_ref().err());
    let archive = archive(&name.replace(':', ""), &summary, &collected).map_err(|error| {
        Exit::new(Code::System, format!("error: cannot create the archive: {error}"))
    })?;
    output_file::write_private(&args.file, &archive).map_err(|error| {
        let file = args.file.display();
        Exit::new(Code::CannotCreate, format!("error: cannot write {file}: {error}"))
    })?;
    tell(&args.file, &collected, archive.len());
    Ok(())
}

/// Says on stderr what was written, because the archive itself may go to stdout.
fn tell(file: &Path, collected: &[Collected], bytes: usize) {
    let failed: Vec<_> = collected.iter().filter(|part| part.problem.is_some()).collect();
    for part in &failed {
        eprintln!("{}: {}", part.name, part.problem.as_deref().unwrap_or_default());
    }
    eprintln!(
        "wrote {}: {} complete, {} missing or incomplete; {}",
        file.display(),
        humanize::counted((collected.len() - failed.len()) as u64, "part"),
        failed.len(),
        humanize::bytes(bytes as u64)
    );
    eprintln!(
        "Secrets that were recognized are left out; addresses and host names are not. Review the archive before you \
         publish it."
    );
}

/// The first file of the archive: what each part is, and which ones are missing.
fn summary(collected: &[Collected], no_daemon: Option<&String>) -> String {
    let mut text = format!(
        "flannel-udp {} bug report, {}\n",
        env!("CARGO_PKG_VERSION"),
        humantime::format_rfc3339_seconds(SystemTime::now())
    );
    if let Some(why) = no_daemon {
        text += &format!("no running daemon: {why}\n");
    }
    for part in collected {
        let outcome = part.problem.as_deref().unwrap_or("complete");
        text += &format!("\n{}\n  {}\n  {outcome}\n", part.name, part.source);
    }
    text
}

/// A gzipped tar archive of the parts in one folder.
fn archive(folder: &str, summary: &str, collected: &[Collected]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let texts = collected.iter().map(|part| (part.name, &*part.text));
    for (name, text) in [("report.txt", summary)].into_iter().chain(texts) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()
}
