//! `moves`: whether what is shipped can be moved out of `episodes/`, as was tried at the start and
//! met since.

use super::DaemonChecks;
use crate::{
    model::snapshot::{self, TrialFinding, TrialKind},
    operate::doctor::{
        row::{DoctorRow, Id, RowStatus},
        words::path,
    },
};

/// The worst first, each with its colour. What is in none of these rows works.
const BY_WEIGHT: [(TrialKind, RowStatus); 7] = [
    (TrialKind::Elsewhere, RowStatus::Red),
    (TrialKind::NotPermitted, RowStatus::Red),
    (TrialKind::Sticky, RowStatus::Red),
    (TrialKind::Stuck, RowStatus::Red),
    (TrialKind::Unmovable, RowStatus::Red),
    (TrialKind::CopiesOnOneDevice, RowStatus::Yellow),
    (TrialKind::UnmovableOpen, RowStatus::Yellow),
];

/// The finding that matters most, how bad it is, and what is said of it: that there are others of
/// the same weight is said beside it.
pub(in crate::operate::doctor::judge) fn worst(
    findings: &[TrialFinding],
) -> Option<(RowStatus, &TrialFinding, String)> {
    let (status, first) = BY_WEIGHT.iter().find_map(|(kind, status)| {
        let found = findings.iter().find(|finding| finding.kind == *kind)?;
        Some((*status, found))
    })?;
    let is_alike = |kind| matches!(kind, TrialKind::Stuck | TrialKind::Unmovable);
    let others = findings.iter().filter(|other| {
        is_alike(first.kind) && is_alike(other.kind) && !std::ptr::eq(*other, first)
    });
    let said = others.fold(first.what_to_do.clone(), |text, other| {
        format!("{text} Besides: {}.", other.in_short)
    });
    Some((status, first, said))
}

impl DaemonChecks<'_> {
    /// One that was delivered and cannot be moved, since its stamps move again and again.
    pub(in crate::operate::doctor::judge) fn stamps_move(self) -> Option<DoctorRow> {
        let episode = self.snapshot.stamps_move.as_ref()?;
        let said = format!("{}.", snapshot::stamps_move(episode));
        let fix = format!("findmnt --target {}", path(&self.layout.episodes));
        Some(DoctorRow::red(Id::Moves, said, fix).with("stamps_move", episode.clone()))
    }

    /// Each finding by itself, the worst first, with its own fix. Where it has none, the doctor
    /// looks at folders and unit, and has one.
    pub(super) fn moves(self) -> impl Iterator<Item = DoctorRow> {
        BY_WEIGHT.iter().flat_map(move |(kind, status)| {
            let of_kind = self.snapshot.trial.iter().filter(|it| it.kind == *kind);
            of_kind.map(move |finding| {
                let fix = match &finding.fix {
                    Some(fix) => self.hands.tried_again(self.hands.typed(fix)),
                    None => self.hands.sealift(self.more).into(),
                };
                DoctorRow::of(Id::Moves, *status, &finding.what_to_do, fix)
            })
        })
    }
}
