//! Facts to changes. Pure.

use std::path::{Path, PathBuf};

use super::Change;
use crate::{
    disk::{ownership, tree::shown},
    model::text::printable,
    operate::doctor::{
        facts::{Facts, FolderFacts, FolderState, Owned, PassedFolder, Person, SettingsProblem},
        judge::{permission_fixes as fixes, permissions, service, unit_paths},
    },
};

/// The shipper's own folder, which it makes itself where it may.
const PRIVATE: &str = ".sealift";
/// Writing by all users.
const WORLD_WRITABLE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// What a secret's file should not allow.
const LOOSE: u32 = 0o026;

/// What is to be done, and what is not, with why.
#[derive(Debug, Default)]
pub(super) struct SetupPlan {
    pub(super) changes: Vec<Change>,
    pub(super) refused: Vec<String>,
    /// What the first refusal is about.
    pub(super) first_refused: Option<PathBuf>,
    /// A file that a running daemon has read, and reads again when it is told to.
    is_read_again: bool,
}

/// `sealed`: those in `episodes/` that who ships cannot move. `loose`: a marker beside them.
pub(super) fn plan(facts: &Facts, sealed: &[PathBuf], loose: Option<PathBuf>) -> SetupPlan {
    let mut plan = SetupPlan::default();
    if let Some(user) = &facts.people.unknown_user {
        plan.refused.push(format!(
            "{} runs as user {}, which is not there on this host: make it, or name another with --user",
            facts.hands.unit,
            printable(user)
        ));
        return plan;
    }
    match &facts.settings.problem {
        Some(SettingsProblem::Missing) => plan.refused.push(
            "there is no configuration: give --data DIR and --receiver URL, and one is written"
                .to_owned(),
        ),
        Some(SettingsProblem::Wrong(why)) if facts.folders.is_empty() => {
            plan.refused
                .push(format!("the configuration is wrong: {why}"));
        }
        Some(_) | None => {}
    }
    let shipper = facts.people.shipper();
    let settings = &facts.settings;
    let recorder = recorder_of(facts);
    for folder in &facts.folders {
        let (path, name) = (&folder.path, folder.name);
        if let Some(link) = &folder.link {
            plan.refuse(path, link.to_string());
            continue;
        }
        plan.pass(facts, &folder.way, recorder);
        match &folder.state {
            FolderState::Missing => {
                plan.push(Change::MakeFolder(path.clone(), shipper.uid, shipper.gid));
            }
            FolderState::NoFolder => {
                plan.push(Change::PutAside(path.clone()));
                plan.push(Change::MakeFolder(path.clone(), shipper.uid, shipper.gid));
            }
            FolderState::There {
                read_only: true, ..
            } => {
                plan.refuse(path, format!("{} is mounted read-only", shown(path)));
            }
            FolderState::There { owned, .. } if !folder.modeless => {
                plan.open(facts, folder, *owned, recorder);
            }
            FolderState::There { .. } => {}
            FolderState::Failed(why) => {
                plan.refuse(path, format!("{name}/ cannot be looked at: {why}"));
            }
            FolderState::Hangs(_) => plan.refuse(path, format!("{} does not answer", shown(path))),
        }
    }
    if let Some((above, owned)) = &facts.private_in
        && !shipper.may(permissions::WRITE | permissions::SEARCH, *owned)
    {
        let path = above.join(PRIVATE);
        plan.push(Change::MakeFolder(path, shipper.uid, shipper.gid));
    }
    let is_reached = |name: &str| {
        let is_it = |folder: &&FolderFacts| folder.name == name && folder.link.is_none();
        facts.folders.iter().any(|folder| is_it(&folder))
    };
    let sealed = if is_reached("episodes") { sealed } else { &[] };
    let loose = loose.filter(|_| is_reached("episodes"));
    let in_the_way = facts.in_the_way.iter().map(|(path, _)| path.clone());
    let in_the_way = in_the_way.filter(|_| is_reached("outbox"));
    for path in in_the_way.chain(loose) {
        plan.push(Change::PutAside(path));
    }
    for path in sealed {
        plan.push(Change::GiveEpisode(path.clone(), shipper.uid));
    }
    if let Some(file) = settings.file.as_deref()
        && let Some(owned) = settings.owned
    {
        plan.readable(facts, file, owned, &settings.way, false);
    }
    for file in &settings.files {
        if let Ok(owned) = file.owned {
            plan.readable(facts, &file.path, owned, &file.way, file.secret);
        }
    }
    match unit_paths::drop_in_of_paths(facts) {
        Some(Ok(lines)) => plan.push(Change::DropIn(unit_paths::DROP_IN, lines)),
        Some(Err(why)) => plan.refused.push(why),
        None => {}
    }
    if let Some(unit) = facts.unit.as_ref().filter(|_| facts.hands.has_unit)
        && service::has_no_watchdog(unit)
    {
        let lines = ["[Service]", "WatchdogSec=180"].map(str::to_owned);
        plan.push(Change::DropIn(service::WATCHDOG_DROP_IN, lines.into()));
    }
    plan.tell_the_unit(facts);
    plan
}

/// The user whose `episodes/` is, where that is neither root nor who ships.
fn recorder_of(facts: &Facts) -> Option<u32> {
    let episodes = facts
        .folders
        .iter()
        .find(|folder| folder.name == "episodes")?;
    match episodes.state {
        FolderState::There { owned, .. } => {
            (owned.uid != 0 && owned.uid != facts.people.shipper().uid).then_some(owned.uid)
        }
        _ => None,
    }
}

impl SetupPlan {
    fn push(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    fn refuse(&mut self, path: &Path, why: String) {
        self.first_refused.get_or_insert_with(|| path.to_owned());
        self.refused.push(why);
    }

    fn change(&mut self, change: Change, recorder: Option<u32>) {
        match (locks_out(&change, recorder), &change) {
            (Some(why), Change::Access { path, .. }) => self.refuse(path, why),
            _ => self.push(change),
        }
    }

    /// Lets who ships come through.
    fn pass(&mut self, facts: &Facts, way: &[PassedFolder], recorder: Option<u32>) {
        let shipper = facts.people.shipper();
        if let Some(step) = fixes::barrier(facts, way) {
            match stays_closed(shipper, step) {
                Some(why) => self.refuse(&step.0, why),
                None => self.change(fixes::to_pass(shipper, step), recorder),
            }
        }
    }

    fn open(&mut self, facts: &Facts, folder: &FolderFacts, owned: Owned, recorder: Option<u32>) {
        let shipper = facts.people.shipper();
        let mode = owned.mode & 0o7777;
        let is_recorders = folder.name == "episodes";
        if !shipper.may(permissions::ALL, owned) {
            let change = fixes::to_write(shipper, folder, owned);
            // No recorder writes in these.
            if matches!(folder.name, "outbox" | ".sealift") {
                self.push(change);
            } else {
                self.change(change, recorder);
            }
        } else if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 {
            self.change(fixes::to_guard(shipper, folder, owned), recorder);
        } else if is_recorders && mode & STICKY != 0 && ![0, owned.uid].contains(&shipper.uid) {
            self.change(fixes::to_move_by_owner(shipper, folder, owned), recorder);
        }
    }

    fn readable(
        &mut self,
        facts: &Facts,
        file: &std::path::Path,
        owned: Owned,
        way: &[PassedFolder],
        is_secret: bool,
    ) {
        let shipper = facts.people.shipper();
        let before = self.changes.len();
        self.pass(facts, way, None);
        if !shipper.may(permissions::READ, owned) {
            self.change(fixes::to_read(shipper, file, owned), None);
        } else if is_secret && owned.mode & LOOSE != 0 {
            let keep = fixes::to_keep(shipper, file, owned);
            self.change(
                keep.unwrap_or_else(|| fixes::to_read(shipper, file, owned)),
                None,
            );
        }
        // Who reads no configuration does not run.
        self.is_read_again |=
            facts.settings.file.as_deref() != Some(file) && self.changes.len() > before;
    }

    /// What was changed counts for a daemon that runs once it hears of it.
    fn tell_the_unit(&mut self, facts: &Facts) {
        let Some(unit) = facts.unit.as_ref().filter(|_| facts.hands.has_unit) else {
            return;
        };
        let is = |is: fn(&Change) -> bool| self.changes.iter().any(is);
        let drop_in = is(|change| matches!(change, Change::DropIn(..)));
        let restart = drop_in || is(|change| matches!(change, Change::JoinGroup(..)));
        if drop_in {
            self.push(Change::Unit("daemon-reload"));
        }
        match (unit.active_state == "active", restart, self.is_read_again) {
            (true, true, _) => self.push(Change::Unit("restart")),
            (true, false, true) => self.push(Change::Unit("reload")),
            (_, false, _) | (false, true, _) => {}
        }
    }
}

/// Why a folder on the way is not opened: what else is in a home is its user's to show.
fn stays_closed(shipper: &Person, (folder, owned): &PassedFolder) -> Option<String> {
    let is_home = folder.starts_with("/root")
        || folder
            .strip_prefix("/home")
            .is_ok_and(|below| below.components().next().is_some());
    let what = if is_home {
        "a home folder"
    } else if ownership::is_of_the_system_by_name(folder) {
        "a folder of the system"
    } else {
        return None;
    };
    (owned.uid != shipper.uid).then(|| {
        format!(
            "{} is {what}, closed to {}, and is not opened for it: put what is behind it elsewhere, such as below /srv \
             (docs/operations.md#installing)",
            shown(folder),
            shipper.name
        )
    })
}

/// Why a change would keep a recorder from what it can do now. `recorder` is a user that is known
/// to be one.
fn locks_out(change: &Change, recorder: Option<u32>) -> Option<String> {
    const WRITE_AND_SEARCH: u32 = 3;
    let Change::Access { path, before, .. } = change else {
        return None;
    };
    let (after, shown) = (change.after(*before), shown(path));
    let left_to_others = after.mode & 0o7;
    let loses = |granted: u32| granted & WRITE_AND_SEARCH & !left_to_others != 0;
    if before.listed {
        return Some(format!(
            "{shown} has an access control list, which says who records there: change that with setfacl(1) (docs/recorders.md#permissions)"
        ));
    }
    if recorder == Some(before.uid) && after.uid != before.uid && loses(before.mode >> 6) {
        return Some(format!(
            "{shown} belongs to user {}, who records in episodes/, and could not write there afterwards: give it away by hand, \
             or to a group that both are in (docs/recorders.md#permissions)",
            before.uid
        ));
    }
    if before.gid != 0 && after.gid != before.gid && loses(before.mode >> 3) {
        return Some(format!(
            "group {} may write to {shown} or pass it, and could not afterwards (docs/recorders.md#permissions)",
            before.gid
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::judge::healthy_host::sound;

    fn owned(uid: u32, gid: u32, mode: u32) -> Owned {
        Owned {
            uid,
            gid,
            mode,
            listed: false,
        }
    }

    fn with(name: &str, owned: Owned) -> Facts {
        let mut facts = sound();
        let folder = facts
            .folders
            .iter_mut()
            .find(|folder| folder.name == name)
            .unwrap();
        let FolderState::There { owned: was, .. } = &mut folder.state else {
            panic!("{:?}", folder.state)
        };
        *was = owned;
        facts
    }

    #[test]
    fn on_a_sound_host_there_is_nothing_to_do() {
        let plan = plan(&sound(), &[], None);
        assert_eq!((plan.changes, plan.refused), (vec![], Vec::<String>::new()));
    }

    #[test]
    fn what_would_lock_a_recorder_out_is_refused_with_why() {
        let mut facts = with("episodes", owned(77, 20, 0o770));
        let shipped = facts.folders.iter_mut().find(|it| it.name == "shipped");
        if let FolderState::There { owned: was, .. } = &mut shipped.unwrap().state {
            *was = owned(77, 99, 0o755);
        }
        let said = plan(&facts, &[], None);
        assert_eq!(said.changes, []);
        assert!(
            said.refused[0].contains("who records in episodes/"),
            "{said:?}"
        );
        // Root's is given away, and another user's, who is not known to record.
        for uid in [0, 55] {
            let said = plan(&with("shipped", owned(uid, 99, 0o755)), &[], None);
            assert!(
                said.refused.is_empty() && said.changes.len() == 1,
                "{said:?}"
            );
        }
        let listed = Owned {
            listed: true,
            ..owned(10, 20, 0o777)
        };
        let said = plan(&with("shipped", listed), &[], None);
        assert!(said.refused[0].contains("access control list"), "{said:?}");
    }

    #[test]
    fn a_daemon_that_runs_hears_of_what_was_changed_for_it() {
        let mut facts = sound();
        facts.unit.as_mut().unwrap().watchdog = "0".to_owned();
        let said = plan(&facts, &[], None);
        let units: Vec<_> = said.changes.iter().skip(1).cloned().collect();
        assert_eq!(
            units,
            [Change::Unit("daemon-reload"), Change::Unit("restart")]
        );
    }

    #[test]
    fn no_recorder_writes_in_the_outbox_and_so_it_is_opened_whoever_records() {
        for name in ["outbox", ".sealift"] {
            let mut facts = with("episodes", owned(77, 20, 0o2770));
            let folder = facts.folders.iter_mut().find(|it| it.name == name);
            if let FolderState::There { owned: was, .. } = &mut folder.unwrap().state {
                *was = owned(77, 99, 0o775);
            }
            let said = plan(&facts, &[], None);
            assert!(
                said.refused.is_empty() && said.changes.len() == 1,
                "{said:?}"
            );
        }
    }

    #[test]
    fn a_home_and_a_folder_of_the_system_stay_closed_but_to_their_own_user() {
        for (path, uid, is_refused) in [
            ("/root", 0, true),
            ("/root/data", 0, true),
            ("/home/ann", 55, true),
            ("/home/ann/data", 55, true),
            ("/home/sealift", 10, false),
            ("/home", 0, true),
            ("/srv", 0, true),
            ("/srv/data", 0, false),
            ("/rootless", 0, false),
            ("/homes/ann", 55, false),
        ] {
            let mut facts = sound();
            let way = vec![(PathBuf::from(path), owned(uid, uid, 0o600))];
            facts.folders[1].way = way.clone();
            facts.settings.owned = Some(owned(0, 20, 0o640));
            facts.settings.way = way;
            let said = plan(&facts, &[], None);
            assert_eq!(said.refused.is_empty(), !is_refused, "{path}: {said:?}");
            assert_eq!(said.changes.is_empty(), is_refused, "{path}: {said:?}");
            if is_refused {
                assert!(said.refused[0].contains("elsewhere"), "{said:?}");
            }
        }
    }

    #[test]
    fn its_own_folder_is_made_for_who_ships_only_where_that_user_cannot() {
        let mut facts = sound();
        facts.private_in = Some(("/d".into(), owned(0, 0, 0o755)));
        let made = [Change::MakeFolder("/d/.sealift".into(), 10, 20)];
        assert_eq!(plan(&facts, &[], None).changes, made);
        for writable in [owned(10, 0, 0o700), owned(0, 20, 0o770), owned(0, 0, 0o777)] {
            facts.private_in = Some(("/d".into(), writable));
            assert_eq!(plan(&facts, &[], None).changes, []);
        }
    }

    #[test]
    fn where_a_link_is_in_the_way_nothing_behind_it_is_changed() {
        let mut facts = with("outbox", owned(0, 0, 0o700));
        let (episodes, outbox) = (PathBuf::from("/d/episodes"), PathBuf::from("/d/outbox"));
        facts.in_the_way = vec![(outbox.join("a.tar.zst"), "a folder")];
        for folder in &mut facts.folders[..2] {
            folder.link = Some(ownership::Link::Foreign(folder.path.clone()));
            folder.way = vec![("/roots/closed".into(), owned(0, 0, 0o700))];
        }
        let loose = Some(episodes.join("done.marker"));
        let said = plan(&facts, &[episodes.join("a")], loose);
        assert_eq!((said.changes, said.refused.len()), (vec![], 2));
    }

    #[test]
    fn for_a_user_that_is_not_there_nothing_is_planned() {
        let mut facts = with("shipped", owned(55, 55, 0o700));
        facts.people.shipper = None;
        facts.people.unknown_user = Some("gone".to_owned());
        let said = plan(&facts, &[], None);
        assert_eq!(said.changes, []);
        assert!(said.refused[0].contains("as user gone"), "{said:?}");
    }
}
