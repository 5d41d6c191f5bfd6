//! `sealift seal`

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    doctor::span,
    exit::{Exit, Failure},
    output::outln,
    path_argument,
};
use crate::{
    disk::{
        filesystem::{shared_between_hosts, unseen_writers},
        manifest::{self, SealOptions},
        meta, record_files,
        tree::shown,
    },
    model::{
        episode::{EpisodeId, IdError},
        progress::Progress,
        text::{foreign_command, typed_path, word},
        wire::ProblemType,
    },
    operate::{doctor::COMMIT_IN_META, rename::typed_name},
};

#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    /// The episode's directory. A file in it that is still open for writing is waited for for a
    /// second; then nothing is sealed
    #[arg(value_name = "DIR", value_parser = path_argument())]
    directory: PathBuf,
    /// Put a done.marker that is there aside, hidden beside the episode, and seal it anew
    #[arg(long)]
    again: bool,
    /// Refuse where anything in it was written to within this time, such as 1h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    idle: Option<Duration>,
}

pub(crate) fn run(args: &SealArgs) -> Result<Exit, Failure> {
    let options = SealOptions {
        again: args.again,
        idle: args.idle,
    };
    let sealed = manifest::seal_with(&args.directory, options, &Progress::default())
        .with_context(|| format!("Failed to seal {}", args.directory.display()))?;
    let files = if sealed.files == 1 { "file" } else { "files" };
    outln!(
        "sealed {}: {} {files}, {} bytes",
        shown(&args.directory),
        sealed.files,
        sealed.bytes
    );
    if let Some(marker) = &sealed.put_aside {
        outln!(
            "  its marker of before is now {}: nothing reads it, and it may be removed ({})",
            shown(marker),
            foreign_command(marker, |marker| format!("rm {marker}"))
        );
    }
    if let Some(missing) = lacks_commit(&args.directory) {
        outln!("  WARNING: {missing}");
    }
    if let Some((real, name, why)) = no_id(&args.directory) {
        let rename = rename_command(&real, &name);
        outln!(
            "  WARNING: its name can be no episode's id ({why}): it is not shipped from episodes/. Give it another: {rename}"
        );
    }
    if sealed.untold > 0 {
        let files = if sealed.untold == 1 {
            "1 file belongs".to_owned()
        } else {
            format!("{} files belong", sealed.untold)
        };
        outln!(
            "  {files} to another user: whether it is still open for writing, only that user and root can tell"
        );
    }
    if let Some(kind) = shared_between_hosts(&args.directory) {
        outln!("  it {}", unseen_writers(kind));
    }
    if let Some(warning) = sealed.links_out.warning() {
        outln!("  WARNING: {warning}");
    }
    for (what, path) in &sealed.left_out {
        outln!(
            "  not in it, since it will not be in the archive either: {}, a {what}",
            shown(path)
        );
    }
    Ok(Exit::Done)
}

/// What one that was rejected for want of a commit still lacks.
fn lacks_commit(directory: &Path) -> Option<String> {
    let reason = record_files::reason(directory).ok()??;
    let kind = reason.body.get("type")?.as_str()?;
    if ProblemType::from_urn(kind) != Some(ProblemType::CommitMissing) {
        return None;
    }
    let has = match meta::look(directory).ok()? {
        Ok(Some(_)) => return None,
        Ok(None) => "has none still".to_owned(),
        Err(fault) => format!("none can be read ({fault})"),
    };
    Some(format!(
        "it was rejected for want of a commit, and {has}: it would be rejected again. Write {COMMIT_IN_META} into its meta.json, and \
         seal it again"
    ))
}

/// A name that no episode can have, and why. What is hidden gets its name later.
fn no_id(directory: &Path) -> Option<(PathBuf, OsString, IdError)> {
    let real = directory.canonicalize().ok()?;
    let name = real.file_name()?.to_owned();
    let is_hidden = name.as_encoded_bytes().starts_with(b".");
    let why = EpisodeId::from_os(&name).err().filter(|_| !is_hidden)?;
    Some((real, name, why))
}

/// What gives it another name, from anywhere: ours knows the folders where its parent is one of a
/// data folder.
fn rename_command(real: &Path, name: &OsStr) -> String {
    let folder = real.parent().unwrap_or(Path::new("/"));
    match folder.parent() {
        Some(data) if folder.file_name() == Some(OsStr::new("episodes")) => format!(
            "sealift rename --data {} {} NEW",
            typed_path(data),
            word(&*typed_name(name))
        ),
        Some(_) | None => {
            let new = word(folder.join("NEW"));
            foreign_command(real, |old| format!("mv {old} {new}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_gives_another_name_works_from_anywhere() {
        for (path, command) in [
            ("/d/episodes/-dash", "sealift rename --data /d %2Ddash NEW"),
            ("/a b/episodes/-x", "sealift rename --data '/a b' %2Dx NEW"),
            ("/rec/it's/-x", r"mv '/rec/it'\''s/-x' '/rec/it'\''s/NEW'"),
        ] {
            let path = Path::new(path);
            assert_eq!(rename_command(path, path.file_name().unwrap()), command);
        }
    }
}
