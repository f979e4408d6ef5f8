//! An etcd that is known by name and asks for TLS: names are looked up by the C library, which differs between
//! the dynamically and the statically linked program.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use flannel_udp::lab::{Lab, LabProcess};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, program, wait_for};

const NAME: &str = "etcd.example";

#[test]
fn an_etcd_with_a_name_and_a_certificate_is_reached_by_a_confined_daemon() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = TestLab::build(Lab::builder());
    let host = lab.host(0);
    let directory = host.directory();
    let server = host.netns().enter(|| UdpSocket::bind("127.0.0.1:53")).unwrap().expect("port 53");
    std::thread::spawn(move || answer(&server));
    fs::write(directory.join("resolv.conf"), "nameserver 127.0.0.1\n").expect("a file");
    write_certificates(directory);

    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(directory.join("etcd"));
    etcd.args(["--listen-client-urls", "https://0.0.0.0:2379"]);
    etcd.args(["--advertise-client-urls", &format!("https://{NAME}:2379")]);
    etcd.arg("--cert-file").arg(directory.join("server.pem"));
    etcd.arg("--key-file").arg(directory.join("server-key.pem"));
    let log = directory.join("etcd.log");
    let _etcd = LabProcess::start(host.netns(), etcd, "etcd with TLS", log).expect("etcd");

    let script = format!(
        "mount --bind {0}/resolv.conf /etc/resolv.conf && exec {1} --iface={2} \
         --etcd-endpoints=https://{NAME}:2379 --etcd-cafile={0}/ca.pem \
         --subnet-file={0}/subnet.env --socket={0}/daemon.sock",
        directory.display(),
        program().display(),
        host.address()
    );
    let mut daemon = Command::new("unshare");
    daemon.args(["--mount", "sh", "-c", &script]);
    let log = directory.join("daemon.log");
    let mut daemon =
        LabProcess::start(host.netns(), daemon, "the daemon", log.clone()).expect("the daemon");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    // Only etcd itself can say that.
    wait_for("an answer of etcd", Duration::from_secs(20), || {
        assert!(daemon.ended().is_none(), "{}", said());
        said().contains("flannel config not found")
    });
    assert!(said().contains("confined: "), "{}", said());
    assert!(daemon.stop(Duration::from_secs(5)).expect("its end").success(), "{}", said());
}

/// A name server (RFC 1035) that knows every name, as one of this host.
fn answer(server: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((len, from)) = server.recv_from(&mut buffer) {
        let mut reply = buffer[..len].to_vec();
        let Some(name_len) = reply.get(12..).and_then(|name| name.iter().position(|b| *b == 0))
        else {
            continue;
        };
        // The question is the name, its type and its class; what follows are options of the client.
        let type_at = 12 + name_len + 1;
        reply.truncate(type_at + 4);
        let has_address = reply[type_at..] == [0, 1, 0, 1];
        reply[2..4].copy_from_slice(&[0x81, 0x80]);
        reply[6..12].copy_from_slice(&[0, u8::from(has_address), 0, 0, 0, 0]);
        if has_address {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            reply.extend(Ipv4Addr::LOCALHOST.octets());
        }
        let _ = server.send_to(&reply, from);
    }
}

/// An authority's certificate, and one that it signed, with its key.
fn write_certificates(directory: &std::path::Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(directory.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new([NAME.to_owned()]).unwrap().signed_by(&key, &issuer);
    fs::write(directory.join("server.pem"), server.unwrap().pem()).unwrap();
    fs::write(directory.join("server-key.pem"), key.serialize_pem()).unwrap();
}
