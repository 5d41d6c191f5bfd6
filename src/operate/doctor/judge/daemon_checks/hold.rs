//! `hold`: what keeps the daemon from sending.

use std::time::Duration;

use super::DaemonChecks;
use crate::{
    http::{
        client::{CERTIFICATE_OF_AN_AUTHORITY, OUR_CERTIFICATE},
        url_template::origin,
    },
    model::snapshot::WEATHER_LASTS_S,
    operate::doctor::{
        row::{DoctorRow, Id},
        words::{certificate_at, path, span},
    },
};

impl DaemonChecks<'_> {
    /// Whether the daemon packs and sends, and why not.
    pub(super) fn hold(self) -> DoctorRow {
        let id = Id::Hold;
        let Some(hold) = &self.snapshot.destination.held else {
            if let Some(pause) = &self.snapshot.packing_paused {
                let summary = format!("Nothing is packed for now: {}.", pause.why);
                let fix = format!("df -H {}", path(&self.layout.outbox));
                return DoctorRow::yellow(id, summary, fix);
            }
            if self.snapshot.destination.unanswered > 0 {
                let (hang, wait) = (
                    self.snapshot.destination.unanswered,
                    self.snapshot.counts.ready,
                );
                let summary = format!(
                    "{hang} uploads were sent to their last byte and are not answered, and {wait} ready episodes wait. Each is given up after receiver.answer_timeout_s, and others go meanwhile as far as there are slots: see to the receiver."
                );
                return DoctorRow::yellow(id, summary, self.hands.sealift(self.more))
                    .with("unanswered", hang);
            }
            return DoctorRow::green(id, "The receiver is sent to as episodes come.");
        };
        let no_receiver = hold.why.contains(NOT_A_RECEIVER);
        let (since, why) = (span(Duration::from_secs(hold.for_s)), &hold.why);
        if hold.idle && !hold.is_for_a_person() {
            let summary = format!(
                "The receiver could not be used {since} ago: {why}. Nothing has waited to be sent since, so it was not asked again; the next episode is tried at once."
            );
            return DoctorRow::green(id, summary)
                .with("held_s", hold.for_s)
                .with("weather", hold.weather);
        }
        let summary = match &hold.suspect {
            Some(suspect) => format!(
                "{suspect} was answered {since} ago as if nothing may be sent: {why}. Other episodes are tried at once, and decide."
            ),
            None => {
                let next = span(Duration::from_secs(hold.next_probe_in_s));
                format!("Nothing is sent since {since}: {why}. It is tried again in {next}.")
            }
        };
        let is_about_us = match hold.status_code {
            Some(code) => matches!(code, 401 | 403) && !no_receiver,
            None => hold.why.contains(OUR_CERTIFICATE),
        };
        // These get no better by themselves: something other than the receiver answers, or it does
        // not let us in.
        let is_ours_to_change = matches!(
            hold.status_code,
            Some(300..=399 | 401 | 403 | 404 | 405 | 407 | 501)
        );
        let (summary, fix) = if is_about_us {
            let known_by = match hold.status_code {
                Some(_) => {
                    "Does the receiver know our token (receiver.token_file) or certificate (receiver.client_cert_file), and let it in?"
                }
                None => "Is our certificate right (receiver.client_cert_file)?",
            };
            (
                format!("{summary} {known_by}"),
                self.hands.change_credential(),
            )
        } else if let Some(origin) = is_about_its_certificate(&hold.why)
            .then(|| origin(&self.snapshot.destination.url))
            .flatten()
        {
            // No setting and no reload of ours mends it.
            (
                format!(
                    "{summary} It is the receiver's own certificate: its operator has to put another in its place, or this host's \
                     clock is wrong."
                ),
                certificate_at(&origin).into(),
            )
        } else if no_receiver || is_ours_to_change || hold.why.contains(UNKNOWN_NAME) {
            let url = &self.snapshot.destination.url;
            (
                format!("{summary} Is receiver.url right ({url})?"),
                self.hands.configure("reload"),
            )
        } else {
            // Whatever has been mended since is tried at once then.
            (summary, self.hands.unit_to("reload"))
        };
        let row = if hold.is_for_a_person() && hold.weather {
            let summary =
                format!("{summary} It goes on by itself once the receiver can be used again.");
            DoctorRow::red(id, summary, fix)
        } else if hold.is_for_a_person() {
            DoctorRow::red(id, summary, fix)
        } else {
            let lasts = span(Duration::from_secs(WEATHER_LASTS_S));
            let passes = if hold.suspect.is_some() {
                "It"
            } else {
                "That passes by itself; it"
            };
            DoctorRow::yellow(
                id,
                format!("{summary} {passes} is red once it has lasted for {lasts}."),
                fix,
            )
        };
        row.with("held_s", hold.for_s)
            .with("status_code", hold.status_code)
            .with("weather", hold.weather)
    }
}

/// rustls's words, and ours, for what is wrong with the certificate that the receiver shows.
fn is_about_its_certificate(why: &str) -> bool {
    let words = ["expired", "not valid yet", CERTIFICATE_OF_AN_AUTHORITY];
    why.contains("TLS") && words.iter().any(|word| why.contains(word))
}

/// What the shipper says where no resolver knows the receiver's name.
const UNKNOWN_NAME: &str = "name cannot be resolved";

/// What the shipper says behind the words of a server that is no receiver.
const NOT_A_RECEIVER: &str = "(not a receiver's words)";
