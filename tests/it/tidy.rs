//! The house stays in order: which room imports which, what is pure, and what the documents say of
//! the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::sealift;

/// The rooms of `src/`, and which others each may import: only such as stand above it here, so that
/// there is no circle.
const ROOMS: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("clock", &["model"]),
    ("config", &["model"]),
    ("disk", &["model", "clock"]),
    ("http", &["model", "config"]),
    ("ship", &["model", "clock", "disk", "http"]),
    ("receive", &["model", "clock", "config", "disk"]),
    ("operate", &["model", "clock", "config", "disk", "http"]),
    (
        "cli",
        &[
            "model", "clock", "config", "disk", "http", "ship", "receive", "operate",
        ],
    ),
];
/// The steps of an episode's way: each does its own work, decides nothing and knows no other step.
const STEPS: [&str; 7] = [
    "watch",
    "pack",
    "transport",
    "retire",
    "quarantine",
    "orphan",
    "sweep",
];
/// What the steps share: these know no step at all.
const SHARED_BY_STEPS: [&str; 6] = [
    "outbox",
    "archive",
    "outcome",
    "shipped_lookup",
    "lock",
    "machine",
];
/// Calls that make, move or remove a name durably. One place has them all, so that one place can be
/// proven.
const DURABLE_CALLS: [&str; 14] = [
    "sync_all(",
    "sync_data(",
    "fsync(",
    "fdatasync(",
    "fs::rename(",
    "renameat(",
    "renameat_with(",
    "remove_file(",
    "remove_dir(",
    "remove_dir_all(",
    "unlinkat(",
    "unlink(",
    "hard_link(",
    "linkat(",
];
/// A room that is larger than this wants a wall.
const MAX_LINES: usize = 600;

struct Source {
    path: PathBuf,
    /// Relative to src/, such as `ship/machine/state.rs`.
    name: String,
    text: String,
    /// It, or a module above it, is declared under `#[cfg(test)]`.
    is_test: bool,
}

impl Source {
    /// What runs in the product: no comments, and nothing from the tests at the end of the file on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !self.is_test && !line.starts_with("mod tests {"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(n, line)| (n + 1, line))
    }

    fn is_in(&self, module: &str) -> bool {
        self.name == format!("{module}.rs") || self.name.starts_with(&format!("{module}/"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut sources: Vec<_> = files_below(&src, "rs")
        .into_iter()
        .map(|path| Source {
            name: path
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
            text: fs::read_to_string(&path).unwrap(),
            is_test: false,
            path,
        })
        .collect();
    let tests: Vec<_> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let module = module_of(&source.name).join("::");
        source.is_test = tests.iter().any(|test| is_below(&module, test));
    }
    sources
}

/// Modules in files of their own that a file declares for its tests.
fn test_modules(source: &Source) -> Vec<String> {
    let lines: Vec<_> = source.text.lines().collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names = declared.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'));
    let here = module_of(&source.name);
    names
        .map(|name| [here.as_slice(), &[name]].concat().join("::"))
        .collect()
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether a line of code names a module of this crate, by `crate::a::b`, `super::b` or inside a
/// `use` group.
fn names_module(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back().is_some_and(word);
        let after = line[at + path.len()..].chars().next().is_some_and(word);
        !before && !after
    })
}

/// Everything that a file imports from this crate, as `ship::pack`, whatever way the `use` is
/// written.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code: Vec<_> = source.code().collect();
    let mut found = Vec::new();
    let here: Vec<&str> = module_of(&source.name);
    // `use` trees, taken apart.
    let mut lines = code.iter().peekable();
    while let Some((n, line)) = lines.next() {
        let start = line.trim_start();
        let tree = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .find_map(|prefix| start.strip_prefix(prefix));
        let Some(tree) = tree else {
            // Paths in the middle of an expression.
            for prefix in ["crate::", "super::"] {
                for (at, _) in line.match_indices(prefix) {
                    let rest = &line[at..];
                    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                    found.extend(
                        absolute(&here, &rest[..end.unwrap_or(rest.len())]).map(|path| (*n, path)),
                    );
                }
            }
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some((_, more)) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        for path in expand(tree.trim_end_matches(';')) {
            found.extend(absolute(&here, &path).map(|path| (*n, path)));
        }
    }
    found
}

/// `ship/machine/state.rs` is the module `ship::machine::state`.
fn module_of(name: &str) -> Vec<&str> {
    let mut parts: Vec<_> = name.trim_end_matches(".rs").split('/').collect();
    if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
        parts.pop();
    }
    parts
}

/// A path as it stands in a file, from the crate's root; `None` for one into another crate.
fn absolute(here: &[&str], path: &str) -> Option<String> {
    let mut module = here.to_vec();
    let mut parts: Vec<_> = path
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    match *parts.first()? {
        "crate" => {
            module.clear();
            parts.remove(0);
        }
        "self" => {
            parts.remove(0);
        }
        "super" => {
            while parts.first() == Some(&"super") {
                module.pop();
                parts.remove(0);
            }
        }
        _ => return None,
    }
    module.extend(parts);
    Some(module.join("::"))
}

/// `a::{b, c::{d, e}}` into `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let (prefix, inside) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap()]);
    let (mut depth, mut piece, mut pieces) = (0, String::new(), Vec::new());
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                pieces.push(std::mem::take(&mut piece));
                continue;
            }
            _ => {}
        }
        piece.push(c);
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
        .iter()
        .flat_map(|piece| expand(piece))
        .map(|path| format!("{prefix}{path}"))
        .collect()
}

fn is_below(path: &str, module: &str) -> bool {
    path == module || path.starts_with(&format!("{module}::"))
}

#[track_caller]
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn use_trees_are_taken_apart() {
    assert_eq!(
        expand("a::{b, c::{d, e as f}}"),
        ["a::b", "a::c::d", "a::c::e"]
    );
    assert_eq!(
        absolute(&["ship", "pack"], "super::archive::X").unwrap(),
        "ship::archive::X"
    );
    assert_eq!(
        absolute(&["ship", "pack"], "crate::model").unwrap(),
        "model"
    );
    assert_eq!(absolute(&["ship"], "tokio::fs"), None);
    assert!(names_module("let x = std::fs::read(p)", "std::fs"));
    assert!(!names_module("rustix::fstat", "rustix::fs"));
}

#[test]
fn a_room_imports_only_those_that_it_stands_on() {
    for (n, (room, others)) in ROOMS.iter().enumerate() {
        let above: Vec<_> = ROOMS[..n].iter().map(|(name, _)| name).collect();
        assert!(
            others.iter().all(|other| above.contains(&other)),
            "{room} stands in a circle"
        );
    }
    let mut found = Vec::new();
    for source in sources() {
        if ["lib.rs", "main.rs", "testing.rs"].contains(&source.name.as_str()) {
            continue;
        }
        let this = module_of(&source.name)[0].to_owned();
        let Some((_, others)) = ROOMS.iter().find(|(room, _)| *room == this) else {
            found.push(format!("{} is in no room", source.name));
            continue;
        };
        for (line, path) in imports(&source) {
            let room = path.split("::").next().unwrap();
            if ROOMS.iter().any(|(name, _)| *name == room)
                && room != this
                && !others.contains(&room)
            {
                found.push(format!("{}:{line} imports {path}", source.name));
            }
        }
    }
    none("ROOMS says what each room may import", found);
}

#[test]
fn the_modules_of_a_room_stand_in_no_circle() {
    // `ship::daemon` of any path into it.
    let part = |path: &str| path.splitn(3, "::").take(2).collect::<Vec<_>>().join("::");
    let mut imported: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let this = part(&module_of(&source.name).join("::"));
        if this.contains("::") {
            let others = imports(&source).into_iter().map(|(_, path)| part(&path));
            let others = others.filter(|other| *other != this);
            imported.entry(this.clone()).or_default().extend(others);
        }
    }
    assert!(imported.len() > 60, "the modules were not found");
    // A module that imports none of those that are left is in no circle.
    loop {
        let left: BTreeSet<_> = imported.keys().cloned().collect();
        imported.retain(|_, others| !others.is_disjoint(&left));
        if imported.len() == left.len() {
            break;
        }
    }
    let found = imported.iter().map(|(this, others)| {
        let others: Vec<_> = others
            .iter()
            .filter(|other| imported.contains_key(*other))
            .map(String::as_str)
            .collect();
        format!("{this} imports {}", others.join(", "))
    });
    none("modules that import each other", found.collect());
}

#[test]
fn a_step_knows_no_other_step_nor_the_loop_nor_the_configuration() {
    let mut found = Vec::new();
    for source in sources() {
        let is_in = |module: &&str| source.is_in(&format!("ship/{module}"));
        let Some(this) = STEPS.into_iter().chain(SHARED_BY_STEPS).find(is_in) else {
            continue;
        };
        for (line, path) in imports(&source) {
            let mut others = STEPS.iter().filter(|other| **other != this);
            let names_another = others.any(|other| is_below(&path, &format!("ship::{other}")));
            if names_another || is_below(&path, "ship::daemon") || is_below(&path, "config") {
                found.push(format!("{}:{line} imports {path}", source.name));
            }
        }
    }
    none("steps meet in the daemon only", found);
}

#[test]
fn what_decides_has_no_disk_no_net_no_clock_and_no_dice() {
    const IMPURE: [&str; 12] = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "tokio",
        "rustix",
        "Instant",
        "SystemTime",
        "rand",
        "tracing",
        "RandomState",
    ];
    let pure = |source: &Source| {
        source.is_in("ship/machine")
            || source.is_in("receive/identity")
            || source.is_in("receive/window")
            || source.is_in("receive/range")
            || source.is_in("operate/fetch/answer")
            || source.is_in("operate/verify/judge")
            || source.is_in("operate/doctor/judge")
            || source.is_in("operate/doctor/facts")
            || source.is_in("operate/doctor/row")
            || source.is_in("operate/doctor/words")
            || source.is_in("operate/journal/entry")
            || source.is_in("operate/journal/class")
            || [
                "model/wire.rs",
                "model/episode.rs",
                "model/retention.rs",
                "http/url_template.rs",
                "receive/admit.rs",
                "receive/stored_episode.rs",
                "ship/outcome.rs",
            ]
            .contains(&source.name.as_str())
    };
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| pure(source)) {
        for (line, text) in source.code() {
            for word in IMPURE.iter().filter(|word| names_module(text, word)) {
                found.push(format!("{}:{line} names {word}", source.name));
            }
        }
    }
    none(
        "pure modules take the time and their seeds as arguments",
        found,
    );
}

/// A constant of a module: its name, its value in one line without what stands in quotes, and its
/// comment.
struct Constant {
    name: String,
    value: String,
    comment: String,
}

fn constants_of(source: &Source) -> Vec<Constant> {
    let (mut found, mut comment) = (Vec::new(), String::new());
    let mut lines = source.text.lines();
    while let Some(line) = lines.next() {
        if source.is_test || line.starts_with("mod tests {") {
            break;
        }
        if let Some(words) = line.strip_prefix("///") {
            comment += words;
            continue;
        }
        let said = std::mem::take(&mut comment);
        let plain = line.split_once("const ").filter(|(before, _)| {
            before.is_empty() || (before.starts_with("pub") && before.ends_with(' '))
        });
        let Some((name, value)) = plain.and_then(|(_, rest)| rest.split_once(": ")) else {
            continue;
        };
        let mut value = value.to_owned();
        while !value.ends_with(';') {
            value += lines.next().unwrap().trim();
        }
        found.push(Constant {
            name: name.to_owned(),
            value: value.split('"').step_by(2).collect(),
            comment: said,
        });
    }
    found
}

/// Whether a number is written here, and no part of a name such as `u32`.
fn has_number(text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !is_word(c))
        .any(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

/// The words in quotes behind `Promised in FILE:`, and the file.
fn promise(comment: &str) -> Option<(&str, &str)> {
    let (file, rest) = comment.split_once("Promised in ")?.1.split_once(": \"")?;
    Some((file.trim(), rest.split_once('"')?.0))
}

#[test]
fn each_number_of_the_machine_has_its_one_place_or_says_what_fixes_it() {
    const MOST: usize = 16;
    let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let manual = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (mut found, mut free) = (Vec::new(), 0);
    let sources = sources();
    for source in sources.iter().filter(|it| it.is_in("ship/machine")) {
        for Constant {
            name,
            value,
            comment,
        } in constants_of(source)
        {
            if !has_number(&value) || comment.contains("Fixed by ") {
                continue;
            }
            if let Some((file, words)) = promise(&comment) {
                let document = fs::read_to_string(root().join(file)).unwrap_or_default();
                if !in_one_line(&document).contains(words) {
                    found.push(format!("{}: {name}: {file} has no {words:?}", source.name));
                }
            } else if source.name == "ship/machine/limits.rs" {
                free += 1;
                if !manual.contains(&format!("| `{name}` |")) {
                    found.push(format!("{name} is not in docs/architecture.md"));
                }
            } else {
                found.push(format!("{}: {name}: {value}", source.name));
            }
        }
        // Nor is one hidden in what is done.
        for (line, text) in source.code().filter(|(_, text)| !text.contains("const ")) {
            let spans = text.split("Duration::from_").skip(1);
            for span in spans.filter_map(|span| span.split_once('(')) {
                if span.1.starts_with(|c: char| c.is_ascii_digit()) {
                    found.push(format!("{}:{line}: {}", source.name, text.trim()));
                }
            }
        }
    }
    none("numbers stand in limits.rs, or say what fixes them", found);
    assert!(free <= MOST, "{free} numbers could be others");
}

#[test]
fn every_fsync_rename_link_and_removal_is_in_durable() {
    let mut found = Vec::new();
    for source in sources() {
        if source.is_in("disk/durable") {
            continue;
        }
        for (line, text) in source.code() {
            let call = DURABLE_CALLS.iter().find(|call| {
                text.match_indices(*call).any(|(at, _)| {
                    let before = &text[..at];
                    let is_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
                    !is_word && !before.ends_with("durable::")
                })
            });
            if let Some(call) = call {
                found.push(format!("{}:{line} calls {call}..)", source.name));
            }
        }
    }
    none("go through durable.rs", found);
}

#[test]
fn no_room_is_too_large_and_none_is_a_cupboard() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            found.push(format!(
                "{} has {lines} lines, {MAX_LINES} are allowed",
                source.name
            ));
        }
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        if [
            "utils", "util", "common", "helpers", "helper", "misc", "core",
        ]
        .contains(&stem)
        {
            found.push(format!("{} is a cupboard: name what is in it", source.name));
        }
    }
    none("move the wall first", found);
}

/// The names of the types that a file defines, those of its tests apart.
fn types_of(source: &Source) -> Vec<String> {
    let defined = |line: &str| {
        let line = line
            .strip_prefix("pub ")
            .or_else(|| {
                line.strip_prefix("pub(")
                    .and_then(|line| Some(line.split_once(") ")?.1))
            })
            .unwrap_or(line);
        let (kind, rest) = line.split_once(' ')?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let name = rest.split(|c| !is_name(c)).next()?;
        (is_type && !name.is_empty()).then(|| name.to_owned())
    };
    source
        .code()
        .filter_map(|(_, line)| defined(line))
        .collect()
}

#[test]
fn no_two_types_have_one_name() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        for name in types_of(&source) {
            files.entry(name).or_default().insert(source.name.clone());
        }
    }
    assert!(files.len() > 400, "the types were not found");
    let twice = files.into_iter().filter(|(_, files)| files.len() > 1);
    let found = twice.map(|(name, files)| {
        let files: Vec<_> = files.into_iter().collect();
        format!("{name}: {}", files.join(", "))
    });
    none("one name for two things", found.collect());
}

#[test]
fn no_file_is_named_by_a_participle() {
    /// Nouns that end so.
    const NOUNS: [&str; 2] = ["logging", "housekeeping"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        let last = stem.rsplit('_').next().unwrap();
        if (last.ends_with("ing") || last.ends_with("ed")) && !NOUNS.contains(&stem) {
            found.push(source.name.clone());
        }
    }
    none("name what is in it", found);
}

#[test]
fn no_comment_and_no_document_is_wider_than_a_hundred_columns() {
    const COLUMNS: usize = 100;
    let wide = |line: &str| line.chars().count() > COLUMNS;
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files_below(&root().join(folder), "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (n, line) in text.lines().enumerate() {
                if line.trim_start().starts_with("//") && wide(line) {
                    found.push(format!("{}:{}", path.display(), n + 1));
                }
            }
        }
    }
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        // A row of a table cannot be broken.
        for (n, line) in text.lines().enumerate() {
            if wide(line) && !line.starts_with('|') {
                found.push(format!("{}:{}", path.display(), n + 1));
            }
        }
    }
    none("break the line", found);
}

fn documents() -> Vec<PathBuf> {
    let about_the_project = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    let mut found = manual();
    found.extend(about_the_project.map(|document| root().join(document)));
    found
}

/// What its users read.
fn manual() -> Vec<PathBuf> {
    let mut found = files_below(&root().join("docs"), "md");
    found.push(root().join("README.md"));
    found
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (n, line) in text.lines().enumerate() {
            for rest in line.split("](").skip(1) {
                let target = rest.split([')', ' ']).next().unwrap();
                if target.contains("://") {
                    continue;
                }
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if path.is_empty() {
                    document.clone()
                } else {
                    document.parent().unwrap().join(path)
                };
                let leads = path.exists()
                    && (anchor.is_empty() || anchors(&path).iter().any(|has| has == anchor));
                if !leads {
                    found.push(format!("{}:{}: {target}", document.display(), n + 1));
                }
            }
        }
    }
    none("dead links", found);
}

/// The anchors that a Markdown file's headings have.
fn anchors(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (n, line) in text.lines().enumerate() {
            for quoted in line.split('`').skip(1).step_by(2) {
                let ours = ["src/", "tests/", "docs/", "contrib/", "benches/", ".ci/"];
                let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
                if ours.iter().any(|folder| quoted.starts_with(folder))
                    && quoted.chars().all(plain)
                    && !root().join(quoted).exists()
                {
                    found.push(format!("{}:{}: {quoted}", document.display(), n + 1));
                }
            }
        }
    }
    none("named, and not there", found);
}

/// `crash::killed_while_packing_...` is a test of `tests/crash/table.rs`,
/// `ship::machine::verdict::...` one of `src/ship/machine/verdict.rs`.
#[test]
fn every_test_that_the_documents_name_is_there() {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (n, line) in text.lines().enumerate() {
            for quoted in line.split('`').skip(1).step_by(2) {
                let Some((module, name)) = quoted.rsplit_once("::") else {
                    continue;
                };
                if name.len() < 20 || !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                    continue;
                }
                let file = module.replace("::", "/");
                let places = [
                    format!("tests/it/{file}.rs"),
                    format!("src/{file}.rs"),
                    format!("src/{file}/mod.rs"),
                ];
                let files: Vec<_> = places
                    .iter()
                    .filter_map(|place| fs::read_to_string(root().join(place)).ok())
                    .collect();
                let is_there = |text: &String| text.contains(&format!("fn {name}("));
                if !files.iter().any(is_there) {
                    found.push(format!("{}:{}: {quoted}", document.display(), n + 1));
                }
            }
        }
    }
    none("promises that rest on a test that is not there", found);
}

#[test]
fn every_key_of_the_configuration_is_explained_and_in_the_sample() {
    let raw = fs::read_to_string(root().join("src/config/raw.rs")).unwrap();
    let docs = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let sample = fs::read_to_string(root().join("contrib/sealift.toml")).unwrap();
    let (mut table, mut keys, mut found) = (String::new(), 0, Vec::new());
    for line in raw.lines() {
        if let Some(name) = line.trim().strip_prefix("/// `[") {
            table = name.trim_end_matches("]`").to_owned();
        }
        let field = line
            .strip_prefix("    pub ")
            .and_then(|rest| rest.split_once(": "));
        let Some((key, _)) = field.filter(|_| !table.is_empty()) else {
            continue;
        };
        keys += 1;
        let section = docs
            .split(&format!("## `[{table}]`"))
            .nth(1)
            .unwrap_or_default();
        let section = section.split("\n## ").next().unwrap();
        if !section.contains(&format!("| `{key}` |")) {
            found.push(format!(
                "docs/configuration.md does not explain {table}.{key}"
            ));
        }
        let section = sample
            .split(&format!("[{table}]"))
            .nth(1)
            .unwrap_or_default();
        let section = section.split("\n[").next().unwrap();
        let is_set = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{key} = "))
        };
        if !section.lines().any(is_set) {
            found.push(format!("contrib/sealift.toml does not show {table}.{key}"));
        }
    }
    assert!(keys > 20, "the keys were not found in src/config/raw.rs");
    none("a key that nobody can find", found);
}

#[test]
fn every_problem_is_in_the_documents_with_its_status() {
    let wire = fs::read_to_string(root().join("src/model/wire.rs")).unwrap();
    let docs = fs::read_to_string(root().join("docs/transport.md")).unwrap();
    let (mut known, mut found) = (0, Vec::new());
    let wire: Vec<_> = wire.split_whitespace().collect();
    for row in wire
        .join(" ")
        .replace("( P::", "(P::")
        .split("(P::")
        .skip(1)
    {
        let name = row.split('"').nth(1).unwrap();
        let status = row.split(", ").nth(2).unwrap();
        known += 1;
        let urn = format!("`urn:sealift:{name}`");
        let explains = |line: &str| {
            let mut cells = line.split('|').skip(1);
            cells.next().is_some_and(|cell| cell.contains(&urn))
                && cells.next().is_some_and(|cell| cell.contains(status))
        };
        if !docs.lines().any(explains) {
            found.push(format!("{name}, {status}"));
        }
    }
    assert!(
        known > 20,
        "the problems were not found in src/model/wire.rs"
    );
    none("a problem that docs/transport.md does not explain", found);
}

#[test]
fn every_command_is_in_the_documents() {
    let mut text = String::new();
    for document in manual() {
        text += &fs::read_to_string(document).unwrap();
    }
    let help = String::from_utf8(sealift().arg("--help").output().unwrap().stdout).unwrap();
    let commands = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let names = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    assert!(names.len() >= 5, "{help}");
    let missing = names
        .iter()
        .filter(|name| !text.contains(&format!("sealift {name}")))
        .map(ToString::to_string);
    none("commands that no document mentions", missing.collect());
}

/// The arguments of each call of a log's macro at or above info, in its product code.
fn log_calls(source: &Source) -> Vec<String> {
    let code: Vec<_> = source.code().map(|(_, line)| line.trim()).collect();
    let code = code.join(" ");
    let mut calls = Vec::new();
    for level in ["info", "warn", "error"] {
        for (at, call) in code.match_indices(&format!("tracing::{level}!(")) {
            let arguments = &code[at + call.len()..];
            let (mut depth, mut is_text, mut before) = (1, false, ' ');
            let end = arguments.find(|c: char| {
                match c {
                    '"' if before != '\\' => is_text = !is_text,
                    '(' if !is_text => depth += 1,
                    ')' if !is_text => depth -= 1,
                    _ => {}
                }
                before = c;
                depth == 0
            });
            calls.push(arguments[..end.unwrap()].to_owned());
        }
    }
    calls
}

#[test]
fn a_log_line_says_to_a_person_what_its_fields_say_to_a_program() {
    let (mut found, mut with_fields) = (Vec::new(), 0);
    // The log's own lines, which are no events of the program, are looked at by its tests.
    for source in sources().iter().filter(|it| !it.is_in("cli/logging")) {
        for call in log_calls(source) {
            let Some((fields, message)) = call.split_once(", \"") else {
                continue;
            };
            if fields.trim_start().starts_with('"') {
                continue;
            }
            with_fields += 1;
            let names_the_error = !fields.contains("%error") || message.contains("{error");
            if !message.contains('{') || !names_the_error {
                found.push(format!("{}: {call}", source.name));
            }
        }
    }
    assert!(with_fields > 20, "the calls were not found in src/");
    none("a message that leaves out what its fields have", found);
}

/// What stands behind `sealift` where a line shows such a command, up to its end.
fn shown_commands(line: &str, is_document: bool) -> Vec<String> {
    let mut shown: Vec<&str> = Vec::new();
    for (begin, end) in [
        ("`sealift ", '`'),
        ("`sudo sealift ", '`'),
        ("sealift(\"", '"'),
    ] {
        let behind = line.split(begin).skip(1);
        shown.extend(behind.filter_map(|rest| rest.split(end).next()));
    }
    if is_document {
        let trimmed = line.trim().trim_start_matches("sudo ");
        shown.extend(trimmed.strip_prefix("sealift "));
    }
    let ends = [" #", "|", "&&", ";"];
    let cut = |command: &str| {
        let at = ends.iter().filter_map(|end| command.find(end)).min();
        command[..at.unwrap_or(command.len())].trim().to_owned()
    };
    shown.into_iter().map(cut).collect()
}

/// The options of a command; `None` where there is no such command.
fn options_of(command: &str) -> Option<BTreeSet<String>> {
    let mut words = vec![vec![command]];
    if command == "config" {
        words.extend(["check", "show", "default"].map(|of| vec!["config", of]));
    }
    let mut options = BTreeSet::from(["--version".to_owned()]);
    for words in words {
        let output = sealift().args(words).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let is_one = |word: &&str| word.starts_with("--");
        let named = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        options.extend(named.filter(is_one).map(str::to_owned));
        if !output.status.success() {
            return None;
        }
    }
    Some(options)
}

#[test]
fn every_command_that_is_shown_is_a_command_with_the_options_that_it_has() {
    let mut lines = Vec::new();
    for document in manual() {
        let text = fs::read_to_string(&document).unwrap();
        let name = document.strip_prefix(root()).unwrap().display().to_string();
        lines.extend(
            text.lines()
                .map(|line| (name.clone(), line.to_owned(), true)),
        );
    }
    for source in sources().iter().filter(|source| !source.is_test) {
        let of_source = source.text.lines();
        lines.extend(of_source.map(|line| (source.name.clone(), line.to_owned(), false)));
    }
    let (mut known, mut found, mut count) = (BTreeMap::new(), Vec::new(), 0);
    for (name, line, is_document) in lines {
        for shown in shown_commands(&line, is_document) {
            let mut words = shown
                .split_whitespace()
                .map(|word| word.trim_matches(|c: char| "[](),.:".contains(c)));
            let command = words.next().unwrap_or_default().to_owned();
            // An option of the program itself, or a word that stands for any command.
            if !command.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            count += 1;
            let options = known
                .entry(command.clone())
                .or_insert_with(|| options_of(&command));
            let wrong = match options {
                None => true,
                Some(options) => words.filter_map(|word| word.split('=').next()).any(|word| {
                    word.starts_with("--") && word.len() > 2 && !options.contains(word)
                }),
            };
            if wrong {
                found.push(format!("{name}: sealift {shown}"));
            }
        }
    }
    assert!(count > 150, "only {count} were found");
    none("shown, and no command", found);
}

#[test]
fn the_scripts_can_be_read_by_their_shell() {
    let mut scripts = files_below(&root().join("tests"), "sh");
    let others = [
        ".ci/run",
        ".ci/install",
        ".ci/cargo-deny",
        "contrib/install.sh",
    ];
    scripts.extend(others.map(|script| root().join(script)));
    for script in scripts {
        let checked = Command::new("bash")
            .arg("-n")
            .arg(&script)
            .status()
            .unwrap();
        assert!(checked.success(), "{}", script.display());
    }
}
