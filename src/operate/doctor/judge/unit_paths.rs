//! `ReadWritePaths=` of the unit: one path above all folders of a file system, since each path is a
//! mount of its own, and between two of them nothing can be renamed.

use std::path::{Path, PathBuf};

use crate::{disk::tree::shown, operate::doctor::facts::Facts};

/// The name of the drop-in: it sorts behind those of others, and the last one counts.
pub(in crate::operate::doctor) const DROP_IN: &str = "zz-sealift-paths";

/// What holds more than data: a unit that may write to all of it is no hardened one.
const TOO_WIDE: [&str; 16] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run",
    "/sbin", "/sys", "/usr", "/var", "/var/lib",
];

/// The drop-in that lets the unit write where it must, and move within each file system. `None`
/// where its paths are such already, so that something else is in the way. What else the unit may
/// write to, it may write to afterwards. An error says which path no unit's file can hold.
pub(in crate::operate::doctor) fn drop_in_of_paths(
    facts: &Facts,
) -> Option<Result<Vec<String>, String>> {
    if !facts.hands.has_unit {
        return None;
    }
    // Without such paths it may write everywhere, or systemd does not say.
    let said = facts.unit.as_ref()?.read_write_paths.as_deref()?;
    // A dash: it may be missing. A plus: below RootDirectory=.
    let present: Vec<_> = said
        .iter()
        .map(|path| Path::new(path.trim_start_matches(['-', '+'])))
        .collect();
    let mut wanted = above_each_file_system(facts);
    let metrics = facts
        .settings
        .metrics_textfile
        .as_deref()
        .and_then(Path::parent);
    wanted.extend(
        metrics
            .filter(|metrics| !covers(&wanted, metrics))
            .map(Path::to_owned),
    );
    if wanted
        .iter()
        .all(|wanted| present.iter().any(|path| wanted.starts_with(path)))
    {
        return None;
    }
    // Paths within a wanted one are what keeps moves from being renames: they only go by a list
    // that begins anew.
    let within = |path: &Path| {
        wanted
            .iter()
            .any(|wanted| path != wanted && path.starts_with(wanted))
    };
    let mut lines = vec![Ok("[Service]".to_owned())];
    if present.iter().any(|path| within(path)) {
        lines.push(Ok("ReadWritePaths=".to_owned()));
        let others = said
            .iter()
            .zip(&present)
            .filter(|(_, path)| !within(path) && !covers(&wanted, path));
        lines.extend(others.map(|(said, _)| line(Path::new(said))));
    }
    lines.extend(wanted.iter().map(|path| line(path)));
    Some(lines.into_iter().collect())
}

fn covers(paths: &[PathBuf], path: &Path) -> bool {
    paths.iter().any(|above| path.starts_with(above))
}

/// For each file system the folder above all of ours that are on it.
fn above_each_file_system(facts: &Facts) -> Vec<PathBuf> {
    let mut devices: Vec<(u64, Vec<&Path>)> = Vec::new();
    // Where a link leads that another user made, the unit needs not write.
    for folder in facts.folders.iter().filter(|it| it.link.is_none()) {
        let Some((real, device)) = &folder.real else {
            continue;
        };
        match devices.iter_mut().find(|(known, _)| known == device) {
            Some((_, folders)) => folders.push(real),
            None => devices.push((*device, vec![real])),
        }
    }
    devices
        .iter()
        .flat_map(|(_, folders)| above(folders))
        .collect()
}

/// Each by itself where what is above them all is too much to give away; then moves between them
/// are copies.
fn above(folders: &[&Path]) -> Vec<PathBuf> {
    let [first, ..] = folders else {
        return Vec::new();
    };
    let common = first
        .ancestors()
        .find(|above| folders.iter().all(|folder| folder.starts_with(above)));
    match common {
        Some(common) if !TOO_WIDE.iter().any(|wide| common == Path::new(wide)) => {
            vec![common.to_owned()]
        }
        _ => folders.iter().map(|folder| (*folder).to_owned()).collect(),
    }
}

/// A line of a unit file: systemd.unit(5) on specifiers, systemd.syntax(7) on quotes. This setting
/// takes no `\xNN`: behind a backslash, systemd reads any character as itself. So a path that is
/// not UTF-8, or has the end of a line in it, cannot be written there at all.
fn line(path: &Path) -> Result<String, String> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(|c: char| c.is_control() || is_no_character(c)));
    let Some(path) = text else {
        return Err(format!(
            "{} has bytes in its name that no file of a unit can hold, so that the unit cannot be let write there: \
             give the folder another name, or move it",
            shown(path)
        ));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    if path.chars().all(plain) {
        return Ok(format!("ReadWritePaths={path}"));
    }
    let quoted = path
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    Ok(format!("ReadWritePaths=\"{quoted}\""))
}

/// What systemd's check of UTF-8 refuses besides.
fn is_no_character(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::operate::doctor::judge::healthy_host::sound;

    fn lines(
        present: &[&str],
        folders: &[(&str, u64)],
        metrics: Option<&str>,
    ) -> Option<Vec<String>> {
        let mut facts = sound();
        let paths = present.iter().map(|path| (*path).to_owned()).collect();
        facts.unit.as_mut().unwrap().read_write_paths = Some(paths);
        facts.settings.metrics_textfile = metrics.map(Into::into);
        for (folder, (path, device)) in facts.folders.iter_mut().zip(folders) {
            folder.real = Some((path.into(), *device));
        }
        let lines = drop_in_of_paths(&facts)?.unwrap();
        assert_eq!(lines[0], "[Service]");
        let paths = lines[1..]
            .iter()
            .map(|line| line.strip_prefix("ReadWritePaths=").unwrap().to_owned());
        Some(paths.collect())
    }

    const OWN: [(&str, u64); 5] = [
        ("/d/episodes", 1),
        ("/d/outbox", 1),
        ("/d/shipped", 1),
        ("/d/quarantine", 1),
        ("/d/.sealift", 1),
    ];

    #[test]
    fn each_file_system_gets_a_line_and_what_the_unit_could_write_to_it_can_still() {
        let second = |path| [OWN[0], OWN[1], (path, 2), OWN[3], OWN[4]];
        // All is there already: it is not this that is in the way.
        assert_eq!(lines(&["/d"], &OWN, None), None);
        assert_eq!(lines(&["/"], &OWN, None), None);
        // systemd leaves out what lies in another.
        assert_eq!(lines(&["/d", "/d/shipped"], &OWN, None), None);
        // Nothing is taken back, where nothing is in the way.
        for (present, folders, metrics, expected) in [
            (&["/var/lib/sealift"][..], OWN, None, &["/d"][..]),
            (
                &["/d"],
                second("/mnt/archive/shipped"),
                None,
                &["/d", "/mnt/archive/shipped"],
            ),
            (
                &["/d", "-/mnt/archive"],
                second("/mnt/b/shipped"),
                None,
                &["/d", "/mnt/b/shipped"],
            ),
            (
                &[],
                OWN,
                Some("/var/lib/node/x.prom"),
                &["/d", "/var/lib/node"],
            ),
            (&[], OWN, Some("/d/metrics/x.prom"), &["/d"]),
            (
                &[],
                second("/mnt/50 % \"x\"\\"),
                None,
                &["/d", r#""/mnt/50 %% \"x\"\\""#],
            ),
            // Siblings: a new list, and all in it that was in the old one.
            (
                &["/d/episodes", "/d/outbox", "-/var/lib/node"],
                OWN,
                None,
                &["", "-/var/lib/node", "/d"],
            ),
            (
                &["/d/episodes", "/mnt/a/shipped"],
                second("/mnt/a/shipped"),
                Some("/n/x"),
                &["", "/d", "/mnt/a/shipped", "/n"],
            ),
        ] {
            assert_eq!(
                lines(present, &folders, metrics).unwrap(),
                expected,
                "{present:?} {folders:?}"
            );
        }
    }

    #[test]
    fn a_folder_that_holds_more_than_data_is_not_given_away() {
        let apart = [
            ("/var/a", 1),
            ("/usr/b", 1),
            ("/var/lib/c", 1),
            ("/srv/x/q", 2),
            ("/srv/y/p", 2),
        ];
        assert_eq!(
            lines(&[], &apart, None).unwrap(),
            ["/var/a", "/usr/b", "/var/lib/c", "/srv"]
        );
    }

    /// What systemd makes of a line of this setting (config_parse_namespace_path_strv(): words,
    /// unquoted, without C escapes; then specifiers).
    fn read_back(line: &str) -> Vec<String> {
        let mut rest = line.strip_prefix("ReadWritePaths=").unwrap().chars();
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        while let Some(c) = rest.next() {
            match (c, quote) {
                ('\\', _) => word.get_or_insert_default().push(rest.next().unwrap()),
                ('"' | '\'', None) => {
                    word.get_or_insert_default();
                    quote = Some(c);
                }
                (c, Some(open)) if c == open => quote = None,
                (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
                (c, _) => word.get_or_insert_default().push(c),
            }
        }
        assert_eq!(quote, None, "{line}");
        words.extend(word);
        let plain = |word: String| {
            assert!(!word.replace("%%", "").contains('%'), "{word}");
            word.replace("%%", "%")
        };
        words.into_iter().map(plain).collect()
    }

    const HOSTILE: [&str; 16] = [
        "/a b",
        "/-a/+b",
        "/50%/%n%%",
        "/it's \"quoted\"",
        "/back\\slash",
        "/ends in \\",
        "/\\x41 \\n",
        "/$HOME/${x}",
        "/;#comment",
        "/caf\u{e9} \u{202e}\u{1f600}",
        "/a=b:c,d@e",
        "/ leading",
        "/trailing ",
        "/[Service]",
        "/*?[x]",
        "/\u{10fffd}",
    ];

    #[test]
    fn systemd_reads_back_the_path_that_was_meant_or_it_is_refused() {
        for path in HOSTILE {
            let line = line(Path::new(path)).unwrap();
            assert_eq!(line.lines().count(), 1, "{line}");
            assert_eq!(read_back(&line), [path], "{line}");
        }
        let bytes = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        for path in [
            bytes(b"/a\nExecStart=/bin/sh"),
            bytes(b"/a\rb"),
            bytes(b"/a\tb"),
            bytes(b"/a\x1b[2J"),
            bytes(b"/\xff"),
            bytes("/\u{ffff}".as_bytes()),
            bytes("/\u{85}".as_bytes()),
        ] {
            let why = line(&path).unwrap_err();
            assert!(why.contains("no file of a unit can hold"), "{why}");
        }
        let mut facts = sound();
        facts.unit.as_mut().unwrap().read_write_paths = Some(Vec::new());
        facts.folders[2].real = Some((bytes(b"/mnt/a\nUser=root"), 9));
        assert!(drop_in_of_paths(&facts).unwrap().is_err());
    }

    /// systemd itself says what it has read of a path that it does not take.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    #[test]
    fn systemd_analyze_reads_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.service");
        let lines: String = HOSTILE
            .iter()
            .map(|path| line(Path::new(path)).unwrap() + "\n")
            .collect();
        // Not absolute any more, so that each is shown.
        let lines = lines.replace("=/", "=x/").replace("=\"/", "=\"x/");
        std::fs::write(&file, format!("[Service]\nExecStart=/bin/true\n{lines}")).unwrap();
        let ran = std::process::Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&file)
            .env("LC_ALL", "C.UTF-8")
            .output();
        let Ok(ran) = ran else {
            eprintln!("skipped: no systemd-analyze here");
            return;
        };
        let said = String::from_utf8_lossy(&ran.stderr);
        for path in HOSTILE {
            let told = format!("path is not absolute, ignoring: x{path}\n");
            assert!(said.contains(&told), "{path}: {said}");
        }
    }
}
