//! Where a sparse file has nothing to read: of 20 GB with a few megabytes in them, reading the rest
//! takes as long as hashing it, and puts 20 GB of zeros into the page cache.
//!
//! Holes are asked for (lseek(2), `SEEK_DATA`) only where the answer is known to be right for what
//! was written a moment ago: on ext4, XFS and tmpfs, whose kernels look into the page cache for it.
//! OpenZFS told of holes where there was data (its issue 15526). Elsewhere a hole is read.

use std::{fs::File, io};

use rustix::{
    fs::{SeekFrom, fstat, fstatfs, seek},
    io::Errno,
};

/// `f_type` of ext2 to ext4, of XFS and of tmpfs (statfs(2)).
const TOLD_RIGHT: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// What is known of a file's holes.
pub(super) struct Holes<'a> {
    /// `None` where it has none, or they are not asked for.
    file: Option<&'a File>,
    size_bytes: u64,
    /// Up to there nothing is a hole.
    data_until: u64,
}

impl<'a> Holes<'a> {
    /// Of a file that is this long.
    pub(super) fn of(file: &'a File, size_bytes: u64) -> Self {
        let is_sparse = fstat(file).is_ok_and(|stat| (stat.st_blocks as u64) * 512 < size_bytes);
        let are_told =
            is_sparse && fstatfs(file).is_ok_and(|on| TOLD_RIGHT.contains(&(on.f_type as u64)));
        Self {
            file: are_told.then_some(file),
            size_bytes,
            data_until: 0,
        }
    }

    /// How long the hole is that begins there, bytes; zero in data, which is read from there next.
    ///
    /// # Errors
    /// Those of lseek(2).
    pub(super) fn len_at(&mut self, at: u64) -> io::Result<u64> {
        let Some(file) = self.file.filter(|_| at >= self.data_until) else {
            return Ok(0);
        };
        let data_from = self.next(file, SeekFrom::Data(at))?;
        if data_from == at {
            self.data_until = self.next(file, SeekFrom::Hole(at))?;
            seek(file, SeekFrom::Start(at))?;
        }
        Ok(data_from - at)
    }

    fn next(&self, file: &File, what: SeekFrom) -> io::Result<u64> {
        match seek(file, what) {
            Ok(at) => Ok(at.min(self.size_bytes)),
            // None any more, or the file is shorter by now.
            Err(Errno::NXIO) => Ok(self.size_bytes),
            Err(error) => Err(error.into()),
        }
    }

    /// How many of the bytes there, and no more than `most`, are to be read before a hole is asked
    /// for again.
    pub(super) fn data_at(&self, at: u64, most: usize) -> usize {
        match self.file {
            Some(_) => usize::try_from(self.data_until.saturating_sub(at))
                .map_or(most, |data| data.clamp(1, most)),
            None => most,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn what_was_written_a_moment_ago_is_data_and_the_rest_is_a_hole() {
        // A tmpfs on every Linux.
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        let (end, page) = (1 << 30, 4096);
        file.set_len(end).unwrap();
        for at in [0, 5 * page, end / 2 + 7] {
            file.write_all_at(b"recorded", at).unwrap();
        }
        let mut holes = Holes::of(&file, end);
        let mut found = Vec::new();
        let mut at = 0;
        while at < end {
            let hole = holes.len_at(at).unwrap();
            let data = if hole == 0 {
                holes.data_at(at, 1 << 30) as u64
            } else {
                0
            };
            found.push((hole, data));
            at += hole + data;
        }
        // A huge page may be data as a whole.
        let holes: u64 = found.iter().map(|(hole, _)| hole).sum();
        assert!(holes > end - (8 << 20), "{found:?}");
        assert_eq!(at, end, "{found:?}");
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(Holes::of(&file, 1 << 20).data_at(0, 77), 77, "it has none");
    }
}
