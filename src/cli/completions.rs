//! `sealift completions` and `sealift man`: for packagers and those who install it, made from the
//! commands as they are defined.

use std::{io, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{
    Cli,
    exit::{Exit, Failure},
};
use crate::disk::tree::shown;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell; the script goes to stdout
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder to put the pages into (sealift.1, sealift-ship.1, ...); it must exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Made first and written then: a reader that goes away is no reason to panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sealift", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).context("Failed to write to stdout")?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .with_context(|| format!("Failed to write the pages to {}", shown(&args.folder)))?;
    Ok(Exit::Done)
}
