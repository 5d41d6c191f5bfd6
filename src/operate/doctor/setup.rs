//! `sealift setup`: what the doctor finds wrong with this host's folders, permissions and unit, and
//! what mends it without a person's judgement.
//!
//! ```text
//!  gather ──facts──▶ plan (pure) ──changes──▶ apply ──▶ a line each
//!     ▲                                         │
//!     └──────── again, until nothing is left ───┘
//! ```
//!
//! What is right is not touched. A change that would lock a recorder out is refused, and said.

mod apply;
mod plan;

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    DoctorQuery,
    facts::{Facts, FolderFacts, Owned, Person},
    gather,
    judge::{unit_paths, watch},
};
use crate::{
    disk::{
        ownership::{self, Given},
        tree::shown,
    },
    model::layout::MARKER,
};

/// Each round may bring to light what the one before it hid: a folder behind one that was closed.
const MAX_ROUNDS: usize = 8;

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A folder is made, for an owner and a group.
    MakeFolder(PathBuf, u32, u32),
    /// What is no folder, where one belongs, gets another name.
    PutAside(PathBuf),
    /// Owner, group and mode of what is there.
    Access {
        path: PathBuf,
        before: Owned,
        owner: Option<u32>,
        group: Option<u32>,
        set: u32,
        clear: u32,
    },
    /// A sealed episode goes to another owner, with all in it.
    GiveEpisode(PathBuf, u32),
    /// Who ships joins the group that this belongs to.
    JoinGroup(u32, PathBuf),
    /// A file of this name beside the unit gets these lines.
    DropIn(&'static str, Vec<String>),
    /// systemctl(1) does this to the unit.
    Unit(&'static str),
}

/// What became of one change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SetupLine {
    /// It was done.
    Done(String),
    /// It would be done.
    Would(String),
    /// It was not done, and why.
    Left(String),
    /// What is not done here, where nothing is wrong with that.
    Note(String),
}

impl Change {
    pub(super) fn access(
        path: &Path,
        before: Owned,
        owner: Option<u32>,
        group: Option<u32>,
        set: u32,
        clear: u32,
    ) -> Self {
        Self::Access {
            path: path.to_owned(),
            before,
            owner,
            group,
            set,
            clear,
        }
    }

    fn sentence(&self, who: &str) -> String {
        match self {
            Self::MakeFolder(path, uid, gid) => {
                let mode = apply::folder_mode(path);
                format!(
                    "make {} (owner {uid}, group {gid}, mode {mode:o})",
                    shown(path)
                )
            }
            Self::PutAside(path) => format!("give what is at {} another name", shown(path)),
            Self::Access { path, before, .. } => {
                let after = self.after(*before);
                let said = |owned: Owned| {
                    let mode = owned.mode & 0o7777;
                    format!("owner {}, group {}, mode {mode:04o}", owned.uid, owned.gid)
                };
                format!(
                    "{} {} ({} -> {})",
                    self.verb(),
                    shown(path),
                    said(*before),
                    said(after)
                )
            }
            Self::GiveEpisode(path, uid) => {
                format!("give {} and all in it to user {uid}", shown(path))
            }
            Self::JoinGroup(gid, of) => {
                format!("put {who} into group {gid}, which {} belongs to", shown(of))
            }
            Self::DropIn(name, lines) => format!(
                "add to the unit's drop-in {name}.conf: {}",
                crate::model::text::printable(&lines.join(" "))
            ),
            Self::Unit(deed) => format!("systemctl {deed}"),
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Access { set: 0, .. } => "close",
            _ => "open",
        }
    }

    pub(super) fn after(&self, before: Owned) -> Owned {
        match self {
            Self::Access {
                owner,
                group,
                set,
                clear,
                ..
            } => Owned {
                uid: owner.unwrap_or(before.uid),
                gid: group.unwrap_or(before.gid),
                mode: before.mode & !clear | set,
                ..before
            },
            _ => before,
        }
    }
}

/// Plans and does it, or says what it would do. Each line is told as soon as it is so. Returns
/// whether nothing was left.
///
/// `user`, with the group that folders are to have: for whom, in place of the unit's user.
pub(crate) async fn setup(
    question: &DoctorQuery,
    user: Option<(&str, Option<&str>)>,
    dry_run: bool,
    tell: &mut (dyn FnMut(SetupLine) + Send),
) -> bool {
    let (mut seen, mut nothing_left) = (HashSet::new(), true);
    let (mut above_told, mut is_any_done) = (HashSet::new(), false);
    let mut note = None;
    for _ in 0..MAX_ROUNDS {
        let mut facts = gather::host(question).await;
        if let Some((user, group)) = user {
            match gather::permissions::given(user, group).await {
                Ok(person) => is_given(&mut facts, person),
                Err(why) => {
                    tell(SetupLine::Left(why));
                    return false;
                }
            }
        } else if let Some(person) = of_unit_file(&facts).await {
            is_given(&mut facts, person);
        }
        let shipper = facts.people.shipper().clone();
        let sealed = facts
            .folders
            .iter()
            .find(|folder| folder.name == "episodes");
        let sealed = sealed
            .filter(|_| shipper.uid != 0)
            .and_then(|folder| {
                let is_in = |gid| shipper.is_in(gid);
                ownership::sealed_of_others(&folder.path, shipper.uid, is_in).ok()
            })
            .unwrap_or_default();
        // One beside the episodes seals nothing.
        let loose = facts
            .folders
            .iter()
            .find(|folder| folder.name == "episodes")
            .map(|folder| folder.path.join(MARKER))
            .filter(|marker| std::fs::symlink_metadata(marker).is_ok_and(|it| !it.is_dir()));
        note = without_systemd(&facts);
        let plan = plan::plan(&facts, &sealed, loose);
        for why in plan.refused {
            if seen.insert(why.clone()) {
                nothing_left = false;
                tell(SetupLine::Left(why));
            }
        }
        let new: Vec<_> = plan
            .changes
            .into_iter()
            .map(|change| {
                let above = above(&change, &mut above_told);
                (change.sentence(&shipper.name) + &above, change)
            })
            .filter(|(sentence, change)| {
                matches!(change, Change::Unit(_)) || seen.insert(sentence.clone())
            })
            .collect();
        if new
            .iter()
            .all(|(_, change)| matches!(change, Change::Unit(_)))
        {
            break;
        }
        is_any_done = true;
        if dry_run {
            for (sentence, change) in new {
                tell(match apply::blocker(&change) {
                    Some(why) => {
                        nothing_left = false;
                        SetupLine::Left(format!("{sentence}: {why}"))
                    }
                    None => SetupLine::Would(sentence),
                });
            }
            break;
        }
        if let Some((sentence, _)) = new
            .iter()
            .find(|(_, change)| apply::needs_root(change, &facts))
        {
            // Root would take itself for who ships.
            let typed = if user.is_some() || !facts.hands.has_unit {
                facts.setup_for(&shipper)
            } else {
                facts.hands.as_root(&facts.hands.sealift("setup"))
            };
            tell(SetupLine::Left(format!(
                "{sentence}: only root can do that. Type: {typed}"
            )));
            return false;
        }
        for (sentence, change) in new {
            match apply::apply(&change, &facts) {
                Ok(()) => tell(SetupLine::Done(sentence)),
                Err(error) => {
                    nothing_left = false;
                    tell(SetupLine::Left(format!("{sentence}: {error}")));
                }
            }
        }
    }
    if let Some(note) = note.filter(|_| is_any_done) {
        tell(SetupLine::Note(note));
    }
    nothing_left
}

/// What is left out where no systemd runs, and how episodes are noticed there all the same.
fn without_systemd(facts: &Facts) -> Option<String> {
    if facts.unit.is_some() {
        return None;
    }
    let watch = watch::mode(facts).map_or_else(String::new, |row| {
        let how = row.summary.trim_end_matches('.');
        format!(
            " What is sealed is noticed all the same: the shipper {}{}.",
            how[..1].to_lowercase(),
            &how[1..]
        )
    });
    Some(format!(
        "systemd does not run here, so {} was not looked at, and gets no drop-in: where it is to ship from here, run setup again \
         once systemd runs, and it gets one that lets it write to these folders. Without it, start `sealift ship` by hand or by what \
         starts services here.{watch}",
        facts.hands.unit
    ))
}

/// What is made above a folder besides, and with which modes: said once each.
fn above(change: &Change, told: &mut HashSet<PathBuf>) -> String {
    let Change::MakeFolder(path, ..) = change else {
        return String::new();
    };
    let missing = path.ancestors().skip(1);
    let missing = missing.take_while(|above| !above.as_os_str().is_empty() && !above.exists());
    let said = missing
        .enumerate()
        .filter(|(_, above)| told.insert(above.to_path_buf()));
    let said: Vec<_> = said
        .map(|(n, above)| match n {
            0 => format!("{} (mode {:o})", shown(above), apply::PARENT_MODE),
            _ => format!("{} (root's, mode {:o})", shown(above), ownership::WAY_MODE),
        })
        .collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(", and above it {}", said.join(", ")),
    }
}

/// Gives one sealed episode to who ships, and says so; or why not. What is in `quarantine/` or
/// `shipped/` no recorder writes to: that may have lost its marker.
pub(crate) async fn give(
    question: &DoctorQuery,
    user: Option<&str>,
    episode: &Path,
    dry_run: bool,
) -> SetupLine {
    let facts = gather::host(question).await;
    // No group is given, so that a number needs no name on this host.
    let shipper = match user {
        Some(user) => match gather::permissions::number(user) {
            Some(uid) => Some(uid),
            None => match gather::permissions::given(user, None).await {
                Ok(person) => Some(person.uid),
                Err(why) => return SetupLine::Left(why),
            },
        },
        None => facts.people.shipper.as_ref().map(|shipper| shipper.uid),
    };
    let Some(uid) = shipper else {
        let why = "which user ships is not known: name it with --user";
        return SetupLine::Left(why.to_owned());
    };
    let shown = shown(episode);
    let is_one = |folder: &&FolderFacts| {
        matches!(folder.name, "episodes" | "quarantine" | "shipped")
            && ownership::is_right_in(episode, &folder.path)
    };
    let Some(folder) = facts.folders.iter().find(is_one) else {
        let where_they_are = if facts.folders.is_empty() {
            "where these are, say --data DIR or --config FILE"
        } else {
            "nothing else is given away"
        };
        return SetupLine::Left(format!(
            "{shown} is no name in episodes/, shipped/ or quarantine/: {where_they_are}"
        ));
    };
    let said = format!("give {shown} and all in it to user {uid}");
    // A look alone says whose all of it is.
    let said = match is_all_of(episode, uid) {
        true => format!("{said}: nothing to do, it has all of it already"),
        false => said,
    };
    match ownership::give_episode(episode, uid, folder.name != "episodes", dry_run) {
        Ok(Given::Done { left: 0 }) if dry_run => SetupLine::Would(said),
        Ok(Given::Done { left: 0 }) => SetupLine::Done(said),
        Ok(given @ Given::Done { .. }) => {
            SetupLine::Left(format!("{said}: {}", not_given(episode, given)))
        }
        Ok(Given::Open) => SetupLine::Left(not_given(episode, Given::Open)),
        Err(error) => SetupLine::Left(format!("{said}: {error}")),
    }
}

/// Whether all that is in an episode belongs to this user already, as far as it can be seen.
fn is_all_of(episode: &Path, uid: u32) -> bool {
    let mut left = vec![episode.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path);
        let Some(found) = found.ok().filter(|found| found.uid() == uid) else {
            return false;
        };
        if found.is_dir() {
            let Ok(entries) = fs::read_dir(&path) else {
                return false;
            };
            left.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    true
}

/// Why an episode is not given away, or not all of it.
fn not_given(episode: &Path, given: Given) -> String {
    match given {
        Given::Done { left } => format!(
            "all but {left} files of other users that have other names as well (hard links)"
        ),
        Given::Open => format!(
            "{} is not sealed: it is its recorder's, who may be at work in it",
            shown(episode)
        ),
    }
}

/// What a run would leave, though nothing else is to be done: what that is about, and why.
pub(super) fn refused(facts: &Facts) -> Option<(PathBuf, String)> {
    let plan = plan::plan(facts, &[], None);
    let path = plan.first_refused.filter(|_| plan.changes.is_empty())?;
    Some((path, plan.refused.join("; ")))
}

/// Whether it has something to do without which the daemon cannot start: it writes to its folders
/// first of all.
pub(super) fn lets_it_start(facts: &Facts) -> bool {
    let plan = plan::plan(facts, &[], None);
    plan.changes.iter().any(|change| match change {
        Change::MakeFolder(..) | Change::PutAside(_) => true,
        Change::Access { set, .. } => *set != 0,
        Change::JoinGroup(..) => true,
        Change::DropIn(name, _) => *name == unit_paths::DROP_IN,
        Change::GiveEpisode(..) | Change::Unit(_) => false,
    })
}

/// Whether the calling user may not do all of it.
pub(super) fn takes_root(facts: &Facts) -> bool {
    let plan = plan::plan(facts, &[], None);
    plan.changes
        .iter()
        .any(|change| apply::needs_root(change, facts))
}

/// Who would ship by the unit's file, where no systemd runs that says who ships, and root asks: it
/// would make the folders for itself.
async fn of_unit_file(facts: &Facts) -> Option<Person> {
    if facts.unit.is_some() || facts.people.shipper.is_some() || !facts.hands.root {
        return None;
    }
    let user = gather::service::user_in_file(&facts.hands.unit)?;
    gather::permissions::given(&user, None).await.ok()
}

fn is_given(facts: &mut Facts, shipper: Person) {
    (facts.people.shipper, facts.people.unknown_user) = (Some(shipper), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::{facts::FolderState, judge::healthy_host::sound};

    #[test]
    fn a_sentence_says_the_path_as_it_is() {
        let before = Owned {
            mode: 0o770,
            ..Owned::default()
        };
        let path = Path::new("/srv/open/reopened");
        let close = Change::access(path, before, None, None, 0, 0o070).sentence("sealift");
        assert!(
            close.starts_with("close /srv/open/reopened (owner 0"),
            "{close}"
        );
    }

    #[test]
    fn the_fix_names_who_ships_where_no_unit_does_and_it_takes_root() {
        let mut facts = sound();
        (facts.hands.has_unit, facts.hands.root) = (false, false);
        facts.people.us = facts.people.shipper.take().unwrap();
        // Nothing to do that takes root.
        assert_eq!(&*facts.setup(), "sealift setup --data /d");
        facts.folders[0].state = FolderState::There {
            owned: Owned::default(),
            shared: None,
            read_only: false,
        };
        assert_eq!(
            &*facts.setup(),
            "sudo sealift setup --user sealift --group 20 --data /d"
        );
        facts.hands.root = true;
        facts.people.us = Person::default();
        assert_eq!(&*facts.setup(), "sealift setup --data /d");
    }

    #[test]
    fn where_setup_refuses_the_fix_looks_and_says_why() {
        let mut facts = sound();
        facts.folders[2].way = vec![("/root".into(), Owned::default())];
        let fix = facts.setup();
        assert_eq!(&*fix, "namei -lx /root");
        let why = fix.then.unwrap();
        assert!(
            why.contains("/root is a home folder") && why.contains("docs/operations.md#installing"),
            "{why}"
        );
        // What it can do it does first.
        facts.private_in = Some(("/d".into(), Owned::default()));
        assert_eq!(&*facts.setup(), "sealift setup --data /d");
    }
}
