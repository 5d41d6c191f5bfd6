//! Under which names an episode may have been filed in `shipped/` and `quarantine/`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    disk::record_files::{reason, receipt},
    model::{
        episode::EpisodeId,
        layout::{is_numbered, is_numbered_in_any_case},
        progress::Progress,
    },
};

/// Every directory in `folder` that an episode may have been filed as: `<id>`, `<id>~1`, ... Where
/// the file system lists that in another letter case, the record in it says whose it is.
///
/// # Errors
/// Those of listing the folder.
pub(crate) fn filed_as(
    folder: &Path,
    id: &EpisodeId,
    progress: &Progress,
) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        progress.step();
        let entry = entry?;
        let name = entry.file_name();
        let may_be = is_numbered(&name, id.as_str())
            || (is_numbered_in_any_case(&name, id.as_str())
                && says_whose(&entry.path()).as_ref() == Some(id));
        if may_be && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The episode that our record in a directory names.
fn says_whose(directory: &Path) -> Option<EpisodeId> {
    if let Ok(Some(receipt)) = receipt(directory) {
        return Some(receipt.episode_id);
    }
    EpisodeId::parse(reason(directory).ok()??.episode_id.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::layout::{REASON, RECEIPT};

    #[test]
    fn what_is_listed_in_another_letter_case_is_the_episode_that_its_record_names() {
        let folder = tempfile::tempdir().unwrap();
        let filed = |id: &str| {
            let id = EpisodeId::parse(id).unwrap();
            let found = filed_as(folder.path(), &id, &Progress::default()).unwrap();
            found
                .iter()
                .map(|path| path.file_name().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let record = |directory: &str, name: &str, id: &str| {
            let (episode, digest) = (folder.path().join(directory), "0".repeat(64));
            fs::create_dir(&episode).unwrap();
            let receipt = serde_json::json!({
                "episode_id": id, "sha256": digest, "content_sha256": digest, "size_bytes": 1, "status_code": 201,
                "receiver": "http://r", "delivered_at_wall": "2026-11-24T00:00:00Z", "manifest": "none",
                "receipt": null, "error": "too old", "quarantined_at_wall": "2026-11-24T00:00:00Z",
            });
            fs::write(episode.join(name), receipt.to_string()).unwrap();
        };
        record("run-a", RECEIPT, "Run-A");
        record("run-a~1", RECEIPT, "RUN-a");
        record("run-b", REASON, "Run-B");
        fs::create_dir(folder.path().join("RUN-A")).unwrap();
        assert_eq!(filed("Run-A"), ["run-a"]);
        assert_eq!(filed("RUN-a"), ["run-a~1"]);
        assert_eq!(filed("RUN-A"), ["RUN-A"]);
        assert_eq!(filed("Run-B"), ["run-b"]);
        assert_eq!(filed("rUN-B"), [""; 0]);
        assert_eq!(
            receipt(&folder.path().join("run-a"))
                .unwrap()
                .unwrap()
                .episode_id
                .as_str(),
            "Run-A"
        );
    }
}
