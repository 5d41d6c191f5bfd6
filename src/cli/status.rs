//! `sealift status`

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    ConfigSource,
    destination::DestinationClient,
    doctor::as_given,
    exit::{Exit, Failure},
    output::{out, outln},
    ship::stop_signal,
};
use crate::operate::status::{self, Memory, Status, StatusQuery, screen};

/// How often a terminal is redrawn.
const REDRAW_EVERY: Duration = Duration::from_secs(1);
/// How often it is said again to what is no terminal.
const REPEAT_EVERY: Duration = Duration::from_secs(5);
/// Where a terminal does not say how high it is.
const ROWS: usize = 24;

/// The other screen of the terminal, without a cursor, and lines that do not wrap.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the daemon over .sealift/control.sock, which its owner and group may. Where none answers, the folders tell what they can.
What is wrong stands first, with the command that mends it where one does; `sealift doctor` asks further.

Exit codes: 0 all is well; 1 no daemon answers, or something should be looked at; 2 wrong arguments or configuration.
With --watch: 0 when it is ended by Ctrl-C.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// One JSON document (docs/status.schema.json)
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Show it again and again until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(args: &StatusArgs) -> Result<Exit, Failure> {
    let raw = args.source.read(args.source.data.is_some())?;
    let layout = raw.layout()?;
    let given = as_given(&args.source, &args.destination);
    let receiver = raw.receiver().ok();
    let question = StatusQuery {
        layout,
        unit: raw.doctor()?.unit,
        options: given.options,
        receiver: given.receiver,
        file: given.file,
        credential: receiver.and_then(|receiver| receiver.credential().cloned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("Failed to start the async runtime")?;
    if args.watch {
        let watched = runtime.block_on(watch(&question));
        runtime.shutdown_background();
        return Ok(watched.map(|()| Exit::Done)?);
    }
    let status = runtime.block_on(status::status(&question, &mut Memory::default()));
    // A look that hangs on a dead mount is not waited for.
    runtime.shutdown_background();
    if args.json {
        outln!(
            "{}",
            serde_json::to_string(&status).map_err(anyhow::Error::new)?
        );
    } else {
        out!("{}", page(&status, has_colours()));
    }
    Ok(if status.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Wrong
    })
}

async fn watch(question: &StatusQuery) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let (is_terminal, colours) = (io::stdout().is_terminal(), has_colours());
    let mut ticks = interval(if is_terminal {
        REDRAW_EVERY
    } else {
        REPEAT_EVERY
    });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut out = io::stdout();
    let mut last = String::new();
    let mut memory = Memory::default();
    if is_terminal {
        // What cannot be written ends it, below.
        let _ = out.write_all(BEGIN.as_bytes());
    }
    loop {
        let next = async {
            ticks.tick().await;
            status::status(question, &mut memory).await
        };
        let status = tokio::select! {
            () = &mut stop => break,
            status = next => status,
        };
        last = page(&status, colours);
        let shown = if is_terminal {
            frame(&last)
        } else {
            format!("{last}\n")
        };
        // The reader has gone.
        if out
            .write_all(shown.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            break;
        }
    }
    if is_terminal {
        let _ = out
            .write_all(END.as_bytes())
            .and_then(|()| out.write_all(last.as_bytes()));
    }
    Ok(())
}

/// As many lines as the terminal has, over what was there: no flicker, and nothing scrolls.
fn frame(page: &str) -> String {
    let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(ROWS, |size| size.ws_row.into());
    let lines: Vec<_> = page.lines().take(rows.max(2)).collect();
    format!(
        "{HOME}{}{REST_OF_LINE}{REST_OF_SCREEN}",
        lines.join(&format!("{REST_OF_LINE}\r\n"))
    )
}

fn page(status: &Status, colours: bool) -> String {
    let line = |line: screen::ScreenLine| match (line.is_bad, colours) {
        (true, true) => format!("\x1b[1;31m{}\x1b[0m\n", line.text),
        (_, _) => line.text + "\n",
    };
    screen::lines(status).into_iter().map(line).collect()
}

/// <https://no-color.org>
fn has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}
