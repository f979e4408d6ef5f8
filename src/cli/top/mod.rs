//! `top`: a live view of the daemon in a terminal.

mod state;
mod view;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::SocketArgs;
use crate::args::go_values::go_int_in;
use crate::exit::{Code, Exit};
use crate::observe::client::Client;
use crate::observe::protocol::snapshot::Snapshot;
use crate::runtime::block_on;
use state::TopState;
use view::Screen;

/// Arguments of `top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Which daemon is queried.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Milliseconds between two updates
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = go_int_in::<100, 3_600_000>)]
    pub interval: i64,
    /// Print one screen as text and exit
    #[arg(long)]
    pub once: bool,
}

/// The state of the daemon at one moment, or why the daemon did not answer.
type Sample = Result<Box<Snapshot>, String>;

/// Runs `top`.
pub(super) fn run(args: &TopArgs) -> Result<(), Exit> {
    let client = args.socket.client();
    let interval = Duration::from_millis(args.interval.unsigned_abs());
    if args.once {
        return once(&client, interval);
    }
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(Exit::usage(
            "error: top needs a terminal; use --once to print one screen as text, or \
             flannel-udp status --json in a program",
        ));
    }
    // The first request precedes the switch to the full screen: if it fails, its error is printed as text.
    let first = client.status()?;
    let samples = poll_status(client, interval);
    let mut state = TopState::new();
    state.add(Ok(Box::new(first)));
    let system = |error: io::Error| Exit::new(Code::System, format!("error: {error}"));
    // `try_init` also restores the terminal after a panic.
    let mut terminal = ratatui::try_init().map_err(system)?;
    let outcome = block_on(async {
        let mut signals = Vec::new();
        for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
            signals.push(signal(kind).map_err(system)?);
        }
        let [terminate, interrupt, hangup] = signals.as_mut_slice() else {
            unreachable!("three signals")
        };
        loop {
            samples.try_iter().for_each(|sample| state.add(sample));
            terminal
                .draw(|frame| frame.render_widget(Screen(&state), frame.area()))
                .map_err(system)?;
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = tokio::time::sleep(KEY_INTERVAL) => {}
            }
            while event::poll(Duration::ZERO).map_err(system)? {
                if let Event::Key(key) = event::read().map_err(system)?
                    && key.kind != KeyEventKind::Release
                    && state.press(key)
                {
                    return Ok(());
                }
            }
        }
    });
    let restored = ratatui::try_restore().map_err(system);
    outcome.and(restored)
}

/// Queries the daemon in a thread of its own, so that a daemon that does not answer delays no key.
fn poll_status(client: Client, interval: Duration) -> Receiver<Sample> {
    let (sender, samples) = mpsc::channel();
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            let sample = client.status().map(Box::new).map_err(|error| error.to_string());
            if sender.send(sample).is_err() {
                return;
            }
        }
    });
    samples
}

/// Prints one screen, with the rates of one interval.
fn once(client: &Client, interval: Duration) -> Result<(), Exit> {
    let mut state = TopState::new();
    state.add(Ok(Box::new(client.status()?)));
    thread::sleep(interval);
    state.add(Ok(Box::new(client.status()?)));
    let size = if io::stdout().is_terminal() { terminal::size().ok() } else { None };
    let (width, height) = size.unwrap_or(DEFAULT_SIZE);
    // High enough for all peers.
    let peers = u16::try_from(state.rows().len()).unwrap_or(u16::MAX);
    let area = Rect::new(0, 0, width, height.max(peers.saturating_add(AROUND_PEERS).min(1_000)));
    print!("{}", text(&state, area));
    Ok(())
}

/// The screen as lines.
fn text(state: &TopState, area: Rect) -> String {
    let mut buffer = Buffer::empty(area);
    Screen(state).render(area, &mut buffer);
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(area.width.max(1))) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Time between two checks of the keyboard.
const KEY_INTERVAL: Duration = Duration::from_millis(50);
/// Columns and rows of the output if there is no terminal.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Rows of the screen that do not show peers.
const AROUND_PEERS: u16 = 22;

#[cfg(test)]
mod tests;
