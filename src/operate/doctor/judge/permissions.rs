//! Which user may do what, by owner, group and mode (path_resolution(7)), and what to type where
//! one may not.

use crate::operate::doctor::{
    facts::{Owned, People, Person},
    words::CommandContext,
};

/// Read, write and search permission, as in one digit of a mode.
pub(in crate::operate::doctor) const READ: u32 = 4;
pub(in crate::operate::doctor) const WRITE: u32 = 2;
pub(in crate::operate::doctor) const SEARCH: u32 = 1;
pub(in crate::operate::doctor) const ALL: u32 = 7;

impl Person {
    /// Whether the mode lets them. Where there is an access control list besides, which may grant
    /// more, nothing is said against it; a mount that is read-only is not known here.
    pub(in crate::operate::doctor) fn may(&self, bits: u32, owned: Owned) -> bool {
        let granted = if self.uid == 0 || owned.listed {
            return true;
        } else if self.uid == owned.uid {
            owned.mode >> 6
        } else if self.is_in(owned.gid) {
            owned.mode >> 3
        } else {
            owned.mode
        };
        granted & bits == bits
    }

    pub(in crate::operate::doctor) fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

impl People {
    /// The user that ships; where that is not known, the calling user.
    pub(in crate::operate::doctor) fn shipper(&self) -> &Person {
        self.shipper.as_ref().unwrap_or(&self.us)
    }

    /// Whether what we may not do says anything of who ships. Where that is not known, it does not.
    pub(super) fn we_see_as_the_shipper(&self) -> bool {
        self.us.uid == 0
            || self
                .shipper
                .as_ref()
                .is_some_and(|shipper| shipper.uid == self.us.uid)
    }
}

/// The doctor, once more, as a user who may.
pub(super) fn as_shipper(hands: &CommandContext, people: &People) -> String {
    let doctor = hands.sealift("doctor");
    match &people.shipper {
        Some(shipper) if shipper.uid != 0 && !hands.root => {
            format!(
                "sudo -u {} {doctor}",
                crate::operate::doctor::words::word(&shipper.name)
            )
        }
        _ => hands.as_root(&doctor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides_as_the_kernel_does_it() {
        let person = Person {
            uid: 10,
            gid: 20,
            groups: vec![20, 30],
            ..Person::default()
        };
        for (uid, gid, mode, may) in [
            (10, 99, 0o700, true),
            (10, 20, 0o077, false),
            (1, 20, 0o070, true),
            (1, 30, 0o2770, true),
            (1, 30, 0o707, false),
            (1, 2, 0o007, true),
            (1, 2, 0o775, false),
        ] {
            assert_eq!(
                person.may(
                    ALL,
                    Owned {
                        uid,
                        gid,
                        mode,
                        listed: false
                    }
                ),
                may,
                "{uid} {gid} {mode:o}"
            );
        }
        let root = Person::default();
        assert!(root.may(
            ALL,
            Owned {
                uid: 1,
                gid: 1,
                ..Owned::default()
            }
        ));
        assert!(person.may(
            ALL,
            Owned {
                uid: 1,
                gid: 1,
                mode: 0,
                listed: true
            }
        ));
    }
}
