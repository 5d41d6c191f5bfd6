//! Which files at the top of an episode are our own, and so belong neither into its archive nor its
//! fingerprint.
//!
//! A name alone does not decide: a recorder may have a `shipping_receipt.json` of its own, and
//! nothing of a recorder's is lost. Ours is told by what it says: a receipt has every member that
//! we write and names this episode; a reason has our stamp (`quarantined_at_wall`) and what
//! happened, and names this episode where it names one at all (older shippers did not). A directory
//! that was filed as `<id>~1` is still episode `<id>`. Where a recorder's own file had the name,
//! ours is `<name>~1`, so numbered names are looked at as well. One that is out of sight while it
//! is moved or removed is still the episode that it was, and so is one whose name a file system
//! lists in another letter case.

use std::ffi::{CStr, OsStr};

use rustix::io::Errno;

use super::{Closed, TreeError, open, read_bounded};
use crate::model::{
    layout::{
        ASIDE_PREFIX, COPY_PREFIX, MARKER, REASON, RECEIPT, REMOVING, TRASH_PREFIX,
        is_numbered_in_any_case, name_behind, without_number,
    },
    records::{QuarantineReason, ShippingReceipt},
};

/// No record of ours is longer: what a receiver says is kept far shorter than that. A longer file
/// is a recorder's.
pub(crate) const MAX_RECORD_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn left_out(directory: &OsStr, file: &Closed<'_>) -> Result<bool, TreeError> {
    let Ok(name) = std::str::from_utf8(file.path) else {
        return Ok(false);
    };
    if name == REMOVING {
        return Ok(true);
    }
    if let Some(unfinished) = name.strip_prefix(COPY_PREFIX) {
        // Scratch of durable.rs: killed between creating and renaming it. The prefix is ours alone.
        return Ok([RECEIPT, REASON, MARKER].contains(&without_number(unfinished)));
    }
    let base = without_number(name);
    if ![RECEIPT, REASON].contains(&base) || file.stat.size_bytes > MAX_RECORD_BYTES {
        return Ok(false);
    }
    Ok(is_ours(
        base,
        &read_bounded(file, MAX_RECORD_BYTES)?,
        directory,
    ))
}

/// Whether a record of ours may have this name.
pub(super) fn may_be(name: &CStr) -> bool {
    name.to_str()
        .is_ok_and(|name| [RECEIPT, REASON].contains(&without_number(name)))
}

/// Whether the file that could not be read is gone by now: then it is left out, whether it was ours
/// or the recorder's. Else the error.
pub(super) fn went(file: &Closed<'_>, error: TreeError) -> Result<bool, TreeError> {
    match open::stat(file.folder, file.name) {
        Err(open::Error::Io(Errno::NOENT)) => Ok(true),
        _ => Err(error),
    }
}

/// The receipt in these bytes, where we wrote it for the episode in this directory.
pub(crate) fn receipt(bytes: &[u8], directory: &OsStr) -> Option<ShippingReceipt> {
    let receipt: ShippingReceipt = serde_json::from_slice(bytes).ok()?;
    holds(directory, receipt.episode_id.as_str()).then_some(receipt)
}

/// The reason in these bytes, where we or an older shipper wrote it for the episode in this
/// directory.
pub(crate) fn reason(bytes: &[u8], directory: &OsStr) -> Option<QuarantineReason> {
    let reason: QuarantineReason = serde_json::from_slice(bytes).ok()?;
    let says_what = reason.status_code.is_some() || reason.error.is_some();
    let of_this = reason
        .episode_id
        .as_deref()
        .is_none_or(|id| holds(directory, id));
    (reason.quarantined_at_wall.is_some() && says_what && of_this).then_some(reason)
}

/// Whether a directory of this name may hold the episode.
fn holds(directory: &OsStr, id: &str) -> bool {
    let behind = [ASIDE_PREFIX, COPY_PREFIX, TRASH_PREFIX]
        .iter()
        .find_map(|prefix| name_behind(prefix, directory));
    is_numbered_in_any_case(behind.unwrap_or(directory), id)
}

fn is_ours(base: &str, bytes: &[u8], directory: &OsStr) -> bool {
    if base == RECEIPT {
        receipt(bytes, directory).is_some()
    } else {
        reason(bytes, directory).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT_OF_A: &str = r#"{"episode_id":"a","sha256":"0000000000000000000000000000000000000000000000000000000000000000","content_sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"status_code":201,"receiver":"http://r","delivered_at_wall":"2026-01-01T00:00:00Z","manifest":"none","receipt":null}"#;

    #[test]
    fn a_receipt_is_ours_when_it_is_whole_and_names_this_episode() {
        let ours =
            |directory: &str| is_ours(RECEIPT, RECEIPT_OF_A.as_bytes(), OsStr::new(directory));
        assert!(ours("a") && ours("a~1") && ours("a~27"));
        assert!(
            ours(".sealift-aside-0-a")
                && ours(".sealift-trash-3-a~1")
                && !ours(".sealift-trash-3-b")
        );
        assert!(ours("A") && ours("A~1") && ours(".sealift-copy-0-A"));
        assert!(!ours("b") && !ours("ab") && !ours("a~") && !ours("a~x"));
        for foreign in ["", "{}", r#"{"episode_id":"a","carrier":"DHL"}"#, "[1]"] {
            assert!(
                !is_ours(RECEIPT, foreign.as_bytes(), OsStr::new("a")),
                "{foreign}"
            );
        }
    }

    #[test]
    fn a_reason_is_ours_when_it_has_our_stamp() {
        let ours = |text: &str| is_ours(REASON, text.as_bytes(), OsStr::new("a"));
        assert!(ours(
            r#"{"status_code":412,"body":"<html>","quarantined_at_wall":"2025-03-01T09:00:00Z"}"#
        ));
        assert!(ours(
            r#"{"episode_id":"a","error":"x","quarantined_at_wall":"2025-03-01T09:00:00Z"}"#
        ));
        assert!(!ours(
            r#"{"episode_id":"b","error":"x","quarantined_at_wall":"2025-03-01T09:00:00Z"}"#
        ));
        assert!(!ours(r#"{"status_code":412}"#) && !ours("{}") && !ours("sick dog"));
    }
}
