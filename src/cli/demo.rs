//! `sealift demo`
use super::exit::{Exit, Failure};
use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {}
pub(crate) fn run(_args: &DemoArgs) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
