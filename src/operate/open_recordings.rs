//! What the daemon may not look into may be open still: then it is its recorder's, and nothing is
//! wrong yet. Root sees which it is.

use std::{fs, io::ErrorKind};

use crate::model::{
    episode::EpisodeId,
    layout::{Layout, MARKER},
    snapshot::{Snapshot, TrialFinding, TrialKind},
    text::{foreign_command, typed_path},
};

/// What the daemon says of an episode that it may not look into.
const DENIED: &str = "(os error 13)";
/// What it says before the first that it keeps back.
const KEPT_BACK: &str = " kept back by a fault of this host. ";

/// Whether there is anything to be told apart, and we can.
pub(super) fn may_be_among(snapshot: &Snapshot) -> bool {
    rustix::process::geteuid().is_root()
        && snapshot
            .trial
            .iter()
            .any(|finding| kept_back(finding).is_some())
}

/// Takes the open ones from what cannot be looked at, and says of those what their recorder may do.
/// The disk is looked at.
pub(super) fn tell_apart(snapshot: &mut Snapshot, layout: &Layout) {
    let is_open = |id: &EpisodeId| {
        let episode = layout.episode(id);
        let marker = fs::symlink_metadata(episode.join(MARKER));
        marker.is_err_and(|error| error.kind() == ErrorKind::NotFound) && episode.is_dir()
    };
    let denied = |said: &String| {
        let (name, why) = said.split_once(": ")?;
        let id = EpisodeId::parse(name).ok()?;
        why.contains(DENIED).then_some((id, why.to_owned()))
    };
    let told: Vec<_> = snapshot.unclear.iter().filter_map(denied).collect();
    let (open, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|(id, _)| is_open(id));
    snapshot
        .unclear
        .retain(|said| !denied(said).is_some_and(|(id, _)| open.iter().any(|one| one.0 == id)));
    for finding in &mut snapshot.trial {
        let Some((count, first, why)) = kept_back(finding) else {
            continue;
        };
        if !is_open(&first) {
            continue;
        }
        // Another that is sealed is not hidden by it.
        match others.first() {
            Some((sealed, why)) => {
                let rest = format!("{KEPT_BACK}{sealed}: {why}.");
                finding.what_to_do = format!("{count} episodes are{rest}");
                if let Some(fix) = &mut finding.fix {
                    *fix = fix.replace(
                        &typed_path(&layout.episode(&first)),
                        &typed_path(&layout.episode(sealed)),
                    );
                }
            }
            None if count <= open.len().max(1) => {
                let more = match open.len() {
                    0 | 1 => String::new(),
                    n => format!(" ({} others as well)", n - 1),
                };
                let in_short =
                    format!("{first} is not sealed yet, and closed to the user that ships{more}");
                let episode = layout.episode(&first);
                *finding = TrialFinding {
                    kind: TrialKind::UnmovableOpen,
                    what_to_do: format!(
                        "{in_short}: {why}. Its recorder may still let the group in before it seals it, or make episodes with mode 2770."
                    ),
                    in_short,
                    fix: Some(foreign_command(&episode, |episode| {
                        format!("sudo chmod g+rx {episode}")
                    })),
                };
            }
            None => {}
        }
    }
}

/// How many are kept back, the first of them, and why, where that is for want of permission.
fn kept_back(finding: &TrialFinding) -> Option<(usize, EpisodeId, String)> {
    let (are, first) = finding.what_to_do.split_once(KEPT_BACK)?;
    let (name, why) = first.split_once(": ")?;
    let count = are.split(' ').next()?.parse().ok()?;
    let id = EpisodeId::parse(name).ok()?;
    let why = why.trim_end_matches('.').to_owned();
    (finding.kind == TrialKind::Stuck && why.contains(DENIED)).then_some((count, id, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_recording_hides_no_sealed_one_that_is_closed_to_who_ships() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        let id = |name: &str| EpisodeId::parse(name).unwrap();
        for name in ["open", "sealed"] {
            fs::create_dir_all(layout.episode(&id(name))).unwrap();
        }
        fs::write(layout.episode(&id("sealed")).join(MARKER), "").unwrap();
        let why = format!("Failed to look at done.marker: Permission denied {DENIED}");
        let told = |names: &[&str]| {
            let mut snapshot = Snapshot {
                unclear: names.iter().map(|name| format!("{name}: {why}")).collect(),
                trial: vec![TrialFinding {
                    kind: TrialKind::Stuck,
                    what_to_do: format!("{} episodes are{KEPT_BACK}open: {why}.", names.len()),
                    in_short: String::new(),
                    fix: Some(format!(
                        "sudo sealift setup --user 10 --give {}",
                        layout.episode(&id("open")).display()
                    )),
                }],
                ..Snapshot::default()
            };
            tell_apart(&mut snapshot, &layout);
            let finding = snapshot.trial.remove(0);
            (finding.kind, finding.fix.unwrap(), snapshot.unclear)
        };
        let (kind, fix, unclear) = told(&["open"]);
        assert!(
            kind == TrialKind::UnmovableOpen && fix.starts_with("sudo chmod g+rx "),
            "{fix}"
        );
        assert_eq!(unclear, [""; 0]);
        let (kind, fix, unclear) = told(&["open", "sealed"]);
        assert!(
            kind == TrialKind::Stuck && fix.ends_with("/sealed"),
            "{fix}"
        );
        assert_eq!(unclear, [format!("sealed: {why}")]);
    }
}
