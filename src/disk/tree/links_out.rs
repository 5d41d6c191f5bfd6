//! Symlinks that lead out of an episode: what they lead to is not in the archive. An annex
//! (git-annex, datalad) makes such a link of each file, so that an episode of one ships nothing but
//! names.

use std::path::PathBuf;

use super::{in_words, to_path};

/// So many are named.
const MAX_NAMED: usize = 3;

/// Those of one episode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinksOut {
    /// How many.
    pub count: u64,
    /// The first few, relative to the episode.
    pub first: Vec<PathBuf>,
}

impl LinksOut {
    /// Takes note of a symlink of the episode, where it is such a one.
    pub(crate) fn note(&mut self, path: &[u8], target: &[u8]) {
        if leads_out(path, target) {
            self.count += 1;
            if self.first.len() < MAX_NAMED {
                self.first.push(to_path(path));
            }
        }
    }

    /// What is said of them; `None` where there are none.
    pub(crate) fn warning(&self) -> Option<String> {
        let named = self.first.iter().map(|path| in_words(path));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match self.count.checked_sub(self.first.len() as u64) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        let (what, lead) = match self.count {
            0 => return None,
            1 => ("symlink leads", "the link is shipped, not what it leads"),
            _ => ("symlinks lead", "the links are shipped, not what they lead"),
        };
        Some(format!(
            "{} {what} out of the episode ({named}{more}): only {lead} to. Copy the content in (cp -L; for git-annex or \
             datalad: git annex unlock), and seal it then",
            self.count
        ))
    }
}

/// Whether a link at this path, relative to the episode, leads out of it, going by the names alone.
fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut depth = path.split(|byte| *byte == b'/').count() - 1;
    target.split(|byte| *byte == b'/').any(|name| {
        match name {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_out_where_it_begins_at_the_root_or_climbs_above_the_episode() {
        for (path, target, is_out) in [
            ("a", "b", false),
            ("a", "./b/../c", false),
            ("a", "../b", true),
            ("d/a", "../b", false),
            ("d/a", "../../.git/annex/objects/x", true),
            ("d/a", "e/../../../b", true),
            ("a", "/etc/passwd", true),
        ] {
            assert_eq!(
                leads_out(path.as_bytes(), target.as_bytes()),
                is_out,
                "{path} -> {target}"
            );
        }
    }

    #[test]
    fn the_first_few_are_named_and_all_are_counted() {
        let mut links = LinksOut::default();
        assert_eq!(links.warning(), None);
        for n in 0..5 {
            links.note(format!("data-{n}").as_bytes(), b"/annex/x");
            links.note(b"inside", b"data-0");
        }
        let said = links.warning().unwrap();
        assert!(
            said.starts_with(
                "5 symlinks lead out of the episode (data-0, data-1, data-2 and 2 more): "
            ),
            "{said}"
        );
    }
}
