//! `sealift seal`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use sealift::{manifest, progress::Progress};

use super::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    /// The episode's directory; nobody may be writing to it any more
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[expect(clippy::print_stdout, reason = "a command's result")]
pub(crate) fn run(args: &SealArgs) -> Result<Exit, Failure> {
    let sealed = manifest::seal(&args.directory, &Progress::default())
        .with_context(|| format!("Failed to seal {}", args.directory.display()))?;
    println!(
        "sealed {}: {} files, {} bytes",
        sealift::episode::printable(&args.directory.display().to_string()),
        sealed.files,
        sealed.bytes
    );
    Ok(Exit::Done)
}
