//! Findings of `doctor` about a real etcd: with TLS, with users and passwords, with data of etcd 2.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use etcd_client::PermissionType;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::secure::{full_server, may, root, tls_server, with_auth};
use crate::support::certificates::Authority;
use crate::support::{CONFIG, Etcd, PREFIX, until};

/// The findings of `doctor` about the lease store.
#[derive(Debug)]
struct Findings(Vec<Value>);

impl Findings {
    /// The findings of this level whose check begins with `check`.
    fn of<'a>(&'a self, level: &str, check: &str) -> Vec<&'a Value> {
        let is = |finding: &&Value| {
            finding["level"] == level
                && finding["check"].as_str().is_some_and(|name| name.starts_with(check))
        };
        self.0.iter().filter(is).collect()
    }

    /// Asserts that one of them has these words in its finding or its remedy.
    #[track_caller]
    fn has(&self, level: &str, check: &str, words: &str) {
        let has = |finding: &&Value| {
            ["finding", "remedy"].iter().any(|part| finding[part].to_string().contains(words))
        };
        assert!(self.of(level, check).iter().any(has), "{level} {check} {words}: {self:#?}");
    }

    #[track_caller]
    fn assert_healthy(&self) {
        let bad = |finding: &Value| finding["level"] == "fault" || finding["level"] == "warning";
        assert!(!self.0.iter().any(bad), "{self:#?}");
        self.has("ok", "endpoint", "answers in");
        self.has("ok", "network config", "10.0.0.0/16");
        self.has("ok", "leases", "subnets are free");
    }
}

/// Runs `doctor` with these flags, and with the password in its environment.
async fn examine(flags: &[OsString], password: Option<&str>) -> Findings {
    let dir = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command
        .args(["doctor", "--json", "--peers=no"])
        .arg(flag("--subnet-file", dir.path().join("subnet.env")))
        .arg(flag("--docker-env", dir.path().join("docker.env")))
        .arg(flag("--socket", dir.path().join("socket")))
        .args(flags);
    if let Some(password) = password {
        command.env("FLANNELD_ETCD_PASSWORD", password);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if let Some(password) = password {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains(password) && !errors.contains(password), "{text} {errors}");
    }
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let groups = report["groups"].as_array().unwrap();
    let store = groups.iter().find(|group| group["group"] == "Lease store").expect("the store");
    Findings(store["findings"].as_array().unwrap().clone())
}

fn flag(name: &str, value: impl AsRef<Path>) -> OsString {
    let mut flag = OsString::from(format!("{name}="));
    flag.push(value.as_ref());
    flag
}

fn at(url: &str) -> OsString {
    format!("--etcd-endpoints={url}").into()
}

#[tokio::test]
async fn certificates_that_are_right_missing_and_wrong() {
    let (dir, other_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (authority, unknown_authority) = (Authority::new("one"), Authority::new("unknown"));
    let (etcd, options) = tls_server(&dir, &authority, true).await;
    let (cert, key) = authority.sign(dir.path(), "client");
    let ca = flag("--etcd-cafile", options.ca_file.unwrap());
    let own = [flag("--etcd-certfile", &cert), flag("--etcd-keyfile", &key)];
    let with = |ca: &OsString, pair: &[OsString]| [&[at(&etcd.url()), ca.clone()], pair].concat();
    // The port is open before a leader is elected, and no config exists yet.
    until("an answer", async || {
        !examine(&with(&ca, &own), None).await.of("ok", "endpoint").is_empty()
    })
    .await;
    let empty = examine(&with(&ca, &own), None).await;
    empty.has("fault", "network config", r#"there is none at \"/coreos.com/network/config\""#);
    let mut put = Command::new("etcdctl");
    put.env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", etcd.url()))
        .arg(flag("--cacert", dir.path().join("ca.pem")))
        .args([flag("--cert", &cert), flag("--key", &key)])
        .args(["put", &format!("{PREFIX}/config"), CONFIG]);
    let put = tokio::task::spawn_blocking(move || put.output()).await.unwrap().unwrap();
    assert!(put.status.success(), "{put:?}");
    examine(&with(&ca, &own), None).await.assert_healthy();
    // No client certificate, one of an unknown authority, a server of an unknown authority.
    let (cert, key) = unknown_authority.sign(other_dir.path(), "client");
    let foreign = [flag("--etcd-certfile", cert), flag("--etcd-keyfile", key)];
    let unknown = flag("--etcd-cafile", unknown_authority.write(other_dir.path()));
    for flags in [with(&ca, &[]), with(&ca, &foreign), with(&unknown, &own)] {
        let found = examine(&flags, None).await;
        found.has("fault", "endpoint https://", "check --etcd-cafile, --etcd-certfile");
        assert!(found.of("ok", "endpoint").is_empty(), "{found:#?}");
    }
    // A missing file is named, and so is http to an https port.
    let missing = flag("--etcd-cafile", dir.path().join("no-such.pem"));
    examine(&with(&missing, &own), None).await.has("fault", "endpoint", "no-such.pem");
    let plain = examine(&[at(&etcd.url().replace("https", "http"))], None).await;
    plain.has("fault", "endpoint http://", "scheme (http or https)");
}

#[tokio::test]
async fn users_and_passwords() {
    let (etcd, options) = with_auth(&[]).await;
    root(&etcd).await.put(format!("{PREFIX}/config"), CONFIG, None).await.unwrap();
    let user = OsString::from(format!("--etcd-username={}", options.username.unwrap()));
    let flags = |more: &[&str]| {
        let mut flags = vec![at(&etcd.url())];
        flags.extend(more.iter().map(OsString::from));
        flags
    };
    let known = [flags(&[]), vec![user]].concat();
    examine(&known, Some("s3cret")).await.assert_healthy();
    const REMEDY: &str = "check FLANNELD_ETCD_USERNAME and FLANNELD_ETCD_PASSWORD";
    examine(&known, Some("hunter2")).await.has("fault", "endpoint", REMEDY);
    examine(&flags(&[]), None).await.has("fault", "endpoint", REMEDY);
    // A user without permission: the endpoint refuses.
    let elsewhere = [known.clone(), vec!["--etcd-prefix=/elsewhere".into()]].concat();
    let found = examine(&elsewhere, Some("s3cret")).await;
    found.has("fault", "endpoint", "permission denied");
    found.has("fault", "endpoint", "etcdctl role grant-permission");
    // A role that may only read.
    may(&etcd, PermissionType::Read).await;
    let found = examine(&known, Some("s3cret")).await;
    found.has("ok", "endpoint", "answers in");
    found.has("fault", "lease store", "this host cannot hold a lease: permission denied");
    // An unnecessary user name does no harm.
    let open = Etcd::start().await;
    open.put("config", CONFIG).await;
    examine(&[at(&open.url()), "--etcd-username=flannel".into()], Some("s3cret"))
        .await
        .assert_healthy();
}

#[tokio::test]
async fn a_config_in_the_data_of_etcd_2_and_under_another_prefix() {
    let etcd = Etcd::start_with(&["--enable-v2"]).await;
    for url in [etcd.url(), format!("{}/", etcd.url()), format!("127.0.0.1:{}", etcd.port)] {
        let found = examine(&[at(&url)], None).await;
        found.has("fault", "network config", "and no other key either: the store is empty");
    }
    put_v2(etcd.port, &format!("{PREFIX}/config"), CONFIG).await;
    for url in [etcd.url(), format!("{}/", etcd.url()), format!("127.0.0.1:{}", etcd.port)] {
        let found = examine(&[at(&url)], None).await;
        found.has("fault", "network config", "there is one in its v2 data");
        found.has("fault", "network config", " put /coreos.com/network/config");
    }
    let elsewhere = examine(&[at(&etcd.url()), "--etcd-prefix=/other".into()], None).await;
    elsewhere.has("fault", "network config", "the store is empty");
    etcd.client().await.put("/third/config", CONFIG, None).await.unwrap();
    let elsewhere = examine(&[at(&etcd.url()), "--etcd-prefix=/other".into()], None).await;
    elsewhere.has("fault", "network config", "but there is one at /third/config");
    elsewhere.has("fault", "network config", "--etcd-prefix=/third");
    etcd.put("config", CONFIG).await;
    examine(&[at(&etcd.url())], None).await.assert_healthy();
}

/// Writes a key through the API of etcd 2.
async fn put_v2(port: u16, key: &str, value: &str) {
    let body = format!("value={value}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "PUT /v2/keys{key} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 201"), "{answer}");
}

#[tokio::test]
async fn a_store_that_answers_and_cannot_be_used() {
    let etcd = full_server().await;
    let found = examine(&[at(&etcd.url())], None).await;
    found.has("ok", "endpoint", "answers in");
    found.has("fault", "lease store", "this host cannot hold a lease: no space left");
    found.has("fault", "lease store", "etcdctl alarm disarm");
    // A prefix that reads right and is another.
    for (prefix, words) in [
        ("coreos.com/network", "which has no leading slash"),
        ("/coreos.com/network\r", "an invisible character"),
    ] {
        let prefix = format!("--etcd-prefix={prefix}").into();
        let found = examine(&[at(&etcd.url()), prefix], None).await;
        found.has("fault", "network config", words);
    }
    let found = examine(&[at("http://no-such-host.invalid:2379")], None).await;
    found.has("fault", "endpoint", "name resolution failed");
    found.has("fault", "endpoint", "/etc/resolv.conf");
}
