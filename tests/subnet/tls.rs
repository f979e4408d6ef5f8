//! Certificates and keys of every kind that Go's `crypto/tls` takes, and files that cannot work.

use std::path::{Path, PathBuf};
use std::process::Command;

use flannel_udp::subnet::store::{EtcdStore, StoreError, UnavailableKind};
use flannel_udp::subnet::{EtcdOptions, LeaseStore};
use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::*;

/// Runs `openssl` in a directory.
fn openssl(dir: &TempDir, args: &str) {
    let output = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(dir.path())
        .output()
        .expect("these tests need openssl");
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate that signs itself, as `openssl req -x509` makes it: it says CA:TRUE.
fn self_signed(dir: &TempDir, name: &str, key: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey {key} -nodes -days 2 -subj /CN={name} -keyout {name}-key.pem \
             -out {name}.pem -addext subjectAltName=IP:127.0.0.1"
        ),
    );
}

/// A client's certificate that `ca` signs; without extensions, so of X.509 version 1.
fn client(dir: &TempDir, name: &str, key: &str) {
    openssl(
        dir,
        &format!(
            "req -new -newkey {key} -nodes -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"
        ),
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 \
             -out {name}.pem"
        ),
    );
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

fn pair(dir: &TempDir, name: &str) -> (Option<PathBuf>, Option<PathBuf>) {
    (Some(file(dir, &format!("{name}.pem"))), Some(file(dir, &format!("{name}-key.pem"))))
}

async fn answers(options: &EtcdOptions) {
    let store = EtcdStore::new(options.clone()).unwrap();
    // The port is open before a leader is elected.
    let mut last = None;
    for _ in 0..50 {
        match store.config().await {
            Ok(_) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{last:?} with {options:?}");
}

async fn refused(options: EtcdOptions) -> String {
    match EtcdStore::new(options).unwrap().config().await {
        Err(StoreError::Unavailable { kind: UnavailableKind::Tls, detail }) => detail,
        other => panic!("{other:?}"),
    }
}

const P521: &str = "ec -pkeyopt ec_paramgen_curve:P-521";
const P384: &str = "ec -pkeyopt ec_paramgen_curve:P-384";

/// `etcd --auto-tls`: a self-signed certificate with a key on P-521.
#[tokio::test]
async fn the_certificate_that_etcd_makes_for_itself_is_taken() {
    let etcd = Etcd::start_with(&["--auto-tls"]).await;
    let ca_file = Some(etcd.data().join("fixtures/client/cert.pem"));
    answers(&EtcdOptions { ca_file, ..etcd.options() }).await;
}

/// A server whose certificate is that of an authority and is trusted by itself, and clients with
/// certificates of X.509 version 1 and keys of every kind.
#[tokio::test]
async fn servers_and_clients_that_go_takes_are_taken() {
    let dir = TempDir::new().unwrap();
    self_signed(&dir, "server", P521);
    self_signed(&dir, "ca", P384);
    let flag = |flag: &str, name: &str| format!("--{flag}={}", file(&dir, name).display());
    let args = [
        flag("cert-file", "server.pem"),
        flag("key-file", "server-key.pem"),
        flag("trusted-ca-file", "ca.pem"),
        "--client-cert-auth".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let etcd = Etcd::start_with(&args).await;
    let mut options = EtcdOptions { ca_file: Some(file(&dir, "server.pem")), ..etcd.options() };
    for (name, key) in [("p521", P521), ("p384", P384), ("rsa", "rsa:2048"), ("ed", "ed25519")] {
        client(&dir, name, key);
        (options.cert_file, options.key_file) = pair(&dir, name);
        answers(&options).await;
    }
    // The same key in the form of SEC 1, behind its parameters, as `openssl ecparam -genkey` writes.
    openssl(&dir, "ecparam -name secp521r1 -out parameters.pem");
    openssl(&dir, "ec -in p521-key.pem -out sec1.pem");
    let both = ["parameters.pem", "sec1.pem"].map(|name| std::fs::read(file(&dir, name)).unwrap());
    std::fs::write(file(&dir, "p521-key.pem"), both.concat()).unwrap();
    (options.cert_file, options.key_file) = pair(&dir, "p521");
    answers(&options).await;
    // The name still counts, and so does the authority.
    let localhost = format!("https://localhost:{}", etcd.port);
    let detail = refused(EtcdOptions { endpoints: vec![localhost], ..options.clone() }).await;
    assert!(detail.contains("not valid for name"), "{detail}");
    options.ca_file = Some(file(&dir, "ca.pem"));
    let detail = refused(options).await;
    assert!(detail.contains("CA:TRUE") && detail.contains("ca.pem"), "{detail}");
}

/// The leaf itself as the authority: it names no other host, and vouches for no other certificate.
#[tokio::test]
async fn the_servers_own_leaf_is_enough() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let authority = Authority::new("one");
    let (etcd, mut options) = crate::secure::tls_server(&dir, &authority, false).await;
    options.ca_file = Some(file(&dir, "server.pem"));
    answers(&options).await;
    let (leaf, _) = authority.sign(other.path(), "another");
    options.ca_file = Some(leaf);
    let detail = refused(options).await;
    assert!(detail.contains("signed the server's certificate"), "{detail}");
    drop(etcd);
}

/// Files that can never work are named at the start, with what is wrong.
#[test]
fn files_that_cannot_work_are_refused_at_the_start() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new("one");
    let ca = authority.write(dir.path());
    let (cert, key) = authority.sign(dir.path(), "client");
    let (_, other_key) = authority.sign(dir.path(), "other");
    openssl(&dir, "genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:1024 -out short.pem");
    openssl(&dir, "pkey -in short.pem -aes128 -passout pass:x -out secret.pem");
    openssl(&dir, "rsa -in short.pem -aes128 -passout pass:x -traditional -out old-secret.pem");
    openssl(&dir, "ecparam -name secp224r1 -genkey -noout -out p224.pem");
    openssl(&dir, "x509 -in ca.pem -outform der -out ca.der");
    let written = |name: &str, text: &str| {
        std::fs::write(file(&dir, name), text).unwrap();
        file(&dir, name)
    };
    let empty = written("empty.pem", "\n");
    let text = written("text.pem", "no certificate\n");
    let broken =
        written("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n");
    let junk =
        written("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let start = |ca: &Path, pair: Option<(&Path, &Path)>| {
        let options = EtcdOptions {
            ca_file: Some(ca.to_owned()),
            cert_file: pair.map(|(cert, _)| cert.to_owned()),
            key_file: pair.map(|(_, key)| key.to_owned()),
            ..EtcdOptions::default()
        };
        EtcdStore::new(options).map(drop).map_err(|error| error.to_string())
    };
    start(&ca, Some((&cert, &key))).unwrap();
    let missing = file(&dir, "a\rb");
    let authorities: [(&Path, &str); 7] = [
        (&empty, "the file is empty"),
        (&text, "it contains no certificate"),
        (&key, "it contains a private key and no certificate"),
        (&file(&dir, "ca.der"), "openssl x509 -inform der -in"),
        (&broken, "the file is damaged"),
        (&junk, "it contains no usable certificate"),
        (&missing, "a\\rb"),
    ];
    for (ca, words) in authorities {
        let error = start(ca, None).unwrap_err();
        assert!(error.contains("--etcd-cafile") && error.contains(words), "{error}");
    }
    let keys: [(&Path, &str); 8] = [
        (&empty, "the file is empty"),
        (&text, "it contains no private key"),
        (&cert, "are --etcd-certfile and --etcd-keyfile swapped?"),
        (&other_key, "does not belong to the first certificate in --etcd-certfile"),
        (&file(&dir, "secret.pem"), "encrypted with a passphrase"),
        (&file(&dir, "old-secret.pem"), "openssl pkey -in"),
        (&file(&dir, "short.pem"), "use RSA with 2048 to 4096 bits"),
        (&file(&dir, "p224.pem"), "its key cannot be used"),
    ];
    for (key, words) in keys {
        let error = start(&ca, Some((&cert, key))).unwrap_err();
        assert!(error.contains("--etcd-keyfile") && error.contains(words), "{error}");
        let name = key.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name), "{error}");
    }
    let error = start(&ca, Some((&key, &cert))).unwrap_err();
    assert!(error.contains("--etcd-certfile") && error.contains("swapped?"), "{error}");
}

/// A file that is replaced while the daemon runs is no reason to end: the store is asked again.
#[tokio::test]
async fn a_file_that_is_damaged_later_is_a_failure_to_connect() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new("one");
    let ca = authority.write(dir.path());
    let endpoints = vec!["https://127.0.0.1:1".to_owned()];
    let options = EtcdOptions { ca_file: Some(ca.clone()), endpoints, ..EtcdOptions::default() };
    let store = EtcdStore::new(options).unwrap();
    std::fs::write(&ca, "").unwrap();
    match store.config().await {
        Err(StoreError::Unavailable { kind: UnavailableKind::Tls, detail }) => {
            assert!(detail.contains("the file is empty"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}
