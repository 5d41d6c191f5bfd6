//! What is in `episodes/` and the outbox.

use std::{collections::HashSet, path::Path, time::Duration};

use tokio::time::Instant;

use super::{DISK, folders::last_written, within};
use crate::{
    clock,
    disk::{durable, manifest, record_files, reused_names, scan, tree},
    model::{
        episode::{EpisodeId, FolderLook},
        layout::Layout,
        progress::Progress,
        records::{WallTime, holds_other_content},
    },
    operate::doctor::facts::{CutOff, EpisodeFacts, EpisodesFacts, StrangerFacts},
};

/// For all of it: some tens of thousands of episodes. What was found by then is told.
const LOOK: Duration = Duration::from_millis(700);
/// So many files are looked at for when something was last written, all in all.
const MAX_LOOKS: usize = 20_000;
/// So many markers that hold something are read.
const MAX_MARKERS: usize = 200;
/// A longer one is not read here; packing will.
const MAX_MARKER_BYTES: u64 = 1 << 20;

pub(super) async fn look(layout: Option<&Layout>) -> Option<EpisodesFacts> {
    let layout = layout?.clone();
    let folder = layout.episodes.clone();
    let until = Instant::now() + LOOK;
    let looked = within(DISK, move || look_now(&layout, || Instant::now() < until)).await;
    // A call that does not return has nothing to show for it.
    looked.unwrap_or_else(|| {
        let cut_off = CutOff {
            in_listing: true,
            after: 0,
            within: DISK,
        };
        Some(EpisodesFacts {
            folder,
            cut_off: Some(cut_off),
            ..EpisodesFacts::default()
        })
    })
}

fn look_now(layout: &Layout, go_on: impl Fn() -> bool) -> Option<EpisodesFacts> {
    let (scan, whole) = scan::scan_while(layout, &Progress::default(), &go_on).ok()?;
    let (mut looks, mut markers) = (MAX_LOOKS, MAX_MARKERS);
    let mut found = EpisodesFacts {
        folder: layout.episodes.clone(),
        ..EpisodesFacts::default()
    };
    found.archives_alone = if whole {
        scan.without_episode().count() as u64
    } else {
        0
    };
    // A verdict is remembered beside an archive, or alone where it was sent without one.
    let archives: HashSet<_> = scan.archives.into_iter().chain(scan.noted).collect();
    let (mut looked_into, mut done) = (0, whole);
    for (id, look) in scan.episodes {
        done = done && go_on();
        let folder = layout.episode(&id);
        let since = match &look {
            FolderLook::Sealed(stamp) => {
                Some(WallTime::from_unix_seconds(stamp.made_ns / 1_000_000_000))
            }
            FolderLook::Open if done => last_written(&folder, &mut looks),
            FolderLook::Open
            | FolderLook::Gone
            | FolderLook::BeingRemoved
            | FolderLook::OddMarker(_)
            | FolderLook::Unreadable(_) => None,
        };
        let holds_something = matches!(&look, FolderLook::Sealed(stamp) if stamp.written_ns != 0);
        let bad_marker = if done && holds_something && markers > 0 {
            markers -= 1;
            bad_marker(&folder)
        } else {
            None
        };
        if done
            && archives.contains(&id)
            && matches!(look, FolderLook::Sealed(_))
            && let Some(why) = conflict(layout, &id)
        {
            found.conflicts.push((id.clone(), why));
        }
        if done
            && matches!(look, FolderLook::Open)
            && let Some(copy) = durable::stays_beside(&folder)
        {
            found.left.push((id.clone(), copy));
        }
        looked_into += usize::from(done);
        found.episodes.push(EpisodeFacts {
            id,
            look,
            since,
            bad_marker,
        });
    }
    if done {
        // Sealed or not: a plain web server would overwrite what it holds. Of a backlog the open
        // ones are looked at first.
        let (open, others): (Vec<_>, Vec<_>) = found
            .episodes
            .iter()
            .partition(|episode| matches!(episode.look, FolderLook::Open));
        let ids = open.iter().chain(&others).map(|episode| &episode.id);
        found.reused = reused_names::among(ids, layout, clock::wall_now());
        // What was shipped while this looked has left.
        let left = &found.left;
        found
            .reused
            .retain(|id| layout.episode(id).is_dir() && !left.iter().any(|(other, _)| other == id));
    }
    let strangers = scan.strangers.into_iter();
    found.strangers = strangers
        .map(|it| StrangerFacts {
            name: it.name,
            why: it.why,
            sealed: it.sealed,
        })
        .collect();
    found.cut_off = (!done).then_some(CutOff {
        in_listing: !whole,
        after: looked_into,
        within: LOOK,
    });
    Some(found)
}

fn bad_marker(folder: &Path) -> Option<String> {
    match tree::read_top(folder, c"done.marker", MAX_MARKER_BYTES) {
        Ok(Some(bytes)) if bytes.len() as u64 <= MAX_MARKER_BYTES => {
            manifest::parse(&bytes).err().map(|error| error.to_string())
        }
        Ok(_) => None,
        Err(error) => Some(format!("{:#}", anyhow::Error::new(error))),
    }
}

/// What the receiver said, where the sidecar remembers a conflict.
fn conflict(layout: &Layout, id: &EpisodeId) -> Option<String> {
    let sidecar = record_files::sidecar(layout, id).ok()??;
    let verdict = sidecar.conflict()?;
    Some(format!(
        "{}: {}",
        holds_other_content(Some(verdict.status_code)),
        verdict.detail
    ))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::*;

    #[test]
    fn what_was_found_before_the_time_was_up_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        fs::create_dir_all(&layout.outbox).unwrap();
        for n in 0..10 {
            fs::create_dir_all(layout.episodes.join(format!("run-{n}"))).unwrap();
            fs::write(layout.episodes.join(format!("run-{n}/done.marker")), "").unwrap();
        }
        let look = |looks: usize| {
            let left = Cell::new(looks);
            let found =
                look_now(&layout, || left.replace(left.get().saturating_sub(1)) > 0).unwrap();
            (
                found.episodes.len(),
                found.cut_off.map(|it| (it.in_listing, it.after)),
            )
        };
        // 10 names are listed (and what stands for the folder and the one above), then 10 are
        // looked into.
        assert_eq!(look(100), (10, None));
        assert_eq!(look(12 + 4), (10, Some((false, 4))));
        let (seen, cut_off) = look(5);
        assert!((3..=5).contains(&seen), "{seen}");
        assert_eq!(cut_off, Some((true, 0)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test plays the daemon")]
    fn what_is_shipped_while_the_doctor_looks_is_no_name_that_was_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        for folder in [&layout.outbox, &layout.shipped] {
            fs::create_dir_all(folder).unwrap();
        }
        let id = EpisodeId::parse("run-1").unwrap();
        let sealed = || {
            fs::create_dir_all(layout.episode(&id)).unwrap();
            fs::write(layout.episode(&id).join("done.marker"), "").unwrap();
        };
        sealed();
        let digest = "ab".repeat(32);
        let receipt = serde_json::json!({
            "episode_id": "run-1", "sha256": digest, "content_sha256": digest, "size_bytes": 1, "status_code": 201,
            "receiver": "http://127.0.0.1:1", "delivered_at_wall": clock::wall_now(), "manifest": "none",
            "receipt": null,
        });
        let moved = Cell::new(false);
        let look = || {
            let calls = Cell::new(0);
            let go_on = || {
                calls.set(calls.get() + 1);
                // The names are listed by then.
                if calls.get() == 4 && !moved.replace(true) {
                    let shipped = layout.shipped.join("run-1");
                    fs::create_dir(&shipped).unwrap();
                    fs::rename(
                        layout.episode(&id).join("done.marker"),
                        shipped.join("done.marker"),
                    )
                    .unwrap();
                    fs::write(shipped.join("shipping_receipt.json"), receipt.to_string()).unwrap();
                    fs::remove_dir(layout.episode(&id)).unwrap();
                }
                true
            };
            let found = look_now(&layout, go_on).unwrap();
            assert_eq!(found.episodes.len(), 1, "{calls:?}");
            found.reused
        };
        assert_eq!(look(), []);
        assert!(moved.get());
        sealed();
        assert_eq!(
            look(),
            std::slice::from_ref(&id),
            "a sealed one as well as an open one"
        );
    }
}
