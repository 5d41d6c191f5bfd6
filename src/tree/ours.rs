//! Which files at the top of an episode are our own, and so belong neither into its archive nor its fingerprint.
//!
//! A name alone does not decide: a recorder may have a `shipping_receipt.json` of its own, and nothing of a recorder's
//! is lost. Ours is told by what it says: a receipt has every member that we write and names this episode; a reason
//! has our stamp (`quarantined_at_wall`) and what happened, and names this episode where it names one at all (older
//! shippers did not). A directory that was filed as `<id>~1` is still episode `<id>`. Where a recorder's own file
//! had the name, ours is `<name>~1`, so numbered names are looked at as well.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use super::{Closed, TreeError, read_bounded};
use crate::{
    layout::{COPY_PREFIX, MARKER, REASON, RECEIPT},
    records::{QuarantineReason, ShippingReceipt},
};

/// No record of ours is longer: what a receiver says is kept far shorter than that. A longer file is a recorder's.
const MAX_RECORD_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn left_out(directory: &OsStr, file: &Closed<'_>) -> Result<bool, TreeError> {
    let Ok(name) = std::str::from_utf8(file.path) else {
        return Ok(false);
    };
    if let Some(unfinished) = name.strip_prefix(COPY_PREFIX) {
        // Scratch of durable.rs: killed between creating and renaming it. The prefix is ours alone.
        return Ok([RECEIPT, REASON, MARKER].contains(&without_number(unfinished)));
    }
    let base = without_number(name);
    if ![RECEIPT, REASON].contains(&base) || file.stat.size_bytes > MAX_RECORD_BYTES {
        return Ok(false);
    }
    Ok(is_ours(base, &read_bounded(file, MAX_RECORD_BYTES)?, directory))
}

fn is_ours(base: &str, bytes: &[u8], directory: &OsStr) -> bool {
    if base == RECEIPT {
        return serde_json::from_slice::<ShippingReceipt>(bytes)
            .is_ok_and(|receipt| is_filed_as(receipt.episode_id.as_str(), directory));
    }
    serde_json::from_slice::<QuarantineReason>(bytes).is_ok_and(|reason| {
        reason.quarantined_at_wall.is_some()
            && (reason.status_code.is_some() || reason.error.is_some())
            && reason.episode_id.is_none_or(|id| is_filed_as(&id, directory))
    })
}

/// Whether a directory of this name may hold the episode: `<id>` or `<id>~N`.
fn is_filed_as(id: &str, directory: &OsStr) -> bool {
    let rest = directory.as_bytes().strip_prefix(id.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || is_number(rest))
}

fn without_number(name: &str) -> &str {
    match name.rsplit_once('~') {
        Some((base, digits)) if is_number(&name.as_bytes()[name.len() - digits.len() - 1..]) => base,
        _ => name,
    }
}

/// `~1`, `~2`, ...
fn is_number(text: &[u8]) -> bool {
    text.strip_prefix(b"~").is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT_OF_A: &str = r#"{"episode_id":"a","sha256":"0000000000000000000000000000000000000000000000000000000000000000","content_sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"status_code":201,"receiver":"http://r","delivered_at_wall":"2026-01-01T00:00:00Z","manifest":"none","receipt":null}"#;

    #[test]
    fn a_receipt_is_ours_when_it_is_whole_and_names_this_episode() {
        let ours = |directory: &str| is_ours(RECEIPT, RECEIPT_OF_A.as_bytes(), OsStr::new(directory));
        assert!(ours("a") && ours("a~1") && ours("a~27"));
        assert!(!ours("b") && !ours("ab") && !ours("a~") && !ours("a~x"));
        for foreign in ["", "{}", r#"{"episode_id":"a","carrier":"DHL"}"#, "[1]"] {
            assert!(!is_ours(RECEIPT, foreign.as_bytes(), OsStr::new("a")), "{foreign}");
        }
    }

    #[test]
    fn a_reason_is_ours_when_it_has_our_stamp() {
        let ours = |text: &str| is_ours(REASON, text.as_bytes(), OsStr::new("a"));
        assert!(ours(r#"{"status_code":412,"body":"<html>","quarantined_at_wall":"2025-03-01T09:00:00Z"}"#));
        assert!(ours(r#"{"episode_id":"a","error":"x","quarantined_at_wall":"2025-03-01T09:00:00Z"}"#));
        assert!(!ours(r#"{"episode_id":"b","error":"x","quarantined_at_wall":"2025-03-01T09:00:00Z"}"#));
        assert!(!ours(r#"{"status_code":412}"#) && !ours("{}") && !ours("sick dog"));
    }

    #[test]
    fn numbers_behind_a_name_are_looked_past() {
        assert_eq!(without_number("shipping_receipt.json~12"), RECEIPT);
        assert_eq!(without_number("shipping_receipt.json"), RECEIPT);
        assert_eq!(without_number("a~b"), "a~b");
        assert_eq!(without_number("a~"), "a~");
    }
}
