//! The lease store: every endpoint, the network config, and the keys under the prefix.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::finding::Finding;
use crate::args::LocalStore;
use crate::humanize;
use crate::observe::http_client as http;
use crate::subnet::admin::{self, Holding, LeaseRow};
use crate::subnet::store::{self, StoreError, StoreKind, UnavailableKind};
use crate::subnet::{LeaseStore, NetworkConfig, StoreOptions};

/// Content of the lease store and the findings about it.
#[derive(Default)]
pub(super) struct StoreFacts {
    pub(super) config: Option<NetworkConfig>,
    /// Everything under `subnets/`; `None` if it could not be read.
    pub(super) rows: Option<Vec<LeaseRow>>,
    /// Identifies the store's content, for etcd by the cluster's id.
    pub(super) identity: Option<String>,
    /// This host's clock minus etcd's, in seconds.
    pub(super) clock_offset: Option<i64>,
    pub(super) findings: Vec<Finding>,
}

impl StoreFacts {
    /// The valid leases.
    pub(super) fn leases(&self) -> impl Iterator<Item = &Holding> {
        self.rows.iter().flatten().filter_map(|row| row.lease.as_ref().ok())
    }
}

/// Reads the store and checks it, within `limit`.
pub(super) async fn gather(chosen: &LocalStore, limit: Duration) -> StoreFacts {
    let mut store = StoreFacts::default();
    store.findings.push(settings(chosen));
    let mut options = chosen.options.clone();
    // A connection gets a sixth of the time and a request a third, so that one slow answer leaves
    // time for the others.
    options.etcd.connect_timeout = (limit / 6).min(options.etcd.connect_timeout);
    options.etcd.request_timeout = (limit / 3).min(options.etcd.request_timeout);
    if let StoreKind::File(dir) = &options.kind
        && !dir.is_dir()
    {
        let text = format!("there is no directory {}", dir.display());
        let remedy = format!("mount it, or `mkdir -p {0}` and write {0}/config", dir.display());
        store.findings.push(Finding::fault("registry", text).remedy(remedy));
        return store;
    }
    let looked = tokio::time::timeout(limit, async {
        let findings = match options.kind {
            StoreKind::Etcd => reach(&mut options, limit / 2).await,
            StoreKind::File(_) => Ok(vec![]),
        };
        match findings {
            Ok(findings) => store.findings.extend(findings),
            Err(findings) => return store.findings.extend(findings),
        }
        match store::open(&options) {
            Ok(lease_store) => content(&*lease_store, &options, &mut store).await,
            Err(error) => store.findings.push(
                Finding::fault("registry", error.to_string()).remedy("correct the option it names"),
            ),
        }
        store.clock_offset = clock_offset(&options, limit / 3).await;
    });
    if looked.await.is_err() {
        let text = format!("it did not answer all requests within {} s", limit.as_secs());
        let remedy = "`flannel-udp doctor --timeout=60`; see etcd's own log for slow requests";
        store.findings.push(Finding::fault("registry", text).remedy(remedy));
    }
    store
}

/// Which store is read, and whose settings these are.
fn settings(chosen: &LocalStore) -> Finding {
    let text = chosen.to_string();
    match (chosen.is_default(), chosen.lacks_password()) {
        (_, true) => {
            let remedy = "set FLANNELD_ETCD_PASSWORD for this command, unless etcd needs none";
            Finding::warning("settings", text).remedy(remedy)
        }
        (true, _) => Finding::note("settings", text),
        (false, _) => Finding::ok("settings", text),
    }
}

/// Asks each endpoint by itself, all within `limit`, and leaves in `options` those that answer.
///
/// # Errors
/// The findings, if no endpoint answers.
async fn reach(options: &mut StoreOptions, limit: Duration) -> Result<Vec<Finding>, Vec<Finding>> {
    let template = &*options;
    let asked = template.etcd.endpoints.iter().map(|endpoint| async move {
        let mut alone = template.clone();
        alone.etcd.endpoints = vec![endpoint.clone()];
        let begun = Instant::now();
        let outcome = match store::open(&alone) {
            Ok(lease_store) => match tokio::time::timeout(limit, lease_store.identity()).await {
                Ok(outcome) => outcome.map_err(EndpointError::Store),
                Err(_) => Err(EndpointError::Store(StoreError::unavailable(
                    UnavailableKind::Timeout,
                    format!("no answer within {limit:?}"),
                ))),
            },
            Err(error) => Err(EndpointError::Open(error.to_string())),
        };
        (endpoint.clone(), outcome, begun.elapsed())
    });
    let answers = join_all(asked).await;
    let alive: Vec<_> = answers.iter().filter(|(_, outcome, _)| outcome.is_ok()).collect();
    let identities: BTreeMap<_, _> =
        alive.iter().filter_map(|(e, outcome, _)| Some((outcome.as_ref().ok()?, e))).collect();
    let mut findings: Vec<_> = answers
        .iter()
        .map(|(endpoint, outcome, took)| {
            let check = format!("endpoint {endpoint}");
            match outcome {
                Ok(_) => Finding::ok(check, format!("answers in {:.1} ms", ms(*took))),
                // Port 4001 is that of etcd 2; it is in the default list of endpoints, as in
                // flannel's.
                Err(_) if !alive.is_empty() && endpoint.ends_with(":4001") => {
                    Finding::note(check, "no answer; another endpoint answers")
                }
                Err(refusal) => {
                    let (text, remedy) = refusal.explain();
                    let finding = if alive.is_empty() {
                        Finding::fault(check, text)
                    } else {
                        Finding::warning(check, text)
                    };
                    finding.remedy(remedy)
                }
            }
        })
        .collect();
    if identities.len() > 1 {
        let text = format!("the endpoints belong to {} different clusters", identities.len());
        findings.push(Finding::fault("cluster", text).remedy(format!(
            "`{}`; list one cluster only",
            options.etcd.etcdctl("endpoint status -w table")
        )));
    }
    options.etcd.endpoints = alive.iter().map(|(endpoint, ..)| endpoint.clone()).collect();
    if alive.is_empty() { Err(findings) } else { Ok(findings) }
}

enum EndpointError {
    Open(String),
    Store(StoreError),
}

impl EndpointError {
    fn explain(&self) -> (String, String) {
        let error = match self {
            Self::Open(text) => return (text.clone(), "correct the option it names".into()),
            Self::Store(error) => error,
        };
        (error.to_string(), error.remedy().into())
    }
}

async fn content(lease_store: &dyn LeaseStore, options: &StoreOptions, store: &mut StoreFacts) {
    store.identity = lease_store.identity().await.ok();
    match lease_store.config().await {
        Err(error) => {
            let finding = Finding::fault("network config", error.to_string());
            store.findings.push(finding.remedy(error.remedy()));
        }
        Ok(None) => store.findings.push(missing(lease_store, options).await),
        Ok(Some(text)) => match NetworkConfig::parse(&text) {
            Ok(config) => {
                store.findings.push(Finding::ok(
                    "network config",
                    format!(
                        "{}, subnets /{} from {} to {}, UDP port {}",
                        config.network,
                        config.subnet_len,
                        config.subnet_min,
                        config.subnet_max,
                        config.port
                    ),
                ));
                store.config = Some(config);
            }
            Err(error) => store.findings.push(
                Finding::fault("network config", format!("it cannot be used: {error}"))
                    .remedy(put_config(options)),
            ),
        },
    }
    if let Err(error) = lease_store.check_write().await {
        let text = format!("this host cannot hold a lease: {error}");
        store.findings.push(Finding::fault("lease store", text).remedy(error.remedy()));
    }
    match admin::list(lease_store).await {
        Ok(rows) => {
            store.findings.extend(rows_findings(&rows, store.config.as_ref(), options));
            store.rows = Some(rows);
        }
        Err(error) => {
            store.findings.push(Finding::fault("leases", error.to_string()).remedy(error.remedy()));
        }
    }
}

/// The config is missing: looks for it in etcd's v2 data and under other prefixes.
async fn missing(lease_store: &dyn LeaseStore, options: &StoreOptions) -> Finding {
    let prefix = options.etcd.prefix.trim_end_matches('/');
    let location = lease_store.describe_config();
    let finding = |text: String| Finding::fault("network config", text);
    if options.kind == StoreKind::Etcd {
        for endpoint in &options.etcd.endpoints {
            if has_v2_config(endpoint, prefix).await {
                return finding(format!(
                    "there is none at {location} in etcd's v3 data, but there is one in its v2 \
                     data, which flannel stopped reading in v0.18"
                ))
                .remedy(put_config(options));
            }
        }
    }
    let keys = lease_store.other_keys().await.unwrap_or_default();
    let elsewhere = keys.iter().find_map(|key| key.strip_suffix("/config"));
    match (elsewhere, keys.is_empty()) {
        (Some(other), _) => {
            finding(format!("there is none at {location}, but there is one at {other}/config"))
                .remedy(format!("--etcd-prefix={other}"))
        }
        (None, true) => finding(format!(
            "there is none at {location}, and no other key either: the store is empty, or \
             this user is not allowed to read it"
        ))
        .remedy(put_config(options)),
        (None, false) => {
            let keys = keys.join(", ");
            finding(format!("there is none at {location}; these keys exist: {keys}"))
                .remedy(put_config(options))
        }
    }
}

fn put_config(options: &StoreOptions) -> String {
    format!("`{}`", options.settings().put_config_command(store::CONFIG_EXAMPLE))
}

/// Reports keys that are not valid leases, and leases that conflict.
fn rows_findings(
    rows: &[LeaseRow],
    config: Option<&NetworkConfig>,
    options: &StoreOptions,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let release = |subnet: &str| options.command(&format!("leases release {subnet}"));
    for row in rows {
        let Err(why) = &row.lease else { continue };
        let remedy = format!("`{}`", options.settings().remove_entry_command(&row.key));
        let text = format!(
            "subnets/{} is not a lease: {why}. flannel-udp skips it, but every stock flanneld drops all \
             its routes because of it",
            row.key
        );
        findings.push(Finding::warning("key", text).remedy(remedy));
    }
    let leases: Vec<&Holding> = rows.iter().filter_map(|row| row.lease.as_ref().ok()).collect();
    let mut holders: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
    for lease in &leases {
        holders.entry(lease.public_ip).or_default().push(lease.subnet.to_string());
    }
    for (address, subnets) in holders.iter().filter(|(_, subnets)| subnets.len() > 1) {
        let text = format!(
            "{address} holds {}: two hosts use one address, or a host has lost one of these leases",
            subnets.join(" and ")
        );
        let remedy = format!(
            "give each host its own address (--public-ip); release the stale one: `{}`",
            release(subnets[0].as_str())
        );
        findings.push(Finding::fault("duplicate PublicIP", text).remedy(remedy));
    }
    for pair in leases.windows(2) {
        // The rows are sorted by subnet, so overlapping ones are adjacent.
        if pair[0].subnet.overlaps(pair[1].subnet) {
            let text = format!("{} and {} overlap", pair[0].subnet, pair[1].subnet);
            let remedy = format!("`{}`", release(&pair[1].subnet.to_string()));
            findings.push(Finding::fault("overlapping leases", text).remedy(remedy));
        }
    }
    for lease in &leases {
        let (subnet, holder) = (lease.subnet, lease.public_ip);
        if let Some(kind) = lease.backend_type.as_deref().filter(|k| !k.eq_ignore_ascii_case("udp"))
        {
            let text =
                format!("{holder} holds {subnet} with backend {kind}: no packet reaches that host");
            let remedy = "use one backend for the whole network: Backend.Type in the config";
            findings.push(Finding::warning("backend", text).remedy(remedy));
        }
        if config.is_some_and(|config| !config.network.covers(subnet)) {
            let text = format!("{subnet} of {holder} is outside the network");
            let remedy =
                format!("`{}`, then restart that host's daemon", release(&subnet.to_string()));
            findings.push(Finding::warning("lease outside", text).remedy(remedy));
        }
    }
    findings.push(supply(&leases, config, options));
    findings
}

fn supply(leases: &[&Holding], config: Option<&NetworkConfig>, options: &StoreOptions) -> Finding {
    let held = leases.len();
    let Some(config) = config else { return Finding::ok("leases", format!("{held} held")) };
    let all = config.subnets().count();
    let free = all.saturating_sub(leases.iter().filter(|l| config.may_lease(l.subnet)).count());
    let are = humanize::agree(free as u64, "is", "are");
    let text = format!("{held} held, {free} of {all} subnets {are} free");
    match free {
        0 => {
            Finding::warning("leases", format!("{text}: no further host can join")).remedy(format!(
                "`{}`; release those of dead hosts, or widen SubnetMin and SubnetMax",
                options.command("leases list")
            ))
        }
        _ => Finding::ok("leases", text),
    }
}

/// Looks for the config in the v2 data, over the HTTP API of etcd 2 (`--enable-v2` in etcd 3).
async fn has_v2_config(endpoint: &str, prefix: &str) -> bool {
    let Some(authority) = plain(endpoint) else { return false };
    let path = format!("/v2/keys{prefix}/config");
    let answer = http::get(authority, &path, Duration::from_millis(500), MAX_RESPONSE).await;
    answer.is_ok_and(|answer| answer.status == 200 && answer.body.contains("\"node\""))
}

/// This host's clock minus that of the first endpoint, in seconds.
async fn clock_offset(options: &StoreOptions, limit: Duration) -> Option<i64> {
    if options.kind != StoreKind::Etcd {
        return None;
    }
    let authority = plain(options.etcd.endpoints.first()?)?;
    let theirs = http::get(authority, "/version", limit, MAX_RESPONSE).await.ok()?.date?;
    let ours = std::time::UNIX_EPOCH.elapsed().ok()?.as_secs();
    Some(i64::try_from(ours).ok()? - theirs)
}

/// Host and port of an endpoint without TLS; `None` for one with TLS.
fn plain(endpoint: &str) -> Option<&str> {
    let authority = match endpoint.split_once("://") {
        Some(("http", authority)) => authority,
        Some(_) => return None,
        None => endpoint,
    };
    Some(authority.trim_end_matches('/'))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Largest HTTP response of etcd that is read, in bytes.
const MAX_RESPONSE: u64 = 1 << 16;
