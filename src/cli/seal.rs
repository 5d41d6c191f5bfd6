//! `sealift seal`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::{
    disk::{
        filesystem::{shared_between_hosts, unseen_writers},
        manifest,
        tree::shown,
    },
    model::progress::Progress,
};

#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    /// The episode's directory. A file in it that is still open for writing is waited for for a
    /// second; then nothing is sealed
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[expect(clippy::print_stdout, reason = "a command's result")]
pub(crate) fn run(args: &SealArgs) -> Result<Exit, Failure> {
    let sealed = manifest::seal(&args.directory, &Progress::default())
        .with_context(|| format!("Failed to seal {}", args.directory.display()))?;
    let files = if sealed.files == 1 { "file" } else { "files" };
    println!(
        "sealed {}: {} {files}, {} bytes",
        shown(&args.directory),
        sealed.files,
        sealed.bytes
    );
    if sealed.untold > 0 {
        let files = if sealed.untold == 1 {
            "1 file belongs".to_owned()
        } else {
            format!("{} files belong", sealed.untold)
        };
        println!(
            "  {files} to another user: whether it is still open for writing, only that user and root can tell"
        );
    }
    if let Some(kind) = shared_between_hosts(&args.directory) {
        println!("  it {}", unseen_writers(kind));
    }
    for (what, path) in &sealed.left_out {
        println!(
            "  not in it, since it will not be in the archive either: {}, a {what}",
            shown(path)
        );
    }
    Ok(Exit::Done)
}
