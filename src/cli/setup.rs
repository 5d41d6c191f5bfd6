//! `sealift setup`

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    ConfigSource, block_on,
    destination::DestinationClient,
    doctor::{absolute, options},
    exit::{Exit, Failure},
    logging,
    output::{out, outln},
    path_argument,
};
use crate::{
    config::{self, DEFAULT_FILE, RawConfig},
    disk::{durable, ownership, tree::shown},
    http::url_template,
    model::text::printable,
    operate::doctor::{DoctorQuery, SetupLine, give, setup},
};

/// Where the unit of contrib/ has its data.
const DEFAULT_DATA: &str = "/var/lib/sealift";

#[derive(Debug, Args)]
#[command(after_help = "\
Where there is no configuration, one is written from --data and --receiver; on a terminal what is missing is asked for.
One that is there is read and never written; where it is wrong, nothing is done.
Folders are made for the user that the unit runs as, and opened to it; the unit's drop-in lets it write to folders elsewhere.
What is right is not touched, and what would lock a recorder out is left, with why. Run twice, it has nothing to do.
A symlink on the way to a folder is followed only where root made it, in a folder that only root may write to.

Exit codes: 0 all is right; 1 something was left, and why is said; 2 wrong arguments or configuration.")]
pub(crate) struct SetupArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// For whom the folders are made and opened, in place of the unit's user: a name, or a number
    /// (without a name on this host, with --group)
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The group that they get, in place of that user's first one
    #[arg(long, value_name = "GROUP", requires = "user")]
    group: Option<String>,
    /// Give this sealed episode of episodes/, or one in shipped/ or quarantine/, and all in it, to
    /// who ships, and do nothing else
    #[arg(long, value_name = "DIR", value_parser = path_argument(), conflicts_with = "group")]
    give: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &SetupArgs) -> Result<Exit, Failure> {
    logging::start("off");
    let (mut lines, mut left) = (0, false);
    let mut tell = |line: SetupLine| {
        lines += 1;
        match line {
            SetupLine::Note(said) => outln!("note   {}", printable(&said)),
            SetupLine::Done(said) => outln!("done   {said}"),
            SetupLine::Would(said) => outln!("would  {said}"),
            SetupLine::Left(said) => {
                left = true;
                outln!("left   {}", printable(&said));
            }
        }
    };
    let enough = args.source.data.is_some();
    let is_enough = enough && args.destination.receiver.is_none();
    let file = args.source.file(is_enough);
    let named = file.as_deref();
    let named = named.or((!is_enough).then_some(Path::new(DEFAULT_FILE)));
    let there = named.filter(|path| std::fs::symlink_metadata(path).is_ok());
    let there = there.map(|path| checked(args, path)).transpose()?;
    let first = match args.give {
        None if there.is_none() => first_configuration(args, named)?,
        _ => None,
    };
    let given = RawConfig::default();
    let mut question = DoctorQuery {
        given: absolute(args.source.laid_over(given.clone())),
        raw: Ok(given),
        options: options(&args.source, file.as_deref()),
        receiver: String::new(),
        file: file.clone(),
        since: Duration::ZERO,
    };
    if let Some((path, text, raw)) = first {
        let is_root = rustix::process::geteuid().is_root();
        let mode = if is_root { " (mode 640)" } else { "" };
        let said = format!("write the configuration {}{mode}", shown(&path));
        if args.dry_run {
            tell(SetupLine::Would(said));
        } else {
            if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
                let failed = || format!("Failed to make the folder {}", shown(folder));
                let way = ownership::TrustedWay::to(folder).with_context(failed)?;
                if let Some(link) = way.link {
                    return Err(Failure::Usage(anyhow::anyhow!(link.to_string())));
                }
                durable::create_folder(folder).with_context(failed)?;
            }
            let written = durable::write_new_record(&path, text.as_bytes(), &[])
                .with_context(|| format!("Failed to write {}", shown(&path)))?;
            if written == durable::Published::Done {
                if is_root {
                    // Not for others; the group of who ships comes with all other permissions.
                    ownership::give(&path, None, None, None, 0, 0o137)
                        .with_context(|| format!("Failed to close {} to others", shown(&path)))?;
                }
                tell(SetupLine::Done(said));
            }
            question.file = Some(path);
        }
        question.raw = Ok(absolute(raw));
    } else if let Some((raw, otherwise)) = there {
        question.raw = Ok(absolute(args.source.laid_over(raw)));
        otherwise
            .into_iter()
            .for_each(|said| tell(SetupLine::Left(said)));
    } else {
        question.raw = args
            .source
            .read(enough)
            .map(|raw| absolute(args.source.laid_over(raw)));
    }
    if let Ok(raw) = &mut question.raw {
        args.destination.lay_over(raw);
        // Which receiver it is makes no difference to who may read keys and tokens.
        let url = &mut raw.receiver.url;
        url.get_or_insert_with(|| "https://receiver.invalid".to_owned());
    }
    let user = args.user.as_deref();
    if let Some(episode) = &args.give {
        tell(block_on(give(&question, user, episode, args.dry_run))?);
        return Ok(if left { Exit::Wrong } else { Exit::Done });
    }
    let user = user.map(|user| (user, args.group.as_deref()));
    let is_right = block_on(setup(&question, user, args.dry_run, &mut tell))?;
    if lines == 0 {
        outln!("nothing to do");
    }
    Ok(if is_right && !left {
        Exit::Done
    } else {
        Exit::Wrong
    })
}

/// A file that is there, read: never written, and refused where it is wrong by itself, since the
/// daemon reads it. With what it says otherwise than the command line.
fn checked(args: &SetupArgs, path: &Path) -> Result<(RawConfig, Option<String>), Failure> {
    let raw = config::read(path)?;
    let mut whole = raw.clone();
    if args.destination.receiver.is_none() {
        whole = args.source.laid_over(whole);
        let url = &mut whole.receiver.url;
        url.get_or_insert_with(|| "https://receiver.invalid".to_owned());
    }
    let is_right = || -> Result<(), anyhow::Error> {
        whole.layout()?;
        url_template::UrlTemplate::parse(&whole.receiver()?.url)?;
        whole.host_id()?;
        whole.ship()?;
        whole.doctor()?;
        Ok(())
    };
    let wrong = || {
        let shown = shown(path);
        format!("the configuration {shown} is there, so that none is written, and is wrong")
    };
    is_right().with_context(wrong).map_err(Failure::Usage)?;
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut says = Vec::new();
    if let (Some(given), Some(set)) = (&args.source.data, &raw.shipper.data_dir)
        && absolute(given) != *set
    {
        says.push(format!("shipper.data_dir = {}", shown(set)));
    }
    if let (Some(given), Some(set)) = (&args.destination.receiver, &raw.receiver.url)
        && given != set
    {
        says.push(format!("receiver.url = {}", url_template::shown(set)));
    }
    let otherwise = (!says.is_empty()).then(|| {
        let says = says.join(" and ");
        format!(
            "{} is not written: it is there and says {says}",
            shown(path)
        )
    });
    Ok((raw, otherwise))
}

/// The file that is to be written, where there is none and enough is known.
fn first_configuration(
    args: &SetupArgs,
    file: Option<&Path>,
) -> Result<Option<(PathBuf, String, RawConfig)>, Failure> {
    let Some(path) = file else {
        return Ok(None);
    };
    let (mut data, mut receiver) = (args.source.data.clone(), args.destination.receiver.clone());
    let is_only_about_folders =
        data.is_some() && receiver.is_none() && args.source.config.is_none();
    if !is_only_about_folders && std::io::stdin().is_terminal() {
        if data.is_none() {
            data = Some(asked("The folder of the episodes", Some(DEFAULT_DATA))?.into());
        }
        if receiver.is_none() {
            receiver = Some(asked(
                "The receiver's address, such as https://receiver.example:8490",
                None,
            )?);
        }
    }
    let (Some(data), Some(url)) = (data, receiver) else {
        if is_only_about_folders {
            return Ok(None);
        }
        let why = format!(
            "there is no configuration {}: give --data DIR and --receiver URL, and one is written",
            shown(path)
        );
        return Err(Failure::Usage(anyhow::anyhow!(why)));
    };
    let data = std::path::absolute(&data).unwrap_or(data);
    let named = data.to_str().with_context(|| {
        format!(
            "{} is not UTF-8, which a configuration has to be",
            shown(&data)
        )
    });
    let named = named.map_err(Failure::Usage)?;
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let text = format!(
        "# Written by sealift setup. All keys, with their defaults: sealift config default\n\n\
         [shipper]\ndata_dir = {}\n\n[receiver]\nurl = {}\n",
        quoted(named),
        quoted(&url)
    );
    let mut raw = RawConfig::default();
    raw.shipper.data_dir = Some(data.clone());
    raw.receiver.url = Some(url.clone());
    raw.layout()?;
    url_template::UrlTemplate::parse(&url).map_err(|error| Failure::Usage(error.into()))?;
    raw.receiver()?;
    Ok(Some((path.to_owned(), text, raw)))
}

fn asked(what: &str, default: Option<&str>) -> Result<String, Failure> {
    let shown = default.map_or_else(String::new, |default| format!(" [{default}]"));
    out!("{what}{shown}: ");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.context("Failed to read the answer")?;
    match (line.trim(), default) {
        ("", Some(default)) => Ok(default.to_owned()),
        ("", None) => Err(Failure::Usage(anyhow::anyhow!("no answer was given"))),
        (line, _) => Ok(line.to_owned()),
    }
}
