//! Files that say who we are and whom we trust: read within bounds, checked, and blamed by the key
//! that names them.
//!
//! ```text
//!  read_secret ──▶ read      bounded bytes; a secret that others can reach is told
//!  read_chain  ──▶ read      certificates, PEM
//!  read_roots  ──▶ read_chain
//!  Identity::read ─▶ read_chain + read_secret ──▶ do the two belong together?
//! ```
//!
//! Both ends of the wire read the same kinds of file. An error never quotes what a secret's file
//! holds.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::{prelude::FromDer as _, time::ASN1Time};

use crate::model::records::WallTime;

/// The largest such file that is read, bytes. A system's whole bundle of authorities has a quarter
/// of this.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// U+FEFF in UTF-8, with which some editors begin a text. It is no part of what the text says.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a secret's file should not allow: writing by its group, reading or writing by everybody.
/// `chmod 640` is the most.
const LOOSE_MODE: u32 = 0o026;

/// Why a file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error(
        "{setting} {}: cannot be read: {why} (it must exist, and the user that sealift runs as must be able to read it)",
        .path.display()
    )]
    Unreadable {
        /// The configuration key that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said. Part of the sentence, and so no cause behind it.
        why: io::Error,
    },
    /// The file can be read, and does not hold what it should.
    #[error("{setting} {}: {problem}", .path.display())]
    Unusable {
        /// The configuration key that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do. Never a secret.
        problem: String,
    },
}

impl FileError {
    fn unreadable(setting: &'static str, path: &Path, why: io::Error) -> Self {
        Self::Unreadable {
            setting,
            path: path.to_owned(),
            why,
        }
    }

    /// The file was read, and this is wrong with what it holds.
    #[must_use]
    pub fn unusable(setting: &'static str, path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable {
            setting,
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// A certificate, what leads up from it, and its private key. The two belong together.
pub(crate) struct CertificateAndKey {
    /// Our certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// Both, ready to sign with.
    pub certified: Arc<CertifiedKey>,
}

impl CertificateAndKey {
    /// Reads a chain and a key, each given as its configuration key and its path.
    ///
    /// # Errors
    /// [`FileError`], also where the key is another certificate's.
    pub(crate) fn read(
        (chain_setting, chain_path): (&'static str, &Path),
        (key_setting, key_path): (&'static str, &Path),
    ) -> Result<Self, FileError> {
        let chain = read_chain(chain_setting, chain_path)?;
        let pem = read_secret(key_setting, key_path)?;
        // The parser's error is not shown: it may quote what it could not read.
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            let problem = "holds no private key that can be read; it must be an unencrypted PEM file with \"BEGIN \
                           PRIVATE KEY\" (or RSA, or EC) in it";
            FileError::unusable(key_setting, key_path, problem)
        })?;
        let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider())
            .map_err(|error| {
                let with = chain_path.display();
                let problem = format!("does not go with the certificate in {with}: {error}");
                FileError::unusable(key_setting, key_path, problem)
            })?;
        Ok(Self {
            chain,
            key,
            certified: Arc::new(certified),
        })
    }
}

/// Passed to every builder: rustls's process-wide default may be set by any code in the process, or
/// by none.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads the authorities to trust.
///
/// # Errors
/// [`FileError`], also where the file holds none.
pub(crate) fn read_roots(setting: &'static str, path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(setting, path)? {
        roots.add(certificate).map_err(|error| {
            FileError::unusable(
                setting,
                path,
                format!("a certificate in it cannot be used: {error}"),
            )
        })?;
    }
    Ok(roots)
}

/// Reads the certificates of a PEM file, in their order.
///
/// # Errors
/// [`FileError`], also where the file holds none.
pub(crate) fn read_chain(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(setting, path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            FileError::unusable(setting, path, format!("is not a PEM file: {error}"))
        })?;
    if chain.is_empty() {
        let problem =
            "holds no certificate; it must be a PEM file with \"BEGIN CERTIFICATE\" in it";
        return Err(FileError::unusable(setting, path, problem));
    }
    Ok(chain)
}

/// When the first of these certificates expires; `None` where that cannot be read.
pub(crate) fn not_after(chain: &[CertificateDer<'_>]) -> Option<WallTime> {
    let ends = chain
        .iter()
        .map(|one| CertificateTerms::read(one).map(|terms| terms.ends));
    ends.collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// When a certificate is good, and for whom.
pub(crate) struct CertificateTerms {
    begins: WallTime,
    ends: WallTime,
    for_clients: bool,
}

impl CertificateTerms {
    /// Those of the first certificate; `None` where it cannot be read.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        Self::read(chain.first()?)
    }

    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
        let at = |time: ASN1Time| WallTime::from_unix_seconds(time.timestamp());
        let usage = parsed.extended_key_usage().ok()?;
        Some(Self {
            begins: at(parsed.validity().not_before),
            ends: at(parsed.validity().not_after),
            for_clients: usage.is_none_or(|usage| usage.value.client_auth || usage.value.any),
        })
    }

    /// Until when it is good.
    pub(crate) fn ends(&self) -> WallTime {
        self.ends
    }

    /// Since when it is no longer good.
    pub(crate) fn ended(&self, now: WallTime) -> Option<WallTime> {
        Some(self.ends).filter(|ends| *ends < now)
    }

    /// Why receivers refuse it from a client, its end apart.
    pub(crate) fn fault(&self, now: WallTime) -> Option<String> {
        if now < self.begins {
            Some(format!("it is not valid before {}", self.begins))
        } else if !self.for_clients {
            Some(NOT_FOR_CLIENTS.to_owned())
        } else {
            None
        }
    }
}

/// What a certificate lacks that only servers can show (RFC 5280, section 4.2.1.12).
const NOT_FOR_CLIENTS: &str = "it is not for clients: its extendedKeyUsage has no clientAuth";

impl fmt::Display for CertificateTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is valid from {} to {}", self.begins, self.ends)?;
        if !self.for_clients {
            write!(f, ", and {NOT_FOR_CLIENTS}")?;
        }
        Ok(())
    }
}

/// Reads a file that other users should not be able to reach; where they can, that is logged with
/// what to do.
///
/// # Errors
/// [`FileError`].
pub(crate) fn read_secret(setting: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open(setting, path)?;
    let bytes = read_all(file, setting, path)?;
    let mode = metadata.permissions().mode();
    if mode & LOOSE_MODE != 0 {
        let path = path.display();
        tracing::warn!(
            "{setting} {path}: others can read or change this secret (mode {:04o}): chmod 0640 {path}",
            mode & 0o7777
        );
    }
    Ok(bytes)
}

/// Reads a whole file, within bounds. Blocks on the disk, and never on who might write into a FIFO.
///
/// # Errors
/// [`FileError`], also where it is no regular file, or is larger than any such file is.
pub(crate) fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let (file, _) = open(setting, path)?;
    read_all(file, setting, path)
}

/// Symbolic links are followed. Without `O_NONBLOCK` the open of a FIFO would wait for a writer
/// (open(2)).
fn open(setting: &'static str, path: &Path) -> Result<(File, Metadata), FileError> {
    let unreadable = |source| FileError::unreadable(setting, path, source);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| unreadable(errno.into()))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let problem =
            "is not a regular file (but a folder, a FIFO or a device); put the file itself there";
        return Err(FileError::unusable(setting, path, problem));
    }
    Ok((file, metadata))
}

fn read_all(file: File, setting: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|why| FileError::unreadable(setting, path, why))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("is larger than {MAX_FILE_BYTES} bytes, which no such file is");
        return Err(FileError::unusable(setting, path, problem));
    }
    if bytes.starts_with(BOM) {
        bytes.drain(..BOM.len());
    }
    Ok(bytes)
}
