//! Who may come in, as it stands in files: read at the start, and again when they change.
//!
//! ```text
//!  once a second: stat ──▶ as it was ──▶ nothing
//!                      └─▶ changed, and still since the look before ──▶ read ─┐
//!  SIGHUP ────────────────────────────────────────────────────────────▶ read ─┤
//!                                              a new Snapshot ◀──────── good ─┤
//!                                told once; the old one stays ◀───────── bad ─┘
//! ```
//!
//! A changed file is read once it has stood still from one look to the next. One that is written in
//! place is empty or half for a moment, and half a list of commits would turn hosts away that are
//! in it; a certificate and its key are two files, and belong together only when both are there.
//!
//! A connection is accepted with the certificates of its moment, and keeps the name that it had
//! then. Tokens and commits are looked up request by request.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rustls::{ServerConfig, server::danger::ClientCertVerifier, sign::CertifiedKey};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, timeout},
};

use super::{
    identity::{Tokens, Ways},
    tls,
    window::CommitWindow,
};

use crate::{
    clock::wall_now,
    config::{
        ReceiveConfig,
        key_files::{self, CertificateAndKey, FileError},
    },
    model::records::WallTime,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer is told of: a file server hangs, and no newer file comes into force
/// until it answers.
const LONG_LOOK: Duration = Duration::from_secs(30);

const CERT: &str = "receive.tls_cert_file";
const KEY: &str = "receive.tls_key_file";
const CLIENT_CA: &str = "receive.client_ca_file";
const TOKENS: &str = "receive.tokens_file";
const COMMITS: &str = "receive.commits_file";

/// What is in force at one moment.
#[derive(Debug, Clone)]
pub struct AccessRules {
    /// What connections are accepted with; `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether hosts are asked for certificates.
    pub certificates: bool,
    /// The tokens that are known, where they are taken.
    pub tokens: Option<Arc<Tokens>>,
    /// Of which commits' recordings are taken; `None`: of all.
    pub window: Option<Arc<CommitWindow>>,
    /// When the first certificate of our chain expires, UTC; `None` without TLS, or where that
    /// cannot be read.
    pub certificate_not_after: Option<WallTime>,
}

impl AccessRules {
    /// How those who come in can say who they are.
    pub fn ways(&self) -> Ways<'_> {
        Ways {
            certificates: self.certificates,
            tokens: self.tokens.as_deref(),
        }
    }
}

/// How the last reading of a file went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The configuration key that names it.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// When what is in force was read, UTC.
    pub read_at: WallTime,
    /// What is wrong with the newer one, which is not in force; `None`: nothing.
    pub error: Option<String>,
}

/// The files, and what is in force of them.
#[derive(Debug)]
pub struct Access {
    /// Only for looks: a disk may hold up the holder of this lock for ever.
    files: Mutex<Files>,
    /// Whose look it is. Waited for without a thread.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Held for as long as it takes to clone or to put down a pointer, as `reports` is.
    current: RwLock<Arc<AccessRules>>,
    reports: RwLock<Arc<[FileReport]>>,
    /// Something new is in force.
    renewed: Notify,
}

#[derive(Debug)]
struct Files {
    identity: Option<WatchedFile<ServerIdentity>>,
    clients: Option<WatchedFile<Arc<dyn ClientCertVerifier>>>,
    tokens: Option<WatchedFile<Arc<Tokens>>>,
    window: Option<WatchedFile<Arc<CommitWindow>>>,
}

/// Our certificate, as it is shown.
#[derive(Debug)]
struct ServerIdentity {
    certified: Arc<CertifiedKey>,
    not_after: Option<WallTime>,
}

/// When a changed file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadPolicy {
    /// When it has stood still from one look to the next.
    Settled,
    /// Now, changed or not.
    Now,
}

impl Access {
    /// Reads the files that the configuration names. Blocks on the disk.
    ///
    /// # Errors
    /// [`FileError`]: the first that cannot be used.
    pub fn read(config: &ReceiveConfig) -> Result<Self, FileError> {
        let one = |path: &Option<PathBuf>| path.clone().map(|path| vec![path]);
        let identity = config.tls.clone().map(|(cert, key)| vec![cert, key]);
        let files = Files {
            identity: WatchedFile::begin(CERT, identity, read_identity)?,
            clients: WatchedFile::begin(CLIENT_CA, one(&config.client_ca_file), read_clients)?,
            tokens: WatchedFile::begin(TOKENS, one(&config.tokens_file), read_tokens)?,
            window: WatchedFile::begin(COMMITS, one(&config.commits_file), read_window)?,
        };
        if let Some(identity) = &files.identity
            && let Some(end) = identity.value.not_after.filter(|end| *end < wall_now())
        {
            let path = identity.paths[0].display();
            tracing::error!("{CERT} {path}: the certificate expired at {end}");
        }
        let current = files.snapshot().map_err(|error| {
            let path = config.tls.as_ref().map_or(Path::new(""), |(cert, _)| cert);
            FileError::unusable(CERT, path, error.to_string())
        })?;
        let reports = files.reports();
        Ok(Self {
            files: Mutex::new(files),
            turn: Arc::default(),
            current: RwLock::new(Arc::new(current)),
            reports: RwLock::new(reports),
            renewed: Notify::new(),
        })
    }

    /// What is in force now.
    pub fn current(&self) -> Arc<AccessRules> {
        Arc::clone(&self.current.read())
    }

    /// What is in force, once something new is. For one who waits.
    pub(super) async fn renewed(&self) -> Arc<AccessRules> {
        self.renewed.notified().await;
        self.current()
    }

    /// When the first certificate of our chain expires, UTC; `None` without TLS, or where that
    /// cannot be read. Never blocks.
    pub fn certificate_not_after(&self) -> Option<WallTime> {
        self.current().certificate_not_after
    }

    /// How the last reading of each file went. A certificate and its key are one. Never blocks.
    pub fn reports(&self) -> Arc<[FileReport]> {
        Arc::clone(&self.reports.read())
    }

    /// Reads everything again now. Each file that cannot be used is logged, and what was read of it
    /// before stays in force.
    pub async fn reload(self: &Arc<Self>) {
        self.look(ReadPolicy::Now).await;
    }

    /// Looks at the files once a second, until it is dropped; where there are none, not at all.
    pub(super) async fn watch(self: Arc<Self>) {
        if self.reports().is_empty() {
            return;
        }
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look(ReadPolicy::Settled).await;
        }
    }

    /// On a thread that may block: a file server that hangs holds up the next look, and nothing
    /// else.
    async fn look(self: &Arc<Self>, look: ReadPolicy) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let access = Arc::clone(self);
        let mut looking = tokio::task::spawn_blocking(move || {
            access.look_now(look);
            drop(turn);
        });
        let looked = match timeout(LONG_LOOK, &mut looking).await {
            Ok(looked) => looked,
            Err(_) => {
                tracing::error!(
                    "the certificate, token and commit files cannot be looked at: their disk does not answer; what was read \
                     before stays in use"
                );
                looking.await
            }
        };
        if let Err(error) = looked {
            tracing::error!(%error, "could not look at the certificate, token and commit files: {error}");
        }
    }

    fn look_now(&self, look: ReadPolicy) {
        let mut files = self.files.lock();
        let renewed = files.look(look);
        *self.reports.write() = files.reports();
        if !renewed {
            return;
        }
        match files.snapshot() {
            Ok(snapshot) => {
                *self.current.write() = Arc::new(snapshot);
                self.renewed.notify_one();
            }
            Err(error) => tracing::error!(%error, "{error}; what was read before stays in use"),
        }
    }
}

impl Files {
    /// Whether something new is to be put in force.
    fn look(&mut self, look: ReadPolicy) -> bool {
        // Each by itself: one that is bad does not keep back the others.
        let identity = self.identity.as_mut();
        let clients = self.clients.as_mut();
        let tokens = self.tokens.as_mut();
        let window = self.window.as_mut();
        let changed = [
            identity.is_some_and(|file| file.look(look, renew_identity)),
            clients.is_some_and(|file| file.look(look, |paths, _| read_clients(paths))),
            tokens.is_some_and(|file| file.look(look, |paths, _| read_tokens(paths))),
            window.is_some_and(|file| file.look(look, |paths, _| read_window(paths))),
        ];
        changed.contains(&true)
    }

    fn snapshot(&self) -> Result<AccessRules, rustls::Error> {
        let clients = self.clients.as_ref().map(|file| &file.value);
        let tls = match &self.identity {
            Some(identity) => Some(tls::server_config(&identity.value.certified, clients)?),
            None => None,
        };
        Ok(AccessRules {
            tls,
            certificates: clients.is_some(),
            tokens: self.tokens.as_ref().map(|file| Arc::clone(&file.value)),
            window: self.window.as_ref().map(|file| Arc::clone(&file.value)),
            certificate_not_after: self
                .identity
                .as_ref()
                .and_then(|identity| identity.value.not_after),
        })
    }

    fn reports(&self) -> Arc<[FileReport]> {
        let reports = [
            self.identity.as_ref().map(WatchedFile::report),
            self.clients.as_ref().map(WatchedFile::report),
            self.tokens.as_ref().map(WatchedFile::report),
            self.window.as_ref().map(WatchedFile::report),
        ];
        reports.into_iter().flatten().collect()
    }
}

fn read_identity(paths: &[PathBuf]) -> Result<ServerIdentity, FileError> {
    let CertificateAndKey {
        chain, certified, ..
    } = CertificateAndKey::read((CERT, &paths[0]), (KEY, &paths[1]))?;
    Ok(ServerIdentity {
        certified,
        not_after: key_files::not_after(&chain),
    })
}

/// An expired certificate does not take the place of one that is good: the operator put back the
/// wrong file.
fn renew_identity(paths: &[PathBuf], old: &ServerIdentity) -> Result<ServerIdentity, FileError> {
    let new = read_identity(paths)?;
    let expired = |identity: &ServerIdentity| identity.not_after.filter(|end| *end < wall_now());
    match (expired(&new), expired(old)) {
        (Some(end), None) => Err(FileError::unusable(
            CERT,
            &paths[0],
            format!("expired at {end}"),
        )),
        (Some(_) | None, Some(_)) | (None, None) => Ok(new),
    }
}

fn read_clients(paths: &[PathBuf]) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let roots = key_files::read_roots(CLIENT_CA, &paths[0])?;
    tls::verifier(roots).map_err(|problem| FileError::unusable(CLIENT_CA, &paths[0], problem))
}

fn read_tokens(paths: &[PathBuf]) -> Result<Arc<Tokens>, FileError> {
    let bytes = key_files::read_secret(TOKENS, &paths[0])?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned());
    let tokens = text.and_then(|text| Tokens::parse(&text));
    let tokens = tokens.map_err(|problem| FileError::unusable(TOKENS, &paths[0], problem))?;
    // The last one may have been withdrawn, and nothing else would shut out who had it.
    if tokens.names().next().is_none() {
        let path = paths[0].display();
        tracing::error!(
            "{TOKENS} {path}: holds no token, and so no client comes in by one; lines of: name = \"SHA-256 of the token\""
        );
    }
    Ok(Arc::new(tokens))
}

fn read_window(paths: &[PathBuf]) -> Result<Arc<CommitWindow>, FileError> {
    let bytes = key_files::read(COMMITS, &paths[0])?;
    // What is not UTF-8 may stand in a comment.
    CommitWindow::parse(&String::from_utf8_lossy(&bytes))
        .map(Arc::new)
        .map_err(|error| FileError::unusable(COMMITS, &paths[0], error.to_string()))
}

/// A file, or two that belong together, and the value that was last read out of them.
#[derive(Debug)]
struct WatchedFile<T> {
    setting: &'static str,
    paths: Vec<PathBuf>,
    value: T,
    read_at: WallTime,
    error: Option<String>,
    /// As they were when they were last read, well or badly.
    read: Stamps,
    /// As they were at the last look.
    seen: Stamps,
    /// The last reading failed in a way that may pass by itself (no descriptors, a disk's error):
    /// read again at every look.
    again: bool,
}

impl<T> WatchedFile<T> {
    fn begin(
        setting: &'static str,
        paths: Option<Vec<PathBuf>>,
        read: impl Fn(&[PathBuf]) -> Result<T, FileError>,
    ) -> Result<Option<Self>, FileError> {
        let Some(paths) = paths else { return Ok(None) };
        // Before they are read: a change between the two is seen at the next look.
        let stamps = Stamps::of(&paths);
        let value = read(&paths)?;
        Ok(Some(Self {
            setting,
            paths,
            value,
            read_at: wall_now(),
            error: None,
            read: stamps.clone(),
            seen: stamps,
            again: false,
        }))
    }

    /// Reads again where that is due; whether there is a new value.
    fn look(
        &mut self,
        look: ReadPolicy,
        read: impl Fn(&[PathBuf], &T) -> Result<T, FileError>,
    ) -> bool {
        let stamps = Stamps::of(&self.paths);
        let settled = stamps == self.seen && (stamps != self.read || self.again);
        self.seen = stamps.clone();
        if look == ReadPolicy::Settled && !settled {
            return false;
        }
        self.read = stamps;
        let (setting, path) = (self.setting, self.paths[0].display());
        match read(&self.paths, &self.value) {
            Ok(value) => {
                tracing::info!("{setting} {path}: read again, and in use from now on");
                self.value = value;
                self.read_at = wall_now();
                self.error = None;
                self.again = false;
                true
            }
            Err(error) => {
                self.again = matches!(error, FileError::Unreadable { .. });
                let error = error.to_string();
                if look == ReadPolicy::Now || self.error.as_ref() != Some(&error) {
                    tracing::error!("{error}; what was read before stays in use");
                }
                self.error = Some(error);
                false
            }
        }
    }

    fn report(&self) -> FileReport {
        FileReport {
            setting: self.setting,
            path: self.paths[0].clone(),
            read_at: self.read_at,
            error: self.error.clone(),
        }
    }
}

/// What stat(2) says of files, as far as it tells one content from another; `None` for one that is
/// not there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamps(Vec<Option<[i64; 7]>>);

impl Stamps {
    fn of(paths: &[PathBuf]) -> Self {
        // Symbolic links are followed: that is how files are swapped where configuration is
        // mounted.
        Self(
            paths
                .iter()
                .map(|path| std::fs::metadata(path).ok().as_ref().map(stamp))
                .collect(),
        )
    }
}

fn stamp(of: &Metadata) -> [i64; 7] {
    [
        of.dev().cast_signed(),
        of.ino().cast_signed(),
        of.size().cast_signed(),
        of.mtime(),
        of.mtime_nsec(),
        of.ctime(),
        of.ctime_nsec(),
    ]
}

#[cfg(test)]
mod tests;
