//! The manifest that `sealift seal` writes into `done.marker`, and that packing checks what it
//! reads against.
//!
//! ```json
//! {"sealift_manifest":1,"files":[{"path":"data/x.bin","size_bytes":12,"sha256":"hex"},
//!                                {"path_b64":"/w==", ...}]}
//! ```
//!
//! It lists every regular file of the episode, sorted by the bytes of its path: relative, `/`
//! between the parts, `path_b64` (RFC 4648, section 4) where a name is not UTF-8. Not listed:
//! `done.marker` itself and the records of ours that the walk leaves out; folders, symlinks, FIFOs,
//! sockets and devices, which have no content to lose.
//!
//! What a marker's content means:
//!
//! | content | meaning |
//! |---|---|
//! | a JSON object with a `sealift_manifest` member, well-formed | the manifest |
//! | the same, of another version | nothing that we could check: [`NoManifest::Version`] |
//! | the same, with members we cannot read, or cut off | [`NoManifest::Unfinished`], or broken |
//! | not JSON, but beginning with `{` and (part of) `"sealift_manifest"` or `"files"` | the same |
//! | anything else, nothing included | a marker without a manifest |

mod seal;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::seal::seal;
pub(crate) use self::seal::{SealOptions, seal_with};
use crate::{
    disk::tree::{shown, to_path},
    model::{episode::Digest, layout::MARKER, records::ManifestCheck},
};

/// The longest manifest. At some 160 bytes a file this is room for 400,000 of them; it bounds what
/// checking one takes in memory.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

const VERSION: u64 = 1;

/// What the recorder says that the episode holds, in the order of the walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Manifest {
    files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ManifestFile {
    path: Box<[u8]>,
    size_bytes: u64,
    sha256: Digest,
}

/// The marker means to be a manifest, and cannot be read as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoManifest {
    /// Half written, or broken for good: time tells which.
    #[error("done.marker begins like a manifest and cannot be read as one: {why}")]
    Unfinished {
        /// What is wrong with it.
        why: String,
    },
    /// It is whole, and no waiting makes it another.
    #[error("the manifest in done.marker has version {0}; this sealift knows {VERSION}")]
    Version(u64),
}

/// How what was read differs from the manifest: a sentence that names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mismatch(pub String);

/// Reads a marker's content. `None` where it carries no manifest.
///
/// # Errors
/// [`NoManifest`] as in the table above, or where it is longer than [`MAX_MANIFEST_BYTES`].
pub(crate) fn parse(marker: &[u8]) -> Result<Option<Manifest>, NoManifest> {
    // Asked first, since serde reads a struct out of an array as well.
    if !marker.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let why = match serde_json::from_slice::<OnDisk>(marker) {
        Ok(on_disk) => match Manifest::from_disk(on_disk) {
            Ok(manifest) if marker.len() as u64 <= MAX_MANIFEST_BYTES => return Ok(Some(manifest)),
            Ok(_) => format!("it is longer than {MAX_MANIFEST_BYTES} bytes"),
            Err(why) => why,
        },
        Err(error) => error.to_string(),
    };
    match serde_json::from_slice::<ManifestProbe>(marker) {
        Ok(ManifestProbe {
            sealift_manifest: None,
        }) => Ok(None),
        Err(_) if !begins_like_one(marker) => Ok(None),
        Ok(ManifestProbe {
            sealift_manifest: Some(member),
        }) => Err(match member.as_u64() {
            Some(version) if version != VERSION => NoManifest::Version(version),
            Some(_) | None => NoManifest::Unfinished { why },
        }),
        Err(_) => Err(NoManifest::Unfinished { why }),
    }
}

impl Manifest {
    /// Adds a file. Files come in the order of the walk.
    fn push(&mut self, path: &[u8], size_bytes: u64, sha256: Digest) {
        self.files.push(ManifestFile {
            path: path.into(),
            size_bytes,
            sha256,
        });
    }

    /// How many files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// As it stands in `done.marker`.
    ///
    /// # Errors
    /// None that serialising numbers and strings could meet.
    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let files = self.files.iter().map(|file| {
            let (path, path_b64) = match std::str::from_utf8(&file.path) {
                Ok(path) => (Some(path.to_owned()), None),
                Err(_) => (None, Some(BASE64.encode(&file.path))),
            };
            ListedOnDisk {
                path,
                path_b64,
                size_bytes: file.size_bytes,
                sha256: file.sha256,
            }
        });
        serde_json::to_vec(&OnDisk {
            sealift_manifest: VERSION,
            files: files.collect(),
        })
    }

    fn from_disk(on_disk: OnDisk) -> Result<Self, String> {
        if on_disk.sealift_manifest != VERSION {
            return Err("it is of another version".to_owned());
        }
        let mut files = on_disk
            .files
            .into_iter()
            .map(ManifestFile::from_disk)
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        match files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            Some(twice) => Err(format!("it lists {} twice", named(&twice[0].path))),
            None => Ok(Self { files }),
        }
    }
}

impl ManifestFile {
    fn from_disk(file: ListedOnDisk) -> Result<Self, String> {
        let path = match (file.path, file.path_b64) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(encoded)) => BASE64
                .decode(encoded)
                .map_err(|error| format!("a path_b64 is not base64: {error}"))?,
            _ => return Err("each file needs one of path and path_b64".to_owned()),
        };
        // Never used to open anything; refused all the same, so that a slip elsewhere cannot make
        // it dangerous.
        let climbs = path
            .split(|byte| *byte == b'/')
            .any(|part| matches!(part, b"" | b"." | b".."));
        if climbs || path.contains(&0) {
            return Err(format!("{} is not a path inside the episode", named(&path)));
        }
        Ok(Self {
            path: path.into(),
            size_bytes: file.size_bytes,
            sha256: file.sha256,
        })
    }
}

/// Compares the files of an episode, as they are read in the order of the walk, with its manifest.
#[derive(Debug)]
pub(crate) struct ManifestComparison {
    expected: std::iter::Peekable<std::vec::IntoIter<ManifestFile>>,
}

impl ManifestComparison {
    /// Nothing compared yet.
    #[must_use]
    pub(crate) fn new(manifest: Manifest) -> Self {
        Self {
            expected: manifest.files.into_iter().peekable(),
        }
    }

    /// A file was read.
    ///
    /// # Errors
    /// [`Mismatch`] where it, or one that should have come before it, differs.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        size_bytes: u64,
        sha256: Digest,
    ) -> Result<(), Mismatch> {
        if path == MARKER.as_bytes() {
            return Ok(());
        }
        let Some(expected) = self.expected.next_if(|expected| *expected.path <= *path) else {
            return Err(Mismatch(format!("{} is not in the manifest", named(path))));
        };
        if *expected.path != *path {
            return Err(missing(&expected));
        }
        let (name, stated) = (named(path), expected.size_bytes);
        if stated != size_bytes {
            return Err(Mismatch(format!(
                "{name} has {size_bytes} bytes, the manifest says {stated}"
            )));
        }
        if expected.sha256 != sha256 {
            return Err(Mismatch(format!(
                "{name} has another digest than the manifest says"
            )));
        }
        Ok(())
    }

    /// Every file was read.
    ///
    /// # Errors
    /// [`Mismatch`] where the manifest lists more.
    pub(crate) fn finish(mut self) -> Result<ManifestCheck, Mismatch> {
        match self.expected.next() {
            Some(more) => Err(missing(&more)),
            None => Ok(ManifestCheck::Verified),
        }
    }
}

fn missing(file: &ManifestFile) -> Mismatch {
    Mismatch(format!(
        "{} is in the manifest and not in the episode",
        named(&file.path)
    ))
}

fn named(path: &[u8]) -> String {
    shown(&to_path(path))
}

/// Whether a text that is no JSON may become a manifest: `{`, then one of the two member names, or
/// what there is of it.
fn begins_like_one(marker: &[u8]) -> bool {
    let Some(inside) = marker.trim_ascii_start().strip_prefix(b"{") else {
        return false;
    };
    let inside = inside.trim_ascii_start();
    [&b"\"sealift_manifest\""[..], b"\"files\""]
        .iter()
        .any(|name| inside.starts_with(name) || name.starts_with(inside))
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    sealift_manifest: u64,
    files: Vec<ListedOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct ListedOnDisk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    size_bytes: u64,
    sha256: Digest,
}

#[derive(Deserialize)]
struct ManifestProbe {
    sealift_manifest: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(paths: &[&[u8]]) -> Manifest {
        let mut manifest = Manifest::default();
        paths
            .iter()
            .for_each(|path| manifest.push(path, path.len() as u64, Digest::of(path)));
        manifest
    }

    #[test]
    fn a_manifest_reads_back_names_that_are_not_utf8_included() {
        let manifest = listed(&[b"a-b", b"a/x", b"a/\xff\n", "é\"".as_bytes()]);
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(parse(&bytes), Ok(Some(manifest)));
        assert!(bytes.starts_with(
            br#"{"sealift_manifest":1,"files":[{"path":"a-b","size_bytes":3,"sha256":""#
        ));
    }

    #[test]
    fn markers_of_other_recorders_carry_no_manifest() {
        for content in [
            &b""[..],
            b"\n",
            b"ok",
            b"{}",
            b"{\"ended_at\":12}",
            b"{\"ended_at\":",
            b"[1]",
            b"[1,[]]",
            b"\0\0\0\0",
            b"\xff",
            b"{\"files\":[\"a\"]}",
            b"{sealed}",
        ] {
            assert_eq!(
                parse(content),
                Ok(None),
                "{}",
                String::from_utf8_lossy(content)
            );
        }
    }

    #[test]
    fn every_beginning_of_a_manifest_is_waited_for() {
        let whole = listed(&[b"x", b"\xff"]).to_bytes().unwrap();
        for cut in 1..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let spaced = b" \n{ \"files\" : [ {";
        assert!(parse(spaced).is_err());
    }

    #[test]
    fn a_manifest_with_a_wrong_member_is_no_other_content() {
        let digest = Digest::of(b"");
        let with = |files: &str| {
            parse(format!(r#"{{"sealift_manifest":1,"files":[{files}]}}"#).as_bytes())
        };
        for bad in [
            format!(r#"{{"path":"../x","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path":"/x","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path":"a//x","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path":"","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path":"a\u0000","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path":"x","path_b64":"eA==","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path_b64":"?","size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"size_bytes":0,"sha256":"{digest}"}}"#),
            format!(r#"{{"path":"x","size_bytes":-1,"sha256":"{digest}"}}"#),
            r#"{"path":"x","size_bytes":0,"sha256":"abc"}"#.to_owned(),
            format!(
                r#"{{"path":"x","size_bytes":0,"sha256":"{digest}"}},{{"path":"x","size_bytes":0,"sha256":"{digest}"}}"#
            ),
        ] {
            assert!(with(&bad).is_err(), "{bad}");
        }
        assert!(with("").unwrap().unwrap().len() == 0);
        for newer in [
            r#"{"sealift_manifest":2,"files":[]}"#,
            r#"{"sealift_manifest":2,"entries":7}"#,
        ] {
            let newer = parse(newer.as_bytes()).unwrap_err();
            assert_eq!(newer, NoManifest::Version(2));
            assert!(
                newer
                    .to_string()
                    .ends_with("has version 2; this sealift knows 1"),
                "{newer}"
            );
        }
        for broken in [
            r#"{"sealift_manifest":1,"entries":7}"#,
            r#"{"sealift_manifest":"2","files":[]}"#,
        ] {
            assert!(
                matches!(parse(broken.as_bytes()), Err(NoManifest::Unfinished { .. })),
                "{broken}"
            );
        }
        assert!(parse(br#"{"sealift_manifest":1,"files":[]} trailing"#).is_err());
        assert!(
            parse(br#"{"sealift_manifest":1,"files":[],"by":"a newer one"}"#)
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn each_way_to_differ_names_the_file() {
        let manifest = || listed(&[b"a", b"b", b"d"]);
        let differs = |read: &[(&[u8], u64, &[u8])]| {
            let mut check = ManifestComparison::new(manifest());
            read.iter()
                .try_for_each(|(path, size, content)| check.file(path, *size, Digest::of(content)))
                .and_then(|()| check.finish().map(|_| ()))
                .map_err(|mismatch| mismatch.0)
        };
        let (a, b, d): (_, _, (&[u8], u64, &[u8])) = (
            (&b"a"[..], 1, &b"a"[..]),
            (&b"b"[..], 1, &b"b"[..]),
            (b"d", 1, b"d"),
        );
        assert_eq!(differs(&[a, b, d]), Ok(()));
        assert_eq!(differs(&[a, b, d, (b"done.marker", 9, b"")]), Ok(()));
        for (read, says) in [
            (&[a, b][..], "d is in the manifest and not in the episode"),
            (&[a, d], "b is in the manifest and not in the episode"),
            (&[b, d], "a is in the manifest and not in the episode"),
            (
                &[a, b, (b"c\x1b", 1, b"c"), d],
                "c\\u{1b} is not in the manifest",
            ),
            (&[a, b, d, (b"e", 1, b"e")], "e is not in the manifest"),
            (
                &[a, b, (b"d", 2, b"d")],
                "d has 2 bytes, the manifest says 1",
            ),
            (
                &[a, b, (b"d", 1, b"D")],
                "d has another digest than the manifest says",
            ),
        ] {
            assert_eq!(differs(read), Err(says.to_owned()));
        }
    }
}
