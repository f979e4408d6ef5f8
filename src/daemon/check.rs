//! `--check`: what is wrong with the flags, the environment and the files that they name, without starting a daemon.
//!
//! It changes nothing and opens nothing that a running daemon has, so it works beside one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Options, choose_interface_of, interface_exit, overlap};
use crate::args::ListenPath;
use crate::exit::{Code, Exit};
use crate::observe::protocol::DEFAULT_SOCKET;
use crate::output_file;
use crate::runtime;
use crate::subnet::store::{StoreError, UnavailableKind};
use crate::subnet::{LeaseStore, NetworkConfig};

/// Prints everything that is wrong, in the order in which a starting daemon would meet it, and what could not be
/// checked. `problems` are those of the command line and the environment.
///
/// # Errors
/// The text to print: with [`Code::Ok`] if nothing is wrong, else with the code of the first error.
pub fn check(options: &Options, problems: Vec<String>) -> Result<(), Exit> {
    runtime::block_on(async {
        let mut report = Report::default();
        for problem in problems {
            report.error(Code::Usage, problem);
        }
        report.warnings.extend(options.warnings.iter().cloned());
        report.files(options);
        let store = report.lease_store(options);
        report.interface(options).await;
        match store {
            Some(store) => report.stored_config(&*store).await,
            None => {
                report.unchecked.push("the network config: the lease store cannot be used".into())
            }
        }
        Err(report.exit())
    })
}

/// What was found.
#[derive(Default)]
struct Report {
    errors: Vec<(Code, String)>,
    warnings: Vec<String>,
    unchecked: Vec<String>,
}

impl Report {
    fn error(&mut self, code: Code, text: String) {
        self.errors.push((code, text));
    }

    /// The files that the daemon writes.
    fn files(&mut self, options: &Options) {
        let files = [
            ("--subnet-file", Some(&*options.subnet_file.path)),
            ("--stats-json", options.stats_json.as_deref()),
        ];
        for (flag, path) in files {
            // The daemon runs without them, and tries again.
            if let Some(why) = path.and_then(output_file::unwritable) {
                self.warnings.push(format!("{flag}: {why}"));
            }
        }
        let socket =
            |path: &Path| output_file::unwritable(path).map(|why| format!("--socket: {why}"));
        match &options.socket {
            Some(ListenPath::Disabled) => {}
            Some(ListenPath::At(path)) => {
                if let Some(why) = socket(path) {
                    self.error(Code::Unavailable, why);
                }
            }
            None => self.warnings.extend(socket(DEFAULT_SOCKET.as_ref())),
        }
    }

    /// The lease store, if it can be used; connects to nothing.
    fn lease_store(&mut self, options: &Options) -> Option<Arc<dyn LeaseStore>> {
        let settings = options.store.options().settings();
        let mut problems = settings.problems();
        let mut store = None;
        if problems.is_empty() {
            match settings.reader() {
                Ok(opened) => store = Some(opened),
                Err(error) => problems.push(error.to_string()),
            }
        }
        for problem in problems {
            self.error(Code::Config, format!("cannot use the lease store: {problem}"));
        }
        store
    }

    async fn interface(&mut self, options: &Options) {
        if let Err(error) = choose_interface_of(options).await {
            let exit = interface_exit(error);
            self.error(exit.code, exit.message);
        }
    }

    async fn stored_config(&mut self, store: &dyn LeaseStore) {
        let name = store.describe();
        match timeout(ANSWER_TIMEOUT, store.config()).await {
            Ok(Ok(Some(text))) => self.network_config(&text),
            Ok(Ok(None)) => self.unchecked.push(format!(
                "the network config: there is none in {name}, at {}; the daemon waits for it. {}",
                store.describe_config(),
                store.config_hint()
            )),
            Ok(Err(error)) if is_wrong(&error) => {
                self.error(Code::Unavailable, format!("{name}: {error}; {}", error.remedy()));
            }
            Ok(Err(error)) => {
                self.unchecked
                    .push(format!("the network config: {name} cannot be reached: {error}"));
            }
            Err(_) => self.unchecked.push(format!(
                "the network config: {name} did not answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            )),
        }
    }

    fn network_config(&mut self, text: &[u8]) {
        match NetworkConfig::parse(text) {
            Ok(config) if config.not_carried.is_empty() => {}
            Ok(config) => self.warnings.push(format!(
                "the network config also enables IPv6 ({}), but the udp backend carries only IPv4",
                config.not_carried.join(", ")
            )),
            Err(error) => {
                let wait = if error.is_fatal() {
                    ""
                } else {
                    "; the daemon will wait until it is corrected"
                };
                let exit = overlap::config_exit(error);
                self.error(exit.code, exit.message + wait);
            }
        }
    }

    fn exit(self) -> Exit {
        let Self { errors, warnings, unchecked } = self;
        let mut lines: Vec<String> =
            errors.iter().map(|(_, text)| format!("error: {text}")).collect();
        lines.extend(warnings.iter().map(|text| format!("warning: {text}")));
        lines.extend(unchecked.iter().map(|text| format!("not checked: {text}")));
        let code = errors.first().map_or(Code::Ok, |(code, _)| *code);
        lines.push(match errors.len() {
            0 => "the configuration can be used".to_owned(),
            1 => format!("1 error; exit code {}: {}", code as u8, code.meaning()),
            more => {
                format!("{more} errors; the first has exit code {}: {}", code as u8, code.meaning())
            }
        });
        Exit::new(code, lines.join("\n"))
    }
}

/// Whether the store answered, and the settings for it are wrong.
fn is_wrong(error: &StoreError) -> bool {
    error.kind().is_some_and(|kind| kind == UnavailableKind::Tls || kind.is_refusal())
}

/// How long the lease store may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
