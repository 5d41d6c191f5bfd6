//! The counts and the state of the store as text, for a program that watches (OpenMetrics 1.0,
//! which Prometheus reads).

use super::{request_context::RequestContext, store::Store};
use crate::{clock, model::exposition::Exposition};

/// What it is.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const FAMILIES: &str = "\
requests counter Requests answered, by method and status (0: dropped).
request_seconds histogram From a request's head to its answer.
received_bytes counter Bytes of bodies that came in.
requests_in_flight gauge Requests under way.
connections gauge Connections open.
handshakes_failed counter TLS handshakes that failed.
store_full counter Times that the store's disk had no more bytes, inodes or quota.
can_store gauge Whether an upload could be begun
free_files gauge Files that can still be made in the store's file system
free_bytes gauge Room in the store's file system
total_bytes gauge Size of the store's file system
store_episodes gauge Episodes held
store_bytes gauge Bytes of episodes held
parts gauge Uploads that broke off and are kept
parts_bytes gauge Bytes of uploads that broke off
store_sums_age_seconds gauge How long ago the walk began that these go by
certificate_not_after_seconds gauge When our certificate expires, Unix time
certificate_left_seconds gauge How long our certificate is still good
files_refused gauge Files whose newest content cannot be used
window_rejections counter Uploads turned away for their commit, by host";

/// Everything that is known just now.
pub(super) async fn text<S: Store>(receiver: &RequestContext<S>) -> String {
    let mut text = Exposition::new("sealift_receiver", FAMILIES, "_total");
    receiver.tally.tell(&mut text);
    let can_store = receiver.store.probe().await.is_ok();
    text.value("can_store", u8::from(can_store));
    if let Ok(space) = receiver.store.space().await {
        text.known("free_files", space.free_files);
        text.value("free_bytes", space.free_bytes);
        text.value("total_bytes", space.total_bytes);
    }
    if let Some(totals) = receiver.room.totals() {
        text.value("store_episodes", totals.episodes);
        text.value("store_bytes", totals.bytes);
        text.value("parts", totals.parts);
        text.value("parts_bytes", totals.parts_bytes);
        text.value("store_sums_age_seconds", totals.age.as_secs());
    }
    if let Some(not_after) = receiver.access.certificate_not_after() {
        let (not_after, now) = (not_after.unix_seconds(), clock::wall_now().unix_seconds());
        text.value("certificate_not_after_seconds", not_after.max(0));
        text.value(
            "certificate_left_seconds",
            not_after.saturating_sub(now).max(0),
        );
    }
    let reports = receiver.access.reports();
    let failed = reports.iter().filter(|report| report.error.is_some());
    text.value("files_refused", failed.count());
    let rejections = receiver.tally.window_rejections().into_iter();
    let rejections = rejections.map(|(host, count)| {
        let host = host.as_ref().map(ToString::to_string);
        ([("host", host.unwrap_or_default())], count)
    });
    text.labelled("window_rejections", rejections);
    text.into_text() + "# EOF\n"
}
