//! What of a file is written when it is copied. Where it has holes, what is all zeros is left one,
//! however small, so that a copy takes no more room than is claimed for it ([`super::copy_space`]).
//! Where they are is not asked (lseek(2), `SEEK_HOLE`): the copy is to be right where what that
//! says is wrong. A file without holes is written in its order, since some file systems take no
//! other (rclone's without a cache).

use std::{fs::File, io, ops::Range};

use rustix::fs::fstat;

/// The smallest hole of most file systems.
const HOLE_BYTES: usize = 4096;

/// Whether a file takes less room than it is long.
pub(super) fn is_sparse(file: &File) -> io::Result<bool> {
    let stat = fstat(file)?;
    Ok(stat.st_blocks.saturating_mul(512) < stat.st_size)
}

/// Of a sparse file: where a buffer has anything but zeros, in whole blocks from its beginning.
pub(super) fn written(buffer: &[u8], is_sparse: bool) -> Vec<Range<usize>> {
    if !is_sparse {
        return std::iter::once(0..buffer.len()).collect();
    }
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for block in buffer.chunks(HOLE_BYTES) {
        let end = start + block.len();
        if block.iter().any(|byte| *byte != 0) {
            match runs.last_mut() {
                Some(run) if run.end == start => run.end = end,
                _ => runs.push(start..end),
            }
        }
        start = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_beside_each_other_are_one_and_what_is_all_zeros_is_none() {
        let mut buffer = vec![0; 5 * HOLE_BYTES + 100];
        assert!(written(&buffer, true).is_empty());
        assert_eq!(written(&buffer, false).first(), Some(&(0..buffer.len())));
        for at in [0, HOLE_BYTES + 7, 3 * HOLE_BYTES, 5 * HOLE_BYTES + 99] {
            buffer[at] = 1;
        }
        let (begin, end) = (0..2 * HOLE_BYTES, 5 * HOLE_BYTES..5 * HOLE_BYTES + 100);
        assert_eq!(
            written(&buffer, true),
            [begin, 3 * HOLE_BYTES..4 * HOLE_BYTES, end]
        );
        assert!(written(&[], true).is_empty());
    }
}
