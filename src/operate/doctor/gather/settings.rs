//! The configuration, and the files that it names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::permissions::{self, way_to};
use crate::{
    clock,
    config::{ConfigError, DoctorConfig, RawConfig, ReceiverConfig, ShipConfig, key_files},
    http::{client::Client, url_template::UrlTemplate},
    model::layout::Layout,
    operate::doctor::{
        DoctorQuery,
        facts::{NamedFile, Owned, SettingsFacts, SettingsProblem},
    },
};

/// What can be gone on with, as far as the configuration is right.
#[derive(Debug)]
pub(super) struct UsableSettings {
    pub(super) layout: Option<Layout>,
    pub(super) ship: Option<ShipConfig>,
    pub(super) receiver: Option<(ReceiverConfig, String)>,
    pub(super) doctor: DoctorConfig,
    /// The client, where the files can be used.
    pub(super) client: Option<Client>,
}

impl UsableSettings {
    /// What the receiver knows us by, where that is configured.
    pub(super) fn credential(&self) -> Option<&PathBuf> {
        self.receiver.as_ref().and_then(|(it, _)| it.credential())
    }
}

#[derive(Debug)]
pub(super) struct Read {
    pub(super) facts: SettingsFacts,
    pub(super) known: UsableSettings,
}

pub(super) fn read(question: &DoctorQuery) -> Read {
    let mut facts = SettingsFacts {
        file: question.file.clone(),
        ..SettingsFacts::default()
    };
    if let Some(file) = &facts.file {
        (facts.owned, facts.way) = (owned(file).ok(), way_to(file));
    }
    let none = RawConfig::default();
    let raw = match &question.raw {
        Ok(raw) => raw,
        Err(error) => {
            facts.problem = Some(problem(error, false));
            &none
        }
    };
    // Whatever is right in it is looked at; the first thing that is wrong is told.
    let mut wrong = None;
    let mut told = |error: ConfigError| {
        wrong.get_or_insert(error);
    };
    let folders = if question.raw.is_ok() {
        raw
    } else {
        &question.given
    };
    let layout = folders.layout().map_err(&mut told).ok();
    let receiver = raw
        .receiver()
        .and_then(|receiver| Ok((receiver, raw.host_id()?)))
        .map_err(&mut told)
        .ok();
    let ship = raw.ship().map_err(&mut told).ok();
    let ship = ship.or_else(|| without_a_receiver(question.raw.as_ref().ok()?));
    let doctor = raw.doctor().map_err(&mut told);
    let doctor = doctor.or_else(|_| none.doctor()).unwrap_or(DoctorConfig {
        unit: "sealift.service".to_owned(),
        update_command: None,
    });
    if let Some(error) = wrong.filter(|_| facts.problem.is_none()) {
        let is_nothing_set =
            question.file.is_none() && question.options.is_empty() && question.receiver.is_empty();
        facts.problem = Some(problem(&error, is_nothing_set));
    }
    if let Some((config, _)) = &receiver
        && let Err(error) = UrlTemplate::parse(&config.url)
        && facts.problem.is_none()
    {
        facts.problem = Some(SettingsProblem::Wrong(error.to_string()));
    }
    let client = receiver
        .as_ref()
        .and_then(|(receiver, _)| credentials(receiver, &mut facts));
    facts.update_command.clone_from(&doctor.update_command);
    facts.metrics_textfile = ship.as_ref().and_then(|ship| ship.metrics_textfile.clone());
    facts.watch = ship.as_ref().map(|ship| ship.watch);
    facts.quarantine_keep_days = ship.as_ref().and_then(|ship| ship.quarantine_keep_days);
    facts.url = receiver.as_ref().map(|(receiver, _)| receiver.url.clone());
    Read {
        facts,
        known: UsableSettings {
            layout,
            ship,
            receiver,
            doctor,
            client,
        },
    }
}

/// What needs no receiver to be known: how it watches, and what it keeps.
fn without_a_receiver(raw: &RawConfig) -> Option<ShipConfig> {
    let mut raw = raw.clone();
    raw.receiver = RawConfig::default().receiver;
    raw.receiver.url = Some("https://receiver.invalid".to_owned());
    raw.ship().ok()
}

fn problem(error: &ConfigError, nothing_was_said: bool) -> SettingsProblem {
    match error {
        ConfigError::Read { why, .. } if why.kind() == io::ErrorKind::PermissionDenied => {
            SettingsProblem::NotPermitted(why.to_string())
        }
        ConfigError::Read { why, .. } if why.kind() == io::ErrorKind::NotFound => {
            SettingsProblem::Missing
        }
        ConfigError::Value { .. } if nothing_was_said => SettingsProblem::Missing,
        ConfigError::Read { .. } | ConfigError::Parse { .. } | ConfigError::Value { .. } => {
            SettingsProblem::Wrong(error.to_string())
        }
    }
}

fn credentials(receiver: &ReceiverConfig, facts: &mut SettingsFacts) -> Option<Client> {
    let (cert, key) = receiver.client_cert.clone().unzip();
    let named: [(&'static str, Option<PathBuf>, bool); 4] = [
        ("receiver.ca_file", receiver.ca_file.clone(), false),
        ("receiver.client_cert_file", cert.clone(), false),
        ("receiver.client_key_file", key, true),
        ("receiver.token_file", receiver.token_file.clone(), true),
    ];
    for (key, path, secret) in named {
        let Some(path) = path else { continue };
        let owned = owned(&path).map_err(|error| error.to_string());
        let way = way_to(&path);
        let unreadable = fs::File::open(&path).err();
        let unreadable = unreadable.map(|error| {
            (
                error.to_string(),
                error.kind() == io::ErrorKind::PermissionDenied,
            )
        });
        facts.files.push(NamedFile {
            key,
            path,
            secret,
            owned,
            way,
            unreadable,
        });
    }
    facts.client_certificate_ends = cert.and_then(|path| {
        let chain = key_files::read_chain("receiver.client_cert_file", &path).ok()?;
        // Of our own one, and not of what leads up from it.
        let terms = key_files::CertificateTerms::of(&chain)?;
        facts.client_certificate_fault = terms.fault(clock::wall_now());
        Some((path, terms.ends()))
    });
    facts.token_in_clear = receiver.token_file.is_some()
        && UrlTemplate::parse(&receiver.url).is_ok_and(|address| !address.is_private());
    let mut receiver = receiver.clone();
    // A person waits for the answer.
    (
        receiver.connect_timeout,
        receiver.idle_timeout,
        receiver.answer_timeout,
    ) = super::receiver::PATIENCE;
    match Client::new(&receiver) {
        Ok(client) => Some(client),
        Err(error) => {
            facts.credential_problem = Some(error.to_string());
            None
        }
    }
}

fn owned(path: &Path) -> io::Result<Owned> {
    Ok(permissions::owned(path, &fs::metadata(path)?))
}
