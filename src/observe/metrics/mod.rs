//! Metrics for Prometheus, in the OpenMetrics text format: each scrape encodes a snapshot of the daemon.
//! The daemon counts nothing for the metrics alone.

pub mod families;

use std::fmt;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::mpsc;

use self::families::{Family, Kind, Value, families};
use super::http::{self, ListenError};
use super::protocol::snapshot::Snapshot;
use super::protocol::{Answer, Command, Request};
use super::server::ask;

/// The body of the answer to one scrape.
pub fn encode(snapshot: Snapshot) -> Bytes {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut text = BytesMut::new();
    text::encode(&mut text, &registry).expect("a buffer takes any text");
    text.freeze()
}

/// The values of one snapshot.
#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        families().try_for_each(|family| encode_family(family, &self.0, &mut encoder))
    }
}

fn encode_family(
    family: &Family,
    snapshot: &Snapshot,
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    let samples = family.samples(snapshot);
    if samples.is_empty() {
        return Ok(());
    }
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
    let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    for sample in samples {
        let labels: Vec<(&str, &str)> =
            family.labels.iter().copied().zip(sample.labels.iter().map(AsRef::as_ref)).collect();
        match (family.kind, sample.value) {
            (Kind::Info, _) => metric.encode_info(&labels)?,
            (kind, value) if labels.is_empty() => encode_value(&mut metric, kind, value)?,
            (kind, value) => encode_value(&mut metric.encode_family(&labels)?, kind, value)?,
        }
    }
    Ok(())
}

fn encode_value(
    metric: &mut prometheus_client::encoding::MetricEncoder,
    kind: Kind,
    value: Value,
) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => metric.encode_counter::<NoLabelSet, _, u64>(&n, None),
        (Kind::Counter, Value::Real(n)) => metric.encode_counter::<NoLabelSet, _, u64>(&n, None),
        (_, Value::Whole(n)) => metric.encode_gauge(&n),
        (_, Value::Real(n)) => metric.encode_gauge(&n),
        (_, Value::Histogram(histogram)) => {
            let last = histogram.buckets.len() - 1;
            let buckets: Vec<(f64, u64)> = histogram
                .buckets
                .iter()
                .enumerate()
                .map(|(i, &count)| match i {
                    _ if i == last => (f64::INFINITY, count),
                    _ => (f64::from(1u32 << i), count),
                })
                .collect();
            let count = histogram.buckets.iter().sum();
            metric.encode_histogram::<NoLabelSet>(histogram.sum as f64, count, &buckets, None)
        }
    }
}

/// The pages of the metrics port: `/metrics`.
pub fn pages(requests: mpsc::Sender<Request>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(requests)
}

async fn scrape(State(requests): State<mpsc::Sender<Request>>) -> Response {
    match ask(&requests, Command::Status).await {
        Answer::Snapshot(snapshot) => {
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], encode(*snapshot)).into_response()
        }
        Answer::Error(error) => (StatusCode::SERVICE_UNAVAILABLE, error + "\n").into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Listens for scrapes on `address`.
///
/// # Errors
/// The address is in use, or is not an address of this host.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    http::listen("metrics", "--metrics-addr", address.ip(), address.port())
}

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests;
