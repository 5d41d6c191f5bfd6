//! `receiver-commit`: does it take what is recorded here?

use crate::{
    model::episode::Commit,
    operate::doctor::{
        facts::{AskedCommit, Facts, ReceiverFacts},
        judge::quarantine::remedy,
        row::{DoctorRow, Id},
        words::{COMMIT_IN_META, Fix, path},
    },
};

pub(super) fn commit_taken(receiver: &ReceiverFacts) -> DoctorRow {
    let id = Id::ReceiverCommit;
    match &receiver.commit {
        AskedCommit::Of(episode, commit) | AskedCommit::Last(episode, commit) => DoctorRow::green(
            id,
            format!("It takes recordings of {}, as {episode} is.", short(commit)),
        )
        .with("commit", commit.as_str())
        .with("episode_id", episode.as_str()),
        AskedCommit::None
        | AskedCommit::LastNone
        | AskedCommit::NoEpisodes
        | AskedCommit::Unknown => {
            DoctorRow::green(id, "It takes recordings whatever their commit.")
        }
    }
}

fn short(commit: &Commit) -> &str {
    let commit = commit.as_str();
    commit.get(..12).unwrap_or(commit)
}

/// Red only for what is still here: what left does not come back, and the next recording may be of
/// another commit.
pub(super) fn commit_refused(facts: &Facts, receiver: &ReceiverFacts, said: &str) -> DoctorRow {
    let id = Id::ReceiverCommit;
    let (fix, more) = match remedy(facts) {
        Some(fix) => (Fix::theirs(fix), ""),
        None => (
            facts.hands.configure("reload"),
            " Set doctor.update_command to what updates this host.",
        ),
    };
    match &receiver.commit {
        AskedCommit::Of(episode, commit) => {
            let commit_shown = short(commit);
            let summary = format!(
                "It does not take recordings of {commit_shown}, as {episode} is: {said}.{more}"
            );
            DoctorRow::red(id, summary, fix)
                .with("commit", commit.as_str())
                .with("episode_id", episode.as_str())
        }
        AskedCommit::Last(episode, commit) => {
            let summary = format!(
                "The last that was recorded here, {episode}, was of {}, which is not taken any more: {said}. The next decides.{more}",
                short(commit)
            );
            DoctorRow::yellow(id, summary, fix)
                .with("commit", commit.as_str())
                .with("episode_id", episode.as_str())
        }
        AskedCommit::None
        | AskedCommit::LastNone
        | AskedCommit::NoEpisodes
        | AskedCommit::Unknown => DoctorRow::red(
            id,
            format!("It takes no recordings from here: {said}.{more}"),
            fix,
        ),
    }
}

/// It takes recordings by their commit. Where there is no episode to ask with, that is no fault.
pub(super) fn commit_missing(facts: &Facts, receiver: &ReceiverFacts, said: &str) -> DoctorRow {
    let id = Id::ReceiverCommit;
    let folder = |name: &str| {
        let folder = facts.folders.iter().find(|folder| folder.name == name);
        folder.map(|folder| path(&folder.path)).unwrap_or_default()
    };
    let fix = |name: &str| {
        let theirs = facts.settings.update_command.clone().map(Fix::theirs);
        let without = || {
            let folder = folder(name);
            let has_one = "grep -qs code_version {}/meta.json";
            let find = format!(
                "find {folder} -mindepth 1 -maxdepth 1 -type d ! -exec {has_one} ';' -printf '%p/meta.json\\n'"
            );
            let again = facts.hands.sealift("requeue --all --status 400");
            Fix::from(facts.hands.as_root(&find)).then(format!(
                "Each that it shows lacks its commit: have the recorder write {COMMIT_IN_META} into meta.json before it seals. What was \
                 rejected for that is in quarantine/: write it there, `sealift seal --again` the folder, then: {again}"
            ))
        };
        theirs.unwrap_or_else(without)
    };
    match &receiver.commit {
        AskedCommit::NoEpisodes => DoctorRow::green(
            id,
            "It takes recordings by their commit, and there is no episode here yet to ask with.",
        ),
        AskedCommit::Unknown => {
            let summary = "It takes recordings by their commit; which that is here could not be seen in the time: the disk is slow, or there are very many.";
            DoctorRow::yellow(id, summary, format!("ls -U {}", folder("episodes")))
        }
        AskedCommit::LastNone => {
            let summary = format!(
                "It takes recordings by their commit. Nothing is here to ask with, and what was here last did not say its own (code_version.commit in meta.json): {said}.{}",
                meta_fault(receiver)
            );
            DoctorRow::yellow(id, summary, fix("shipped"))
        }
        AskedCommit::None | AskedCommit::Of(..) | AskedCommit::Last(..) => {
            let summary = format!(
                "It takes recordings by their commit, and those here do not say theirs (code_version.commit in meta.json): {said}.{}",
                meta_fault(receiver)
            );
            DoctorRow::red(id, summary, fix("episodes"))
        }
    }
}

fn meta_fault(receiver: &ReceiverFacts) -> String {
    receiver
        .meta_fault
        .as_ref()
        .map(|fault| format!(" {fault}."))
        .unwrap_or_default()
}
