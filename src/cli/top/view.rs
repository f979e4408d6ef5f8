//! Draws the state of `top`.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row as TableRow, Sparkline, Table, Widget};

use super::state::{DropRow, PeerRow, Sort, TopState};
use crate::dataplane::{Check, Mismatch};
use crate::humanize;
use crate::observe::protocol::snapshot::Snapshot;

/// The whole screen, as a widget.
pub(super) struct Screen<'a>(pub(super) &'a TopState);

impl Widget for Screen<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let state = self.0;
        // A small screen leaves out the rates and details first, the peers last.
        let [rates, details] = match area.height {
            ..10 => [0, 0],
            10..18 => [4, 0],
            18..30 => [4, 6],
            _ => [6, 8],
        };
        let mut heading = heading(state);
        heading.extend(forged(state).into_iter().take(match area.height {
            ..6 => 0,
            6..18 => 1,
            _ => 1 + MOST_NAMED,
        }));
        let [head, spark, middle, peers, help] = Layout::vertical([
            Constraint::Length(heading.len().max(3) as u16),
            Constraint::Length(rates),
            Constraint::Length(details),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(area);
        Paragraph::new(heading).render(head, buffer);
        self.rates(spark, buffer);
        self.details(middle, buffer);
        self.peers(peers, buffer);
        Line::from(HELP).style(Style::new().add_modifier(Modifier::REVERSED)).render(help, buffer);
    }
}

/// Identity, lease, lease store, and the most important problem.
fn heading(state: &TopState) -> Vec<Line<'static>> {
    let Some(now) = &state.now else { return vec!["waiting for the daemon".into()] };
    let first = format!(
        "flannel-udp {} on {}, pid {}, up {}",
        now.build.version,
        now.process.host,
        now.process.pid,
        humanize::seconds(now.process.uptime)
    );
    vec![Line::from(first).bold(), place(now).into(), trouble(state, now)]
}

fn place(now: &Snapshot) -> String {
    let lease = now.lease.as_ref().map_or("no lease yet".into(), |lease| {
        let term = match lease.expires {
            None => "reserved".to_owned(),
            Some(expires) => format!("expires in {}", humanize::seconds(expires - now.taken)),
        };
        format!("lease {} ({term})", lease.subnet)
    });
    let underlay = now
        .underlay
        .as_ref()
        .map_or(String::new(), |underlay| format!(", {} {}", underlay.interface, underlay.address));
    let store = now.registry.as_ref().map_or(String::new(), |registry| {
        let contact = match registry.last_contact_ago {
            Some(ago) => format!("answered {} ago", humanize::seconds(ago)),
            None => "never answered".into(),
        };
        format!(", store {contact}")
    });
    format!("{lease}{underlay}{store}, {}", humanize::counted(now.routes.count, "route"))
}

/// The most important problem, in one line.
fn trouble(state: &TopState, now: &Snapshot) -> Line<'static> {
    let alarm = |words: String| Line::from(words).style(Style::new().fg(Color::Red).bold());
    if let Some(error) = &state.error {
        let why = error.lines().next().unwrap_or_default();
        return alarm(format!("NO ANSWER from the daemon, last state below; retrying: {why}"));
    }
    if !now.health.ready {
        return alarm(format!("not ready: {}", now.health.missing.as_deref().unwrap_or("?")));
    }
    if !now.health.late.is_empty() {
        return alarm(format!("no heartbeat from {}", now.health.late.join(", ")));
    }
    if now.registry.as_ref().is_some_and(|registry| !registry.connected) {
        return alarm("the lease store cannot be read, routes stay unchanged".into());
    }
    let lost: Vec<_> = now.features.iter().filter(|feature| !feature.on).collect();
    if lost.is_empty() {
        return Line::from("ready, all kernel features in use").green();
    }
    let lost: Vec<_> = (lost.iter())
        .map(|feature| format!("{} ({})", feature.name, feature.why.as_deref().unwrap_or("?")))
        .collect();
    Line::from(format!("ready, without {}", lost.join(", "))).yellow()
}

/// Packets with sources that are not in the lease of their sender: rate, total and the latest senders.
fn forged(state: &TopState) -> Vec<Line<'static>> {
    let Some(now) = &state.now else { return vec![] };
    let senders: Vec<_> =
        now.recent_mismatches().filter(|mismatch| mismatch.latest.check == Check::Source).collect();
    let [last, ..] = senders[..] else { return vec![] };
    let count = |s: &Snapshot| s.stats.ingress.source_mismatches;
    let (rate, total) = (humanize::rate(state.rate(count)), humanize::count(count(now)));
    let first = format!(
        "FORGED SOURCES {rate}/s, {total} in total, the latest from {}",
        last.latest.sender.ip()
    );
    let alarm = Style::new().fg(Color::Red);
    let mut lines = vec![Line::from(first).style(alarm.bold())];
    lines.extend(senders.iter().take(MOST_NAMED).map(|mismatch| {
        let Mismatch { source, sender, holder, dropped, .. } = mismatch.latest;
        let holder = holder.map_or("no lease".to_owned(), |holder| holder.to_string());
        let done = if dropped { "dropped" } else { "carried" };
        let ago = humanize::seconds(mismatch.last_ago.floor());
        let line = format!("  {} as {source} of {holder}, {done}, {ago} ago", sender.ip());
        Line::from(line).style(alarm)
    }));
    lines
}

impl Screen<'_> {
    fn rates(&self, area: Rect, buffer: &mut Buffer) {
        let state = self.0;
        let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).split(area);
        let packets = [
            state.rate(|s| s.stats.egress.carried_packets),
            state.rate(|s| s.stats.ingress.carried_packets),
        ];
        let histories = [("out", &state.out, Color::Cyan), ("in", &state.into, Color::Magenta)];
        for (index, (name, history, color)) in histories.into_iter().enumerate() {
            let now = history.back().copied().unwrap_or_default() as f64 / 8.0;
            let title = format!(
                " {name}: {}, {} pkt/s ",
                humanize::bits(now),
                humanize::rate(packets[index])
            );
            let block = Block::new().borders(Borders::TOP).title(title);
            let width = usize::from(halves[index].width);
            let skip = history.len().saturating_sub(width);
            Sparkline::default()
                .block(block)
                .data(history.iter().skip(skip).copied().collect::<Vec<_>>())
                .style(Style::new().fg(color))
                .render(halves[index], buffer);
        }
    }

    fn details(&self, area: Rect, buffer: &mut Buffer) {
        let drops = self.0.drops();
        let texts = |text: fn(&DropRow) -> String| drops.iter().map(text).collect::<Vec<_>>();
        let columns = [
            texts(|drops| drops.reason.clone()),
            texts(|drops| format!("{}/s", humanize::rate(drops.rate))),
            texts(|drops| humanize::count(drops.total)),
        ];
        let [reasons, rates, totals] =
            columns.each_ref().map(|texts| texts.iter().map(String::len).max().unwrap_or_default());
        // A total that is cut off is another number, so the threads make room.
        let wanted = (4 + reasons + 1 + rates + 1 + totals + 1) as u16;
        let share = (area.width * 3 / 5).max(wanted).min(area.width.saturating_sub(LEAST_THREADS));
        let [left, right] =
            Layout::horizontal([Constraint::Length(share), Constraint::Fill(1)]).areas(area);
        let mut drops: Vec<Line<'_>> = (drops.iter().enumerate())
            .map(|(at, drops)| {
                let [reason, rate, total] = columns.each_ref().map(|texts| &texts[at]);
                let direction = drops.direction;
                let line =
                    format!("{direction:>3} {reason:<reasons$} {rate:>rates$} {total:>totals$}");
                let line = Line::from(line);
                if drops.rate > 0.0 { line.red() } else { line }
            })
            .collect();
        if drops.is_empty() {
            drops.push("nothing".into());
        }
        let block = |title: &'static str| Block::new().borders(Borders::TOP).title(title);
        Paragraph::new(drops).block(block(" drops ")).render(left, buffer);
        let width = usize::from(right.width).saturating_sub(17).clamp(4, 40);
        let threads: Vec<Line<'_>> = (self.0.threads().into_iter())
            .map(|(name, busy, polling)| {
                let cells = |share: f64| (share * width as f64).round() as usize;
                let full = cells(busy);
                let half = cells(polling).min(width - full);
                Line::from(vec![
                    Span::raw(format!("{name:<10} ")),
                    Span::styled("█".repeat(full), Style::new().fg(Color::Green)),
                    Span::styled("░".repeat(half), Style::new().fg(Color::Green)),
                    Span::raw("·".repeat(width - full - half)),
                    Span::raw(format!(" {:>3.0}%", busy * 100.0)),
                ])
            })
            .collect();
        Paragraph::new(threads).block(block(" threads, busy ")).render(right, buffer);
    }

    fn peers(&self, area: Rect, buffer: &mut Buffer) {
        let state = self.0;
        let rows = state.rows();
        let mark = |sort: Sort, name: &str| match state.sort == sort {
            true if state.reverse => format!("{name}▲"),
            true => format!("{name}▼"),
            false => name.to_owned(),
        };
        let text = |cells: fn(&PeerRow) -> usize, least: u16| {
            let widest = rows.iter().map(cells).max().unwrap_or_default() as u16;
            widest.max(least)
        };
        let widths = [
            text(|row| row.subnet.len(), 7),
            text(|row| row.host.to_string().len(), 5),
            BITS,
            PACKETS,
            BITS,
            PACKETS,
            HEARD,
        ];
        let fits = |columns: &[usize], spacing: u16| {
            let cells: u16 = columns.iter().map(|&at| widths[at]).sum();
            cells + spacing * (columns.len() as u16 - 1) <= area.width
        };
        let columns = COLUMNS.into_iter().find(|columns| fits(columns, 1)).unwrap_or(NARROWEST);
        let spacing = if fits(columns, 2) { 2 } else { 1 };
        let pick = |cells: [String; 7]| {
            TableRow::new(columns.iter().map(|&at| {
                let numbers = at > 1;
                let cell = Line::from(cells[at].clone());
                if numbers { cell.right_aligned() } else { cell }
            }))
        };
        let header = pick([
            mark(Sort::Subnet, "SUBNET"),
            mark(Sort::Host, "HOST"),
            mark(Sort::Out, "OUT"),
            "pkt/s".into(),
            mark(Sort::In, "IN"),
            "pkt/s".into(),
            mark(Sort::Seen, "HEARD"),
        ])
        .style(Style::new().add_modifier(Modifier::BOLD));
        let shown = rows.iter().skip(state.scroll.min(rows.len().saturating_sub(1))).map(|row| {
            pick([
                row.subnet.clone(),
                row.host.to_string(),
                humanize::bits(row.out.0),
                humanize::rate(row.out.1),
                humanize::bits(row.into.0),
                humanize::rate(row.into.1),
                row.seen.map_or("never".into(), humanize::age),
            ])
        });
        let widths = columns.iter().map(|&at| Constraint::Length(widths[at]));
        let by = if state.sort == Sort::Rate { ", by traffic" } else { "" };
        let title = format!(" {}{by} ", humanize::counted(rows.len() as u64, "peer"));
        Widget::render(
            Table::new(shown, widths)
                .header(header)
                .column_spacing(spacing)
                .block(Block::new().borders(Borders::TOP).title(title)),
            area,
            buffer,
        );
    }
}

/// Number of senders of forged packets that are named.
const MOST_NAMED: usize = 3;
/// Widths of the columns of numbers: `999.9 Mbit/s`, `9,999,999`, `59 min`. They are fixed, so that columns do not
/// move with the traffic.
const BITS: u16 = 12;
const PACKETS: u16 = 9;
const HEARD: u16 = 6;
/// The columns of the table of peers; the first set that fits the screen is shown.
const COLUMNS: [&[usize]; 4] = [&[0, 1, 2, 3, 4, 5, 6], &[0, 1, 2, 4, 6], &[0, 1, 2, 4], NARROWEST];
const NARROWEST: &[usize] = &[0, 2, 4];
/// Columns that the threads keep: name, a short bar, share.
const LEAST_THREADS: u16 = 22;
const HELP: &str =
    "q quit  sort: t traffic o out i in s subnet h host l heard  r reverse  ↑↓ scroll";
