use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::dataplane::{Check, FeatureState, Mismatch, PeerTraffic, RecentMismatch};
use crate::observe::protocol::snapshot;

/// A daemon that has run for `uptime` seconds, with traffic in proportion.
fn sample(uptime: f64) -> Sample {
    let mut snapshot = Snapshot { taken: 1e9, ..Snapshot::default() };
    snapshot.build.version = "1.2.3".into();
    snapshot.process.host = "ant".into();
    snapshot.process.pid = 42;
    snapshot.process.uptime = uptime;
    snapshot.health.ready = true;
    snapshot.lease = Some(snapshot::Lease {
        subnet: "10.0.7.0/24".parse().unwrap(),
        held: true,
        expires: Some(1e9 + 7200.0),
        renewals: 0,
    });
    snapshot.registry = Some(snapshot::StoreState {
        connected: true,
        last_contact_ago: Some(1.5),
        ..Default::default()
    });
    let times = |n: f64| (uptime * n) as u64;
    snapshot.stats.egress.carried_bytes = times(125_000.0);
    snapshot.stats.egress.carried_packets = times(100.0);
    snapshot.stats.egress.drops.insert("no-route".into(), times(3.0));
    snapshot.stats.ingress.drops.insert("too-short".into(), 7);
    snapshot.stats.ingress.drops.insert("not-ipv4".into(), 0);
    snapshot.threads = vec![snapshot::Thread {
        name: "egress-0".into(),
        busy: uptime / 2.0,
        spinning: uptime / 4.0,
        lifetime: uptime,
        ..Default::default()
    }];
    snapshot.features = vec![FeatureState {
        name: "uso".into(),
        on: false,
        why: Some("old kernel".into()),
        lost: None,
    }];
    for (n, rate) in [(1, 10.0), (2, 30.0), (3, 20.0)] {
        let address = [10, 211, 55, n].into();
        snapshot.peers.push(snapshot::Peer {
            subnet: format!("10.0.{n}.0/24").parse().unwrap(),
            public_ip: address,
            next_hop: None,
            key: String::new(),
            reservation: false,
        });
        snapshot.traffic.push(PeerTraffic {
            address,
            sent_packets: times(rate),
            sent_bytes: times(rate * 1e3),
            received_packets: times(100.0 / rate),
            received_bytes: times(1e5 / rate),
            unsent_packets: 0,
            fragments_of: None,
            last_sent: None,
            last_received: Some(Duration::from_secs(n.into())),
        });
    }
    Ok(Box::new(snapshot))
}

fn state() -> TopState {
    let mut state = TopState::new();
    state.add(sample(10.0));
    state.add(sample(12.0));
    state
}

fn screen(state: &TopState, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(Screen(state), frame.area())).unwrap();
    let text = text(state, Rect::new(0, 0, width, height));
    // What is printed is what is drawn.
    let drawn = terminal.backend().to_string();
    for (line, drawn) in text.lines().zip(drawn.lines()) {
        assert!(drawn.contains(line), "{drawn} {line}");
    }
    text
}

fn press(state: &mut TopState, key: char) -> bool {
    state.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))
}

fn hosts(state: &TopState) -> Vec<u8> {
    state.rows().iter().map(|row| row.host.octets()[3]).collect()
}

#[test]
fn everything_is_on_the_usual_screen() {
    let screen = screen(&state(), 80, 24);
    for expected in [
        "flannel-udp 1.2.3 on ant, pid 42, up 12 s",
        "lease 10.0.7.0/24 (expires in 2 h 00 min)",
        "answered 1.5 s ago",
        "without uso (old kernel)",
        "out: 1.0 Mbit/s, 100 pkt/s",
        "no-route  3.0/s 36",
        "too-short   0/s  7",
        "egress-0",
        "████░░░░·······  25%",
        "3 peers, by traffic",
        "10.0.2.0/24",
        "q quit",
    ] {
        assert!(screen.contains(expected), "{expected:?} is missing:\n{screen}");
    }
    assert!(!screen.contains("not-ipv4"), "{screen}");
}

/// The state after two samples of a daemon that has been sent forged packets by so many hosts.
fn forged_by(senders: u8) -> TopState {
    let sample = |uptime: f64| {
        let mut snapshot = sample(uptime).unwrap();
        snapshot.stats.ingress.source_mismatches = (uptime * 5.0) as u64;
        let mismatch = |n, check| RecentMismatch {
            latest: Mismatch {
                check,
                source: [10, 0, 1, 9].into(),
                destination: [10, 0, 7, 2].into(),
                sender: std::net::SocketAddrV4::new([10, 211, 55, 60 + n].into(), 8285),
                holder: (n == 0).then_some([10, 211, 55, 1].into()),
                dropped: n == 0,
                by: None,
            },
            reports: 1,
            last_ago: 3.5,
        };
        snapshot.mismatches = (0..senders).map(|n| mismatch(n, Check::Source)).collect();
        // These are not forgeries, or too long ago.
        snapshot.mismatches.push(mismatch(100, Check::Destination));
        snapshot
            .mismatches
            .push(RecentMismatch { last_ago: 601.0, ..mismatch(101, Check::Source) });
        Ok(snapshot)
    };
    let mut state = TopState::new();
    state.add(sample(10.0));
    state.add(sample(12.0));
    state
}

#[test]
fn forged_senders_are_shown_if_there_are_any() {
    assert!(!screen(&forged_by(0), 80, 24).contains("FORGED"));
    let some = screen(&forged_by(5), 80, 24);
    for expected in [
        "FORGED SOURCES 5.0/s, 60 in total, the latest from 10.211.55.60",
        "  10.211.55.60 as 10.0.1.9 of 10.211.55.1, dropped, 3.0 s ago",
        "  10.211.55.62 as 10.0.1.9 of no lease, carried, 3.0 s ago",
        "10.0.2.0/24",
    ] {
        assert!(some.contains(expected), "{expected:?} is missing:\n{some}");
    }
    for absent in ["55.63 as", "55.160", "55.161"] {
        assert!(!some.contains(absent), "{absent}:\n{some}");
    }
    let small = screen(&forged_by(5), 60, 9);
    assert!(small.contains("FORGED SOURCES") && !small.contains("of no lease"), "{small}");
}

#[test]
fn keys_sort_and_quit() {
    let mut state = state();
    for (key, order) in [
        ('t', [2, 3, 1]),
        ('o', [2, 3, 1]),
        ('i', [1, 3, 2]),
        ('s', [1, 2, 3]),
        ('h', [1, 2, 3]),
        ('l', [1, 2, 3]),
        ('r', [3, 2, 1]),
        ('r', [1, 2, 3]),
        ('x', [1, 2, 3]),
    ] {
        assert!(!press(&mut state, key));
        assert_eq!(hosts(&state), order, "{key}");
    }
    assert!(press(&mut state, 'q'));
    assert!(state.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(!press(&mut state, 'c'));
}

#[test]
fn scrolling_stays_within_the_peers() {
    let mut state = state();
    for (code, scroll) in [
        (KeyCode::Up, 0),
        (KeyCode::Down, 1),
        (KeyCode::PageDown, 2),
        (KeyCode::Down, 2),
        (KeyCode::Home, 0),
        (KeyCode::End, 2),
        (KeyCode::PageUp, 0),
    ] {
        state.press(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(state.scroll, scroll, "{code:?}");
    }
}

/// The last column of each cell that is aligned to the right, or that has a blank on its left only.
fn ends(line: &str) -> Vec<usize> {
    let mut line: Vec<char> = line.chars().collect();
    line.extend([' ', ' ']);
    // One blank separates a number from its unit, or two cells.
    (1..line.len() - 1).filter(|&at| line[at] == ' ' && line[at - 1] != ' ').collect()
}

#[test]
fn columns_are_apart_and_numbers_are_aligned() {
    let wide = |uptime: f64| {
        let mut snapshot = sample(uptime).unwrap();
        let times = |n: f64| (uptime * n) as u64;
        let (peer, traffic) = (&mut snapshot.peers[1], &mut snapshot.traffic[1]);
        peer.subnet = "100.100.200.192/27".parse().unwrap();
        peer.public_ip = [192, 168, 100, 200].into();
        traffic.address = peer.public_ip;
        (traffic.sent_packets, traffic.received_packets) = (times(9_999_999.0), times(1_234_567.0));
        (traffic.sent_bytes, traffic.received_bytes) = (times(124_987_500.0), times(1.2e10));
        traffic.last_received = Some(Duration::from_secs(3599));
        snapshot.stats.egress.drops.insert("no-route".into(), times(999_999.0));
        snapshot.tun_queue_drops = times(1_234_567.0);
        Ok(snapshot)
    };
    let mut state = TopState::new();
    state.add(wide(10.0));
    state.add(wide(12.0));
    let all = [
        "100.100.200.192/27",
        "192.168.100.200",
        "999.9 Mbit/s",
        "9,999,999",
        "96.0 Gbit/s",
        "1,234,567",
        "59 min",
    ];
    for (width, shown) in [
        (140, &[0, 1, 2, 3, 4, 5, 6][..]),
        (100, &[0, 1, 2, 3, 4, 5, 6]),
        (80, &[0, 1, 2, 4, 6]),
        (60, &[0, 1, 2, 4]),
        (45, &[0, 2, 4]),
    ] {
        let screen = screen(&state, width, 40);
        let row = screen.lines().find(|line| line.starts_with(all[0])).expect("its row");
        let mut rest = row;
        for &at in shown {
            let after = rest.trim_start().strip_prefix(all[at]);
            rest = after.unwrap_or_else(|| panic!("{width}: no {} in {row}", all[at]));
            assert!(rest.is_empty() || rest.starts_with(' '), "{width}: {row}");
        }
        assert_eq!(rest, "", "{width}: {row}");
        // Every row ends, and has its rates, in the same places.
        let header = screen.lines().find(|line| line.starts_with("SUBNET")).expect("the titles");
        let other = screen.lines().find(|line| line.starts_with("10.0.3.0/24")).expect("a row");
        for end in ends(header).into_iter().skip(if shown.contains(&1) { 2 } else { 1 }) {
            assert!(ends(row).contains(&end) && ends(other).contains(&end), "{width}:\n{screen}");
        }
        if width >= 80 {
            let drops =
                |name: &str| screen.lines().find(|line| line.contains(name)).expect("a line");
            assert!(drops("no-route").contains(" 999,999/s 11,999,988"), "{width}:\n{screen}");
            assert!(drops("TUN queue").contains(" 1,234,567/s 14,814,804"), "{width}:\n{screen}");
        }
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_reported_until_it_answers() {
    let mut state = state();
    state.add(Err("no daemon answers at /run/x".into()));
    let gone = screen(&state, 80, 24);
    assert!(gone.contains("NO ANSWER") && gone.contains("10.0.2.0/24"), "{gone}");
    // The next daemon has smaller counters, which must not give negative rates.
    state.add(sample(1.0));
    let back = screen(&state, 80, 24);
    assert!(!back.contains("NO ANSWER"), "{back}");
    assert!(state.rows().iter().all(|row| row.out.0 == 0.0));
    state.add(sample(2.0));
    assert!(state.rows().iter().all(|row| row.out.0 > 0.0));
}

#[test]
fn every_size_can_be_drawn() {
    let (full, empty) = (state(), TopState::new());
    for width in [1, 2, 10, 40, 80, 200] {
        for height in [1, 2, 5, 9, 10, 17, 18, 24, 30, 60] {
            screen(&full, width, height);
            screen(&empty, width, height);
        }
    }
    let small = screen(&full, 40, 9);
    assert!(small.contains("10.0.2.0/24") && small.contains("q quit"), "{small}");
}

#[test]
fn before_the_first_answer_top_says_that_it_waits() {
    assert!(screen(&TopState::new(), 80, 24).contains("waiting for the daemon"));
}
