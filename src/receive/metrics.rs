//! The counts and the state of the store as text, for a program that watches (OpenMetrics 1.0,
//! which Prometheus reads).

use std::time::Duration;

use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, encoding::EncodeMetric as _,
    metrics::MetricType,
};
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::time::timeout;

use super::{request_context::RequestContext, store::Store};
use crate::{clock, model::episode::HostName};

/// What it is.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long the walk through a large store may keep the scraper waiting; it is told of the store
/// the next time.
const CENSUS_WAIT: Duration = Duration::from_secs(5);

/// Everything that is known just now.
pub(super) async fn text<S: Store>(receiver: &RequestContext<S>) -> String {
    let mut registry = Registry::with_prefix("sealift_receiver");
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        registry.register_collector(Box::new(One {
            name: name.to_owned(),
            help: help.to_owned(),
            value,
        }));
    };
    let can_store = receiver.store.probe().await.is_ok();
    gauge(
        &mut registry,
        "can_store",
        "Whether an upload could be begun",
        u64::from(can_store),
    );
    if let Ok(space) = receiver.store.space().await {
        if let Some(free_files) = space.free_files {
            gauge(
                &mut registry,
                "free_files",
                "Files that can still be made in the store's file system",
                free_files,
            );
        }
        gauge(
            &mut registry,
            "free_bytes",
            "Room in the store's file system",
            space.free_bytes,
        );
        gauge(
            &mut registry,
            "total_bytes",
            "Size of the store's file system",
            space.total_bytes,
        );
    }
    if let Ok(Ok(usage)) = timeout(CENSUS_WAIT, receiver.room.usage(&receiver.store)).await {
        gauge(
            &mut registry,
            "store_episodes",
            "Episodes held",
            usage.episodes,
        );
        gauge(
            &mut registry,
            "store_bytes",
            "Bytes of episodes held",
            usage.bytes,
        );
        gauge(
            &mut registry,
            "parts",
            "Uploads that broke off and are kept",
            usage.parts,
        );
        gauge(
            &mut registry,
            "parts_bytes",
            "Bytes of uploads that broke off",
            usage.parts_bytes,
        );
    }
    if let Some(not_after) = receiver.access.certificate_not_after() {
        let seconds = u64::try_from(not_after.unix_seconds()).unwrap_or_default();
        gauge(
            &mut registry,
            "certificate_not_after_seconds",
            "When our certificate expires, Unix time",
            seconds,
        );
        let left = not_after
            .unix_seconds()
            .saturating_sub(clock::wall_now().unix_seconds());
        let left = u64::try_from(left).unwrap_or_default();
        gauge(
            &mut registry,
            "certificate_left_seconds",
            "How long our certificate is still good",
            left,
        );
    }
    let failed = receiver
        .access
        .reports()
        .iter()
        .filter(|report| report.error.is_some())
        .count();
    gauge(
        &mut registry,
        "files_refused",
        "Files whose newest content cannot be used",
        failed as u64,
    );
    registry.register_collector(Box::new(RejectionCounts(
        receiver.tally.window_rejections().into_iter().collect(),
    )));

    let mut text = String::new();
    // A String takes everything.
    let _ = encode_registry(&mut text, receiver.tally.registry())
        .and_then(|()| encode_registry(&mut text, &registry))
        .and_then(|()| encode_eof(&mut text));
    text
}

/// A number that is known just now.
#[derive(Debug)]
struct One {
    name: String,
    help: String,
    value: i64,
}

impl Collector for One {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let value = ConstGauge::new(self.value);
        value.encode(encoder.encode_descriptor(&self.name, &self.help, None, MetricType::Gauge)?)
    }
}

/// Who was turned away for its commit.
#[derive(Debug)]
struct RejectionCounts(Vec<(Option<HostName>, u64)>);

impl Collector for RejectionCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Uploads turned away for their commit, by host";
        let mut metric =
            encoder.encode_descriptor("window_rejections", help, None, MetricType::Counter)?;
        for (host, count) in &self.0 {
            let host = host.as_ref().map(ToString::to_string).unwrap_or_default();
            ConstCounter::new(*count).encode(metric.encode_family(&[("host", host)])?)?;
        }
        Ok(())
    }
}
