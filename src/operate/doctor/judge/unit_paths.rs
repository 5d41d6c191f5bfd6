//! `ReadWritePaths=` of the unit: one path above all folders of a file system, since each path is a
//! mount of its own, and between two of them nothing can be renamed.

use std::path::{Path, PathBuf};

use crate::operate::doctor::facts::Facts;

/// The name of the drop-in: it sorts behind those of others, and the last one counts.
pub(in crate::operate::doctor) const DROP_IN: &str = "zz-sealift-paths";

/// What holds more than data: a unit that may write to all of it is no hardened one.
const TOO_WIDE: [&str; 16] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run",
    "/sbin", "/sys", "/usr", "/var", "/var/lib",
];

/// The drop-in that lets the unit write where it must, and move within each file system. `None`
/// where its paths are such already, so that something else is in the way. What else the unit may
/// write to, it may write to afterwards.
pub(in crate::operate::doctor) fn drop_in_of_paths(facts: &Facts) -> Option<Vec<String>> {
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
    let mut lines = vec!["[Service]".to_owned()];
    if present.iter().any(|path| within(path)) {
        lines.push("ReadWritePaths=".to_owned());
        let others = said
            .iter()
            .zip(&present)
            .filter(|(_, path)| !within(path) && !covers(&wanted, path));
        lines.extend(others.map(|(said, _)| line(said)));
    }
    lines.extend(wanted.iter().map(|path| line(&path.to_string_lossy())));
    Some(lines)
}

fn covers(paths: &[PathBuf], path: &Path) -> bool {
    paths.iter().any(|above| path.starts_with(above))
}

/// For each file system the folder above all of ours that are on it.
fn above_each_file_system(facts: &Facts) -> Vec<PathBuf> {
    let mut devices: Vec<(u64, Vec<&Path>)> = Vec::new();
    for folder in &facts.folders {
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

/// A line of a unit file: systemd.unit(5) on specifiers, systemd.syntax(7) on quotes.
fn line(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    if path.chars().all(plain) {
        return format!("ReadWritePaths={path}");
    }
    let quoted = path
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("ReadWritePaths=\"{quoted}\"")
}

#[cfg(test)]
mod tests {
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
        let lines = drop_in_of_paths(&facts)?;
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
}
