//! An episode's directory becomes an archive, in one pass.
//!
//! ```text
//!  done.marker ──▶ manifest, if it carries one
//!  walk ──▶ header, bytes, padding ──▶ tar stream ──▶ sha256 ──▶ zstd ──▶ sha256 ──▶ Archive
//!    │         └─▶ sha256 of each file ──▶ compared with the manifest       (grows, can be read)
//!    └──▶ fingerprint ═══ the same again once everything was read? ──▶ finished, else Changed
//! ```
//!
//! The archive is a function of the content: one top folder `<id>/`, members in the order of their
//! path bytes, permission bits kept, owner and group 0, whole-second mtimes for files, and 0 for
//! what no copy of an episode can be trusted to keep or for what we may have to write anew:
//! folders, symlinks and `done.marker`. Hard links are files of their own, sparse files are what
//! they contain, FIFOs, sockets and devices are left out.
//!
//! The `tar` crate's own `append_*` functions are not used: they copy until the end of a file, and
//! a file that grew or shrank meanwhile takes the members behind it with it.

mod content;
mod header;
mod holes;
mod stream;
#[cfg(test)]
mod tests;
mod writers;

use std::{
    fs::File,
    io::{self, Read as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

pub(crate) use self::{
    content::{content_of, content_with_modes},
    writers::refuse_open_file,
};
use self::{
    header::{MemberKind, TarMember},
    holes::Holes,
    stream::TarStream,
    writers::OpenFileCheck,
};
use super::archive::Sink;
pub use super::machine::step_result::OpenFilePolicy;
use crate::{
    disk::{
        manifest::{self, MAX_MANIFEST_BYTES, ManifestComparison, Mismatch, NoManifest},
        meta::{self, MAX_META_BYTES},
        open_files::OpenFileProbe,
        tree::{self, Closed, Entry, Kind, LinksOut, Stat, TreeError, in_words, shown, to_path},
    },
    model::{
        episode::{Commit, Digest, EpisodeId, Fingerprint, FolderId},
        layout::{self, MARKER},
        progress::{Cancelled, Progress},
        records::{ArchiveFacts, ManifestCheck},
    },
};

/// Where a recorder says which code it ran: `code_version.commit`.
const META: &[u8] = layout::META.as_bytes();
/// How many of the entries that were left out are named. A log line needs no more.
const MAX_LEFT_OUT_NAMED: usize = 16;

/// How to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// zstd's level, 1 to 19.
    pub level: i32,
    /// Threads that compress. They change the speed and never the bytes; zstd's memory grows with
    /// them.
    pub workers: NonZeroU32,
    /// What becomes of an episode of which a file is open for writing.
    pub open_files: OpenFilePolicy,
}

/// What became of an episode that was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackOutcome {
    /// The archive: complete, not yet durable.
    pub facts: ArchiveFacts,
    /// What was packed; equal to [`tree::fingerprint`] for as long as the episode is not written
    /// to.
    pub fingerprint: Fingerprint,
    /// Which directory that was.
    pub folder: FolderId,
    /// Whether there was a manifest to agree with.
    pub manifest: ManifestCheck,
    /// The commit in `meta.json`, where there is one.
    pub commit: Option<Commit>,
    /// What is wrong with `meta.json`, where no commit could be read from it for that.
    pub meta_fault: Option<meta::MetaFault>,
    /// Length of the tar stream, bytes.
    pub uncompressed_bytes: u64,
    /// FIFOs, sockets and devices that are not in the archive, relative to the episode: the first
    /// few of them.
    pub left_out: Vec<PathBuf>,
    /// How many there were.
    pub left_out_count: u64,
    /// Symlinks that lead to what is not in the archive.
    pub links_out: LinksOut,
    /// Files that were open for writing, and accepted as they were: the first few, printable.
    pub open_files: Vec<String>,
    /// Whether there was a file of another user, of which it cannot be told whether it was open for
    /// writing.
    pub writers_untold: bool,
}

/// Why an episode was not packed. What there is of the archive is scratch, and the caller unlinks
/// it. Paths are relative to the episode.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The episode was being written to. Worth another try later.
    #[error("{} changed while it was packed", in_words(.path))]
    Changed {
        /// What changed; `.` where that is not known.
        path: PathBuf,
    },
    /// A file is open for writing, or mapped writable.
    #[error("{} is open for writing", in_words(.path))]
    OpenForWriting {
        /// Which.
        path: PathBuf,
    },
    /// There is no such episode any more.
    #[error("the episode is gone")]
    Gone,
    /// The episode is not what its own manifest says, and no process is writing: its own fault.
    #[error("{error}")]
    Fault {
        /// A sentence that names the file.
        error: String,
        /// The episode that this is true of.
        fingerprint: Fingerprint,
    },
    /// The marker holds a piece of a manifest, or a broken one. To be waited for, and then a fault.
    #[error("{error}")]
    UnfinishedManifest {
        /// A sentence that says what is wrong with it.
        error: String,
        /// The episode that this is true of.
        fingerprint: Fingerprint,
    },
    /// Reading the episode failed: `EACCES`, `EIO` and the like.
    #[error("failed to read {}", in_words(.path))]
    Episode {
        /// What was being read.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Something is mounted inside the episode.
    #[error("{} is a mount point: unmount it, or keep it out of the episode", in_words(.path))]
    Mount {
        /// Where.
        path: PathBuf,
    },
    /// Folders nested too deep.
    #[error("{} is nested deeper than {} folders", shown(.path), tree::MAX_DEPTH)]
    TooDeep {
        /// The first one.
        path: PathBuf,
    },
    /// Writing the archive failed: the outbox is full, or broken. Not the episode's fault.
    #[error("failed to write the archive")]
    Outbox(#[source] io::Error),
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<TreeError> for PackError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Changed { path } => Self::Changed { path },
            TreeError::Gone => Self::Gone,
            TreeError::Mount { path } => Self::Mount { path },
            TreeError::TooDeep { path } => Self::TooDeep { path },
            TreeError::Io { path, source } => Self::Episode { path, source },
            TreeError::Cancelled(cancelled) => Self::Cancelled(cancelled),
        }
    }
}

/// Packs the episode in `directory` under the name `id`. `progress` advances by what is read of its
/// files.
///
/// # Errors
/// [`PackError`]. The sink is gone then, so that readers of an archive that grows see it abandoned.
pub fn pack(
    id: &EpisodeId,
    directory: &Path,
    sink: impl Sink,
    options: &PackOptions,
    progress: &Progress,
) -> Result<PackOutcome, PackError> {
    pack_observed(id, directory, sink, options, progress, |_| ())
}

/// [`pack`], with each entry shown before it is packed: where a test plays a recorder that will not
/// stop.
fn pack_observed(
    id: &EpisodeId,
    directory: &Path,
    sink: impl Sink,
    options: &PackOptions,
    progress: &Progress,
    mut observe: impl FnMut(&Entry<'_>),
) -> Result<PackOutcome, PackError> {
    let marker = read_marker(directory, progress)?;
    let stream = TarStream::new(sink, options.level, options.workers, progress)
        .map_err(PackError::Outbox)?;
    let asked = OpenFileCheck::new(OpenFileProbe::below(directory), options.open_files);
    let mut packing = Packing::new(id, stream, marker, asked, progress);
    let read = tree::walk(directory, progress, |entry| {
        observe(&entry);
        packing.entry(entry)
    })?;
    if !packing.saw_marker {
        return Err(PackError::Changed {
            path: MARKER.into(),
        });
    }
    let (sink, content_sha256, uncompressed_bytes) =
        packing.stream.finish().map_err(PackError::Outbox)?;

    // Only now is it known that what was read was one state of the episode and not a mixture. A
    // disagreement with the manifest means nothing before that either: a recorder that still writes
    // is not at fault, it is early.
    if tree::walk(directory, progress, |_| Ok::<(), TreeError>(()))? != read {
        return Err(PackError::Changed { path: to_path(b"") });
    }
    let manifest = match packing
        .check
        .map(|check| check.and_then(ManifestComparison::finish))
    {
        None => ManifestCheck::None,
        Some(Ok(verified)) => verified,
        Some(Err(Mismatch(error))) => {
            return Err(PackError::Fault {
                error,
                fingerprint: read.to_remember(),
            });
        }
    };
    Ok(PackOutcome {
        facts: sink.finish(content_sha256),
        fingerprint: read.to_remember(),
        folder: read.folder,
        manifest,
        commit: packing.commit,
        meta_fault: packing.meta_fault,
        uncompressed_bytes,
        left_out: packing.left_out,
        left_out_count: packing.left_out_count,
        links_out: packing.links_out,
        open_files: packing.asked.open,
        writers_untold: packing.asked.untold,
    })
}

struct PackedMarker {
    /// Of the content that the manifest was read from; `None` where that was not all of it, or no
    /// file.
    sha256: Option<Digest>,
    check: Option<ManifestComparison>,
}

fn read_marker(directory: &Path, progress: &Progress) -> Result<PackedMarker, PackError> {
    let read = || tree::read_top(directory, c"done.marker", MAX_MANIFEST_BYTES);
    let content = read()?;
    let content = content.as_deref().unwrap_or_default();
    let manifest = match manifest::parse(content) {
        Ok(manifest) => manifest,
        Err(no_manifest) => {
            let fingerprint = tree::to_remember(directory, progress)?;
            // What is held against this state of the episode must have been read from it.
            if read()?.as_deref() != Some(content) {
                return Err(PackError::Changed {
                    path: MARKER.into(),
                });
            }
            let error = no_manifest.to_string();
            return Err(match no_manifest {
                NoManifest::Unfinished { .. } => {
                    PackError::UnfinishedManifest { error, fingerprint }
                }
                NoManifest::Version(_) => PackError::Fault { error, fingerprint },
            });
        }
    };
    let whole = content.len() as u64 <= MAX_MANIFEST_BYTES;
    Ok(PackedMarker {
        sha256: whole.then(|| Digest::of(content)),
        check: manifest.map(ManifestComparison::new),
    })
}

struct Packing<'a, W> {
    stream: TarStream<W>,
    progress: &'a Progress,
    marker_sha256: Option<Digest>,
    saw_marker: bool,
    /// The comparison so far, or the first difference. `None` without a manifest.
    check: Option<Result<ManifestComparison, Mismatch>>,
    commit: Option<Commit>,
    asked: OpenFileCheck,
    meta_fault: Option<meta::MetaFault>,
    left_out: Vec<PathBuf>,
    left_out_count: u64,
    links_out: LinksOut,
    /// `<id>/`, and behind it the path of the member at hand.
    path: Vec<u8>,
    top_len: usize,
    header: Vec<u8>,
    /// Permission bits for the next members, in the place of their own.
    modes: Option<std::vec::IntoIter<u32>>,
}

impl<'a, W: io::Write> Packing<'a, W> {
    fn new(
        id: &EpisodeId,
        stream: TarStream<W>,
        marker: PackedMarker,
        asked: OpenFileCheck,
        progress: &'a Progress,
    ) -> Self {
        let path = [id.as_str().as_bytes(), b"/"].concat();
        Self {
            stream,
            progress,
            marker_sha256: marker.sha256,
            saw_marker: false,
            check: marker.check.map(Ok),
            commit: None,
            asked,
            meta_fault: None,
            left_out: Vec::new(),
            left_out_count: 0,
            links_out: LinksOut::default(),
            top_len: path.len(),
            path,
            header: Vec::new(),
            modes: None,
        }
    }

    fn entry(&mut self, entry: Entry<'_>) -> Result<(), PackError> {
        self.saw_marker |= entry.path == MARKER.as_bytes();
        let is_file = matches!(entry.kind, Kind::File(_));
        if let Some(fault) = meta::unsearched(entry.path, is_file, entry.stat.size_bytes) {
            self.meta_fault = Some(fault);
        }
        match entry.kind {
            Kind::Directory => self.header(entry.path, &entry.stat, MemberKind::Folder),
            Kind::Symlink(target) => {
                self.links_out.note(entry.path, target);
                self.header(entry.path, &entry.stat, MemberKind::Symlink { target })
            }
            Kind::File(closed) => self.file(entry.path, &entry.stat, &closed),
            Kind::Special(_) => {
                self.left_out_count += 1;
                if self.left_out.len() < MAX_LEFT_OUT_NAMED {
                    self.left_out.push(to_path(entry.path));
                }
                Ok(())
            }
            Kind::Left(_) => Ok(()),
        }
    }

    fn header(&mut self, path: &[u8], stat: &Stat, kind: MemberKind<'_>) -> Result<(), PackError> {
        self.path.truncate(self.top_len);
        self.path.extend_from_slice(path);
        if matches!(kind, MemberKind::Folder) && !path.is_empty() {
            self.path.push(b'/');
        }
        self.header.clear();
        let modes = self.modes.as_mut();
        let permissions = modes.and_then(Iterator::next).unwrap_or(stat.mode & 0o7777);
        header::write(
            &TarMember {
                path: &self.path,
                permissions,
                kind,
            },
            &mut self.header,
        );
        self.stream.write(&self.header).map_err(PackError::Outbox)
    }

    fn file(&mut self, path: &[u8], stat: &Stat, closed: &Closed<'_>) -> Result<(), PackError> {
        let file = closed.open()?;
        let is_marker = path == MARKER.as_bytes();
        let mtime = if is_marker { 0 } else { stat.mtime.0 };
        self.header(
            path,
            stat,
            MemberKind::File {
                size_bytes: stat.size_bytes,
                mtime,
            },
        )?;

        let mut hasher = (is_marker || matches!(self.check, Some(Ok(_)))).then(Sha256::new);
        let mut meta = (path == META && stat.size_bytes <= MAX_META_BYTES).then(Vec::new);
        self.content(
            path,
            stat,
            |now| closed.is_still(now),
            &file,
            |bytes| {
                if let Some(hasher) = &mut hasher {
                    hasher.update(bytes);
                }
                if let Some(meta) = &mut meta {
                    meta.extend_from_slice(bytes);
                }
            },
        )?;

        self.asked.ask(path, &file)?;

        if let Some(sha256) = hasher.map(Digest::from) {
            if is_marker && self.marker_sha256.is_some_and(|parsed| parsed != sha256) {
                return Err(PackError::Changed {
                    path: to_path(path),
                });
            }
            self.compare(path, stat.size_bytes, sha256);
        }
        if let Some(meta) = meta {
            // The last of all that are called alike, by the order of bytes.
            (self.commit, self.meta_fault) = match meta::commit(&meta) {
                Ok(commit) => (commit, None),
                Err(fault) => (None, Some(fault)),
            };
        }
        Ok(())
    }

    /// Copies exactly as many bytes as the header says, then looks whether they were all, and still
    /// are.
    fn content(
        &mut self,
        path: &[u8],
        stat: &Stat,
        is_still: impl FnOnce(&Stat) -> bool,
        mut file: &File,
        mut look: impl FnMut(&[u8]),
    ) -> Result<(), PackError> {
        let mut holes = Holes::of(file, stat.size_bytes);
        let mut at = 0;
        while at < stat.size_bytes {
            self.progress.check()?;
            let hole = holes
                .len_at(at)
                .map_err(|error| reading_failed(path, error))?;
            let room = self.stream.room().map_err(PackError::Outbox)?;
            let left = if hole > 0 { hole } else { stat.size_bytes - at };
            let wanted = usize::try_from(left).map_or(room.len(), |left| left.min(room.len()));
            let read = if hole > 0 {
                room[..wanted].fill(0);
                wanted
            } else {
                match file.read(&mut room[..holes.data_at(at, wanted)]) {
                    Ok(0) => {
                        return Err(PackError::Changed {
                            path: to_path(path),
                        });
                    }
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(reading_failed(path, error)),
                }
            };
            look(self.stream.take(read));
            at += read as u64;
            self.progress.advance(read as u64);
        }
        self.stream.pad().map_err(PackError::Outbox)?;
        match Stat::of(file) {
            Ok(now) if is_still(&now) => Ok(()),
            Ok(_) => Err(PackError::Changed {
                path: to_path(path),
            }),
            Err(error) => Err(reading_failed(path, error)),
        }
    }

    fn compare(&mut self, path: &[u8], size_bytes: u64, sha256: Digest) {
        let Some(Ok(check)) = &mut self.check else {
            return;
        };
        if let Err(mismatch) = check.file(path, size_bytes, sha256) {
            self.check = Some(Err(mismatch));
        }
    }
}

fn reading_failed(path: &[u8], source: io::Error) -> PackError {
    let path = to_path(path);
    match source.kind() {
        // NFS: removed on the server while we had it open.
        io::ErrorKind::StaleNetworkFileHandle => PackError::Changed { path },
        _ => PackError::Episode { path, source },
    }
}
