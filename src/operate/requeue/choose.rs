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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::layout::Layout, operate::requeue::FiledRecord};

    fn id(name: &str) -> EpisodeId {
        EpisodeId::parse(name).unwrap()
    }

    fn options(ids: &[&str]) -> RequeueOptions {
        RequeueOptions {
            layout: Layout::below(std::path::Path::new("/d")),
            ids: ids.iter().map(|name| id(name)).collect(),
            by_folder: false,
            status: None,
            from: None,
            unasked: false,
            unpack: None,
            dry_run: false,
            concurrency: 1,
            typed: " --data /d".to_owned(),
        }
    }

    fn rejected(name: &str, folder: &str, status: Option<u16>) -> Candidate {
        Candidate {
            id: id(name),
            folder: std::path::Path::new("/d/quarantine").join(folder),
            status,
            record: FiledRecord::Rejected(None),
        }
    }

    fn in_conflict(name: &str) -> Candidate {
        Candidate {
            id: id(name),
            folder: std::path::Path::new("/d/episodes").join(name),
            status: Some(409),
            record: FiledRecord::Conflict,
        }
    }

    /// The folders that are taken, and what is said of the others.
    fn chosen(options: &RequeueOptions, candidates: Vec<Candidate>) -> (Vec<String>, Vec<String>) {
        let mut found = RequeueCandidates {
            candidates,
            ..RequeueCandidates::default()
        };
        choose(options, &mut found);
        let taken = found.candidates.iter();
        let left = found.left.into_iter().map(|row| match row.end {
            RequeueEnd::Left(why) => why,
            other => panic!("{other:?}"),
        });
        (
            taken.map(|it| it.folder.display().to_string()).collect(),
            left.collect(),
        )
    }

    #[test]
    fn what_is_alone_under_its_id_is_taken() {
        let all = vec![
            rejected("a", "a", Some(422)),
            rejected("b", "b", None),
            in_conflict("c"),
        ];
        let (taken, left) = chosen(&options(&[]), all);
        let expected = ["/d/quarantine/a", "/d/quarantine/b", "/d/episodes/c"];
        assert_eq!(taken, expected);
        assert_eq!(left, [""; 0]);
    }

    #[test]
    fn of_two_of_one_id_none_is_taken_and_each_is_named_by_what_tells_it_from_the_other() {
        let two = vec![rejected("a", "a", Some(422)), rejected("a", "a~1", None)];
        let (taken, left) = chosen(&options(&["a"]), two);
        assert_eq!((taken, left.len()), (Vec::new(), 2));
        for typed in [
            "sealift requeue --folder --from quarantine 'a' --data /d   (422)",
            "sealift requeue --folder --from quarantine 'a~1' --data /d   (no status)",
        ] {
            assert!(left.iter().all(|why| why.contains(typed)), "{left:?}");
        }
        let two = vec![rejected("a", "a", Some(422)), in_conflict("a")];
        let (taken, left) = chosen(&options(&[]), two);
        assert_eq!(taken, [""; 0]);
        for typed in [
            "requeue --from quarantine 'a' ",
            "requeue --from conflict 'a' ",
        ] {
            assert!(left.iter().all(|why| why.contains(typed)), "{left:?}");
        }
    }

    #[test]
    fn of_another_status_only_what_was_named_is_told() {
        let all = || vec![rejected("a", "a", Some(412)), rejected("b", "b", None)];
        for (ids, says) in [
            (&[][..], &[][..]),
            (&["b"], &["it is its own content"]),
            (&["a", "b"], &["it is its own content"]),
        ] {
            let only = RequeueOptions {
                status: Some(412),
                ..options(ids)
            };
            let named = all().into_iter();
            let named = named.filter(|it| ids.is_empty() || ids.contains(&it.id.as_str()));
            let (taken, left) = chosen(&only, named.collect());
            assert_eq!(taken.len(), usize::from(ids != ["b"]));
            assert_eq!(left.len(), says.len(), "{left:?}");
            assert!(left.iter().zip(says).all(|(why, says)| why.contains(says)));
        }
        let other = RequeueOptions {
            status: Some(400),
            ..options(&["a"])
        };
        let (_, left) = chosen(&other, vec![rejected("a", "a", Some(412))]);
        assert_eq!(left, ["it was answered 412, and not 400"]);
    }

    #[test]
    fn what_is_not_there_is_said_for_the_place_that_was_looked_in() {
        for (from, by_folder, says) in [
            (None, false, "it is neither in quarantine/ nor in conflict."),
            (None, true, "quarantine/ has no folder of that name."),
            (Some(Origin::Quarantine), false, "it is not in quarantine/."),
            (Some(Origin::Conflict), false, "it is not in conflict."),
            (
                Some(Origin::Shipped),
                false,
                "it is not in shipped/ with a receipt of ours.",
            ),
            (
                Some(Origin::Shipped),
                true,
                "shipped/ has no folder of that name with a receipt of ours.",
            ),
        ] {
            let named = RequeueOptions {
                from,
                by_folder,
                ..options(&["it's"])
            };
            let (_, left) = chosen(&named, Vec::new());
            let typed = r"type: sealift trace 'it'\''s' --data /d";
            assert_eq!(left, [format!("{says} To see where it is, {typed}")]);
        }
    }

    #[test]
    fn a_folder_is_found_by_its_name_in_any_letter_case_and_not_by_whose_it_is() {
        let by_folder = RequeueOptions {
            by_folder: true,
            ..options(&["A~1"])
        };
        let (taken, left) = chosen(&by_folder, vec![rejected("run-7", "a~1", Some(422))]);
        assert_eq!((taken.len(), left.len()), (1, 0), "{left:?}");
        let (_, left) = chosen(&by_folder, vec![rejected("A~1", "b", Some(422))]);
        assert!(left[0].contains("no folder of that name"), "{left:?}");
    }
}
