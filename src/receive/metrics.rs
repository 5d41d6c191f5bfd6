//! The counts and the state of the store as text, for a program that watches.

use super::{request_context::RequestContext, room::space_soon, store::Store};
use crate::{
    clock,
    model::exposition::{Exposition, ExpositionFormat},
};

pub(super) const FAMILIES: &str = "\
build_info gauge The program that runs, by its version; always 1.
start_time_seconds gauge When the receiver started, Unix time.
requests_total counter Requests answered, by method and status (0: dropped).
request_seconds histogram From a request's head to its answer.
heads_refused_total counter Request heads that are no HTTP/1, or too long: answered 400, 414 or 431.
panics_total counter Requests and connections that a fault in the receiver itself has ended.
received_bytes_total counter Bytes of bodies that came in.
requests_in_flight gauge Requests under way.
connections gauge Connections open.
handshakes_failed_total counter TLS handshakes that failed.
store_full_total counter Times that the store's disk had no more bytes, inodes or quota.
can_store gauge Whether an upload could be begun, as /healthz says.
free_files gauge Files that can still be made in the store's file system.
free_bytes gauge Room in the store's file system.
total_bytes gauge Size of the store's file system.
store_episodes gauge Episodes held.
store_bytes gauge Bytes of episodes held.
parts gauge Uploads that broke off and are kept.
parts_bytes gauge Bytes of uploads that broke off.
store_sums_age_seconds gauge How long ago the walk began that these go by.
certificate_not_after_seconds gauge When our certificate expires, Unix time.
certificate_left_seconds gauge How long our certificate is still good.
files_refused gauge Files whose newest content cannot be used.
window_rejections_total counter Uploads turned away for their commit, by host.
window_rejection_timestamp_seconds gauge When an upload was last turned away for its commit, by host, Unix time.";

/// Everything that is known just now.
pub(super) async fn text<S: Store>(
    receiver: &RequestContext<S>,
    can_store: bool,
    format: ExpositionFormat,
) -> String {
    let mut text = Exposition::new("sealift_receiver", FAMILIES, format);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    text.labelled("build_info", [([("version", version)], 1)]);
    text.value("start_time_seconds", receiver.started_at.unix_seconds());
    receiver.tally.tell(&mut text);
    text.value("can_store", u8::from(can_store));
    if let Ok(space) = space_soon(&receiver.store).await {
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
    text.into_text()
}
