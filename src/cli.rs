//! The command line: what each command takes, where its configuration comes from, and what its end
//! means to the shell.

mod completions;
mod config;
mod demo;
mod destination;
mod doctor;
mod exit;
mod fetch;
mod logging;
mod once;
mod output;
mod receive;
mod rename;
mod requeue;
mod seal;
mod setup;
mod ship;
mod status;
mod trace;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{
    Args, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};

use self::exit::{Exit, Failure};
use crate::{
    config::{ConfigError, DEFAULT_FILE, FILE_VARIABLE, RawConfig},
    model::{
        episode::EpisodeId,
        progress::Progress,
        text::{printable, read_typed_path, typed_path, unescaped},
    },
};

/// Ships a recorded episode the moment it is sealed.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done; 1 it ran and something is wrong; 2 wrong arguments or configuration (nothing was touched).
Try it:     sealift demo"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ship episodes: pack each sealed one, deliver it, move it to shipped/
    Ship(ship::ShipArgs),
    /// Set this host up: a first configuration, the folders, their owner and modes, the unit
    Setup(setup::SetupArgs),
    /// Receive episodes into a folder; an acknowledgement means that they would survive a power cut
    Receive(receive::ReceiveArgs),
    /// Show it at work: a receiver, a shipper and a recorder on this machine
    Demo(demo::DemoArgs),
    /// Flush a recorded episode to the disk, then seal it with done.marker
    Seal(seal::SealArgs),
    /// One episode's way so far, with the milliseconds between the steps
    Trace(trace::TraceArgs),
    /// Put episodes back into the queue: from quarantine, out of a conflict, or where the receiver
    /// has lost them
    Requeue(requeue::RequeueArgs),
    /// Give one episode another name, in episodes/ or quarantine/
    Rename(rename::RenameArgs),
    /// Say what is wrong on this host, and what to type; the first red row is the cause
    Doctor(doctor::DoctorArgs),
    /// Ask the receiver whether it still holds what was shipped from here
    Verify(verify::VerifyArgs),
    /// Bring an episode back: resumed where it broke off, verified, unpacked safely
    Fetch(fetch::FetchArgs),
    /// How it stands: what is on its way, what waits and why, what is wrong
    Status(status::StatusArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a shell's completions, for packagers
    #[command(hide = true)]
    Completions(completions::CompletionsArgs),
    /// Write the manual pages, for packagers
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
struct ConfigSource {
    /// The configuration file [default: $SEALIFT_CONFIG, then /etc/sealift/sealift.toml]
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    config: Option<PathBuf>,
    /// The folder that holds episodes/, outbox/, shipped/ and quarantine/ (shipper.data_dir)
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    data: Option<PathBuf>,
}

/// Parses the arguments, sets up logging, and runs the command that they name.
pub fn run() -> ExitCode {
    run_command().into()
}

fn run_command() -> Exit {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Clap says what is wrong and shows the usage; help and version are no errors.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
        }
    };
    let ended = match command {
        Command::Ship(args) => ship::run(args),
        Command::Setup(args) => setup::run(&args),
        Command::Receive(args) => receive::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Seal(args) => seal::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Requeue(args) => requeue::run(args),
        Command::Rename(args) => rename::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Verify(args) => verify::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Status(args) => status::run(&args),
        Command::Config(command) => config::run(command),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    };
    output::finish(ended.unwrap_or_else(Failure::report))
}

/// Does a command's work, and leaves behind a thread that hangs in a system call.
fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("Failed to start the async runtime")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// The progress of work that SIGTERM and SIGINT cancel.
fn until_stopped() -> anyhow::Result<Progress> {
    let (stop, progress) = (ship::stop_signal()?, Progress::default());
    let told_to_stop = progress.clone();
    tokio::spawn(async move {
        stop.await;
        told_to_stop.cancel();
    });
    Ok(progress)
}

/// A path, which may be percent-encoded behind `file://`: the commands that are shown name one that
/// no terminal could show so.
fn path_argument() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(read_typed_path)
}

/// An id. No id has a backslash: what no terminal shows may be typed as it is shown (`\u{202e}`).
fn episode_id(typed: &str) -> Result<EpisodeId, Failure> {
    EpisodeId::parse(&unescaped(typed))
        .with_context(|| format!("{:?} is no episode's id", printable(typed)))
        .map_err(Failure::Usage)
}

impl ConfigSource {
    /// What was given of it, to be typed behind another command: with a blank before it, or empty.
    fn as_typed(&self) -> String {
        let given = [("--config", &self.config), ("--data", &self.data)];
        given
            .iter()
            .filter_map(|(name, path)| Some(format!(" {name} {}", typed_path(path.as_deref()?))))
            .collect()
    }

    /// The file that is read, where one is.
    fn file(&self, enough: bool) -> Option<PathBuf> {
        // Set to nothing is how scripts say "not set".
        let by_variable = || {
            std::env::var_os(FILE_VARIABLE)
                .filter(|set| !set.is_empty())
                .map(PathBuf::from)
        };
        let installed =
            || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| !enough && path.exists());
        self.config.clone().or_else(by_variable).or_else(installed)
    }

    /// The configuration as written, with the arguments laid over it. `enough` says whether the
    /// arguments alone would do: then no file is read unless the operator named one, so that a
    /// trial is not steered by what is installed.
    fn read(&self, enough: bool) -> Result<RawConfig, ConfigError> {
        let raw = match self.file(enough) {
            Some(path) => crate::config::read(&path)?,
            None => RawConfig::default(),
        };
        Ok(self.laid_over(raw))
    }

    fn laid_over(&self, mut raw: RawConfig) -> RawConfig {
        if let Some(data) = &self.data {
            raw.shipper.data_dir = Some(data.clone());
        }
        raw
    }
}
