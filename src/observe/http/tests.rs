//! Clients that are slow, many, or both.

use std::io::{Read, Write};
use std::net::TcpStream as Client;

use axum::routing::get;

use super::*;

/// Serves "well" with these limits while `work` runs.
fn served(clients: usize, limits: Limits, work: impl FnOnce(SocketAddr)) {
    let listener = listen("tests", "none", Ipv4Addr::LOCALHOST.into(), 0).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pages = Router::new().route("/", get(|| async { "well" }));
        runtime.block_on(async {
            tokio::select! {
                outcome = serve_limited(listener, pages, clients, limits) => panic!("{outcome:?}"),
                _ = stopped => {}
            }
        });
    });
    work(address);
    stop.send(()).unwrap();
    server.join().unwrap();
}

fn send_request(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    client
}

/// Whether an answer arrives within `limit`.
fn is_answered(client: &mut Client, limit: Duration) -> bool {
    client.set_read_timeout(Some(limit)).unwrap();
    let mut answer = [0; 512];
    let read = client.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).ends_with("well")
}

#[test]
fn one_client_too_many_takes_the_place_of_the_first() {
    served(MAX_CLIENTS, Limits::DEFAULT, |address| {
        let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| send_request(address)).collect();
        assert!(clients.iter_mut().all(|client| is_answered(client, LONG)));
        // HTTP/1.1 keeps the connections open.
        let mut next = send_request(address);
        assert!(is_answered(&mut next, LONG));
        assert_eq!(clients[0].read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
        clients[1].write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(is_answered(&mut clients[1], LONG), "the others are left alone");
    });
}

/// Connections drip all the time, each new one in the place of an older one.
#[test]
fn clients_that_never_finish_a_request_delay_no_other() {
    served(MAX_CLIENTS, Limits::DEFAULT, |address| {
        let drip = || {
            let mut client = Client::connect(address).unwrap();
            // The server may already have given its place to another.
            let _ = client.write_all(b"GET / HT");
            client
        };
        let mut known = send_request(address);
        assert!(is_answered(&mut known, LONG));
        let mut dripping: VecDeque<_> = (0..1_000).map(|_| drip()).collect();
        for _ in 0..20 {
            for _ in 0..10 {
                dripping.pop_front();
                dripping.push_back(drip());
            }
            assert!(is_answered(&mut send_request(address), Duration::from_secs(1)));
        }
        known.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(is_answered(&mut known, Duration::from_secs(1)), "a known client is kept");
    });
}

#[test]
fn a_place_is_taken_from_strangers_first() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (places, clients) = (VecDeque::new(), 4);
        let mut bounded = Bounded { listener, places, clients, limits: Limits::DEFAULT };
        let [local, known, stranger, other] =
            [true, false, false, false].map(|is_local| bounded.place(is_local));
        known.answered.store(true, Ordering::Relaxed);
        let is_taken = |place: &Arc<Place>| place.taken.load(Ordering::Relaxed);
        let mut kept = Vec::new();
        for (at, expected) in
            [[false, false, true, false], [false, false, true, true], [false, false, true, true]]
                .into_iter()
                .enumerate()
        {
            kept.push(bounded.place(false));
            let taken = [&local, &known, &stranger, &other].map(is_taken);
            assert_eq!(taken, expected, "after {at}");
        }
        kept.iter().for_each(|place| place.answered.store(true, Ordering::Relaxed));
        kept.push(bounded.place(true));
        assert!(is_taken(&known) && !is_taken(&local));
    });
}

#[test]
fn a_connection_that_takes_too_long_is_closed() {
    let limits = Limits { request: Duration::from_millis(300), idle: Duration::from_millis(900) };
    served(4, limits, |address| {
        let begun = std::time::Instant::now();
        let mut silent = Client::connect(address).unwrap();
        let mut idle = send_request(address);
        assert!(is_answered(&mut idle, LONG));
        let mut dripping = Client::connect(address).unwrap();
        let mut drips = 0;
        while dripping.write_all(b"G").is_ok() && drips < 100 {
            drips += 1;
            std::thread::sleep(limits.request / 10);
        }
        assert!(drips < 30, "bytes that drip do not prolong a request");
        for (client, least) in [(&mut silent, limits.request), (&mut idle, limits.idle)] {
            client.set_read_timeout(Some(LONG)).unwrap();
            assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
            assert!(begun.elapsed() >= least);
        }
    });
}

#[test]
fn an_active_client_stays_connected() {
    let limits = Limits { request: Duration::from_millis(400), idle: Duration::from_millis(400) };
    served(1, limits, |address| {
        let mut client = send_request(address);
        for _ in 0..6 {
            assert!(is_answered(&mut client, LONG));
            std::thread::sleep(limits.idle / 4);
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
    });
}

#[test]
fn the_error_of_a_port_in_use_names_the_flag() {
    let taken = listen("health checks", "--healthz-port", Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
    let port = taken.local_addr().unwrap().port();
    // Both families, if the kernel has both.
    assert!(Client::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    let error = listen("health checks", "--healthz-port", Ipv4Addr::UNSPECIFIED.into(), port)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--healthz-port") && error.contains("in use"), "{error}");
    assert!(error.ends_with(&format!("(pid {}) is using the port", std::process::id())), "{error}");
}

const LONG: Duration = Duration::from_secs(10);
