//! The commit window: of which commits' recordings are taken.
//!
//! ```text
//!  # release 7          a comment, alone or behind a commit
//!  9f2c...              the newest stands first: the head
//!  41ab...              still taken
//! ```
//!
//! Pure: no I/O. A file that is empty or has a broken line is no window at all: half of one would
//! turn hosts away that are in it, and what is turned away so ends up in their quarantine.

use std::collections::HashSet;

use crate::model::{
    episode::Commit,
    text::printable,
    wire::{CODE_COMMIT, Problem, ProblemType},
};

/// How much of a broken line is shown, characters.
const SHOWN_CHARS: usize = 60;

/// The commits that are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitWindow {
    head: Commit,
    commits: HashSet<Commit>,
}

/// Why a file is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It has no line that counts.
    #[error("holds no commit; it must have one a line, 40 hexadecimal digits, the newest first")]
    Empty,
    /// A line is neither a commit nor a comment.
    #[error("line {number}: not a commit of 40 hexadecimal digits: {shown}")]
    Broken {
        /// Which, from 1.
        number: usize,
        /// Its beginning, printable.
        shown: String,
    },
}

impl CommitWindow {
    /// Reads one commit a line, the newest first. Blank lines, and what stands behind `#`, do not
    /// count.
    ///
    /// # Errors
    /// [`WindowError`].
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let mut head = None;
        let mut commits = HashSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let commit = Commit::parse(line).ok_or_else(|| WindowError::Broken {
                number,
                shown: printable(&line.chars().take(SHOWN_CHARS).collect::<String>()),
            })?;
            head.get_or_insert_with(|| commit.clone());
            commits.insert(commit);
        }
        head.map(|head| Self { head, commits })
            .ok_or(WindowError::Empty)
    }

    /// How many commits are taken.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether recordings of this commit are taken; `said` is what the request says of it,
    /// `remediation` what a host outside is told to do.
    ///
    /// # Errors
    /// `commit-missing`, and `commit-out-of-window` with `your_commit`, `head_commit` and
    /// `remediation`.
    pub fn admit(&self, said: &SaidCommit, remediation: &str) -> Result<(), Problem> {
        let missing = |what: &str| {
            let detail = format!(
                "{what} {CODE_COMMIT}: 40 hexadecimal digits of the code that recorded this."
            );
            Err(Problem::new(ProblemType::CommitMissing, detail))
        };
        let commit = match said {
            SaidCommit::Nothing => {
                return missing("Recordings are taken by commit, and there is no");
            }
            SaidCommit::Malformed => {
                return missing("Recordings are taken by commit, and this is not one line of");
            }
            SaidCommit::Commit(commit) => commit,
        };
        if self.commits.contains(commit) {
            return Ok(());
        }
        let detail = format!(
            "Recordings of {} are not taken any more, or not yet; the newest that are taken are of {}.",
            commit.as_str(),
            self.head.as_str()
        );
        Err(Problem::new(ProblemType::CommitOutOfWindow, detail)
            .with("your_commit", commit.as_str())
            .with("head_commit", self.head.as_str())
            .with("remediation", remediation))
    }
}

/// What a request says of the commit that recorded its episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaidCommit {
    /// Nothing.
    Nothing,
    /// Something else than one commit.
    Malformed,
    /// This.
    Commit(Commit),
}

impl SaidCommit {
    /// Reads it out of a request's headers.
    #[must_use]
    pub fn of(headers: &http::HeaderMap) -> Self {
        let mut lines = headers.get_all(CODE_COMMIT).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Nothing,
            (Some(line), None) => line
                .to_str()
                .ok()
                .and_then(Commit::parse)
                .map_or(Self::Malformed, Self::Commit),
            (Some(_), Some(_)) => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn commit(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    #[test]
    fn the_newest_stands_first_and_comments_and_blank_lines_do_not_count() {
        let text = format!(
            "# window\r\n\r\n  {}  # release 7\r\n\n{}\n{}",
            commit('A'),
            commit('b'),
            commit('b')
        );
        let window = CommitWindow::parse(&text).unwrap();
        assert_eq!(
            (window.head.as_str(), window.len()),
            (commit('a').as_str(), 2)
        );
    }

    #[test]
    fn an_empty_file_is_no_window_and_a_broken_line_is_named_by_its_number() {
        for empty in ["", "\n\n", "# nothing\n"] {
            assert_eq!(
                CommitWindow::parse(empty),
                Err(WindowError::Empty),
                "{empty:?}"
            );
        }
        // The last is what a file that is still being written looks like.
        for broken in ["main", "\u{1b}[2J", &"g".repeat(500), &commit('a')[..39]] {
            let text = format!("{}\n\n{broken}\n{}", commit('a'), commit('b'));
            let error = CommitWindow::parse(&text).unwrap_err();
            assert!(
                matches!(error, WindowError::Broken { number: 3, .. }),
                "{error:?}"
            );
            let shown = error.to_string();
            assert!(!shown.contains('\u{1b}') && shown.len() < 200, "{shown}");
        }
    }

    #[test]
    fn every_way_to_say_a_commit_meets_the_window() {
        let window = CommitWindow::parse(&format!("{}\n{}", commit('a'), commit('b'))).unwrap();
        let (upper, inside, outside, short) =
            (commit('A'), commit('b'), commit('c'), "abc".to_owned());
        for (lines, expected) in [
            (vec![&upper], None),
            (vec![&inside], None),
            (vec![&outside], Some(ProblemType::CommitOutOfWindow)),
            (vec![], Some(ProblemType::CommitMissing)),
            (vec![&short], Some(ProblemType::CommitMissing)),
            (vec![&inside, &inside], Some(ProblemType::CommitMissing)),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(CODE_COMMIT, HeaderValue::from_str(line).unwrap());
            }
            let told = window.admit(&SaidCommit::of(&headers), "update");
            assert_eq!(
                told.err().map(|problem| problem.kind),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn who_is_outside_is_told_both_commits_and_what_to_do() {
        let window = CommitWindow::parse(&commit('a')).unwrap();
        let said = SaidCommit::Commit(Commit::parse(&commit('c')).unwrap());
        let body = window.admit(&said, "run the update").unwrap_err().to_json();
        assert_eq!(body["your_commit"], commit('c'));
        assert_eq!(body["head_commit"], commit('a'));
        assert_eq!(body["remediation"], "run the update");
    }
}
