//! `sealift rename`

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::{
    ConfigSource,
    exit::{Exit, Failure},
    logging,
    output::outln,
};
use crate::{
    disk::tree::shown,
    model::{progress::Progress, text::unescaped},
    operate::rename::{self, RenameError, RenamedIn},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is overwritten, and no name is used again that an episode had which left. The folder keeps its place.
In episodes/ a running daemon takes it for a new episode: once it is sealed, it is shipped under NEW.

Exit codes: 0 it has the new name; 1 it could not be renamed, and why is said; 2 wrong arguments or configuration.")]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// The folder's name; percent-encoded where it is not UTF-8, holds a '%' or begins with '-'
    #[arg(value_name = "OLD")]
    old: OsString,
    /// The name that it gets: an episode's id
    #[arg(value_name = "NEW")]
    new: String,
    /// Where it is [default: whichever of the two has it]
    #[arg(long, value_name = "WHERE")]
    from: Option<FolderName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FolderName {
    /// The folder of what is to be shipped
    Episodes,
    /// The folder of what was rejected
    Quarantine,
}

pub(crate) fn run(args: &RenameArgs) -> Result<Exit, Failure> {
    let layout = args.source.read(args.source.data.is_some())?.layout()?;
    logging::start("warn");
    let only_in = args.from.map(|from| match from {
        FolderName::Episodes => RenamedIn::Episodes,
        FolderName::Quarantine => RenamedIn::Quarantine,
    });
    let new = unescaped(&args.new);
    let renamed = rename::rename(&layout, &args.old, &new, only_in, &Progress::default()).map_err(
        |error| match error {
            RenameError::NotAnId { .. } => Failure::Usage(error.into()),
            _ => Failure::Wrong(error.into()),
        },
    )?;
    let then = match (renamed.folder, renamed.sealed) {
        (RenamedIn::Episodes, true) => "; it is shipped as a new episode",
        (RenamedIn::Episodes, false) => "; it is a new episode, and waits for its marker",
        (RenamedIn::Quarantine, _) => "",
    };
    outln!(
        "renamed  {}  to {}{then}",
        shown(&renamed.from),
        shown(&renamed.to)
    );
    Ok(Exit::Done)
}
