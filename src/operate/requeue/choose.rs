//! Which of those that were found are taken, and what is said of the others. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Candidate, Origin, RequeueEnd, RequeueOptions, RequeueRow, find::RequeueCandidates, word,
};
use crate::model::{episode::EpisodeId, layout::is_same_in_any_case, text::printable};

pub(super) fn choose(options: &RequeueOptions, found: &mut RequeueCandidates) {
    let nameless: Vec<_> = options
        .ids
        .iter()
        .filter(|wanted| !is_found(options, found, wanted))
        .collect();
    found
        .left
        .extend(nameless.into_iter().map(|wanted| unknown(options, wanted)));

    let mut by_id = BTreeMap::<EpisodeId, Vec<Candidate>>::new();
    for candidate in std::mem::take(&mut found.candidates) {
        if let Some(status) = options
            .status
            .filter(|status| candidate.status != Some(*status))
        {
            // Of what was not named nothing is expected.
            if !options.ids.is_empty() {
                found
                    .left
                    .push(candidate.left(other_status(&candidate, status)));
            }
            continue;
        }
        by_id
            .entry(candidate.id.clone())
            .or_default()
            .push(candidate);
    }
    for (_, mut candidates) in by_id {
        match candidates.as_slice() {
            [_] => found.candidates.append(&mut candidates),
            several => {
                let why = which_one(options, several);
                found
                    .left
                    .extend(several.iter().map(|candidate| candidate.left(why.clone())));
            }
        }
    }
}

fn is_found(options: &RequeueOptions, found: &RequeueCandidates, wanted: &EpisodeId) -> bool {
    let is_it = |id: &EpisodeId, folder: Option<&std::path::Path>| {
        let named = |folder: &std::path::Path| {
            folder
                .file_name()
                .is_some_and(|name| is_same_in_any_case(name, wanted.as_str()))
        };
        if options.by_folder {
            folder.is_some_and(named)
        } else {
            id == wanted
        }
    };
    found
        .candidates
        .iter()
        .any(|it| is_it(&it.id, Some(&it.folder)))
        || found
            .left
            .iter()
            .any(|it| is_it(&it.episode_id, it.folder.as_deref()))
}

fn unknown(options: &RequeueOptions, wanted: &EpisodeId) -> RequeueRow {
    let what = match (options.from, options.by_folder) {
        (None, false) => "it is neither in quarantine/ nor in conflict",
        (Some(Origin::Quarantine), false) => "it is not in quarantine/",
        (Some(Origin::Conflict), _) => "it is not in conflict",
        (Some(Origin::Shipped), false) => "it is not in shipped/ with a receipt of ours",
        (Some(Origin::Shipped), true) => {
            "shipped/ has no folder of that name with a receipt of ours"
        }
        (None | Some(Origin::Quarantine), true) => "quarantine/ has no folder of that name",
    };
    let why = format!(
        "{what}. To see where it is, type: {}",
        options.command(&format!("trace {}", word(wanted)))
    );
    RequeueRow {
        episode_id: wanted.clone(),
        from: None,
        status: None,
        folder: None,
        end: RequeueEnd::Left(why),
    }
}

fn other_status(candidate: &Candidate, wanted: u16) -> String {
    match candidate.status {
        Some(status) => format!("it was answered {status}, and not {wanted}"),
        None => format!("no answer was {wanted}: it is its own content that is at fault"),
    }
}

/// Several folders hold the episode: a person says which, and none is taken until then.
fn which_one(options: &RequeueOptions, several: &[Candidate]) -> String {
    let places: BTreeSet<_> = several
        .iter()
        .map(|candidate| candidate.from().to_string())
        .collect();
    let each = several.iter().map(|candidate| {
        let status = candidate
            .status
            .map_or_else(|| "no status".to_owned(), |status| status.to_string());
        let id = word(&candidate.id);
        let how = match (
            places.len(),
            candidate.folder.file_name().and_then(|name| name.to_str()),
        ) {
            (1, Some(name)) => {
                let name = EpisodeId::parse(name).map_or(id, |name| word(&name));
                format!("--folder --from {} {name}", candidate.from())
            }
            _ => format!("--from {} {id}", candidate.from()),
        };
        format!(
            "{}   ({status})",
            options.command(&format!("requeue {how}"))
        )
    });
    let each: Vec<_> = each.collect();
    printable(&format!(
        "{} of this episode are there, and none was taken. Type one of: {}",
        several.len(),
        each.join("; ")
    ))
}
