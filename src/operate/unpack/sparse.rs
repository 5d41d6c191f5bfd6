//! A file that is written from its first byte on, with a hole wherever a whole block is zeros: an
//! archive holds a sparse file as what it contains, and says nothing of its holes.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// The smallest hole of most file systems.
const BLOCK_BYTES: u64 = 4096;

pub(super) struct SparseWriter<'a> {
    file: &'a File,
    at: u64,
    /// The file reaches no further yet: a hole at its end is no byte of it.
    written: u64,
}

impl<'a> SparseWriter<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        let (at, written) = (0, 0);
        Self { file, at, written }
    }

    /// Where the next byte goes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// # Errors
    /// Those of write(2).
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (zeros, data) = runs(bytes, self.at);
            self.at += zeros as u64;
            let end = zeros + data;
            if data > 0 {
                self.file.write_all_at(&bytes[zeros..end], self.at)?;
                self.at += data as u64;
                self.written = self.at;
            }
            bytes = &bytes[end..];
        }
        Ok(())
    }

    /// # Errors
    /// Those of ftruncate(2).
    pub(super) fn finish(self) -> io::Result<()> {
        match self.written < self.at {
            true => self.file.set_len(self.at),
            false => Ok(()),
        }
    }
}

/// How many bytes from the front lie in blocks of zeros, by their place in the file, and how many
/// behind those do not. What is left out of a block that is written is zeros as well.
fn runs(bytes: &[u8], at: u64) -> (usize, usize) {
    let mut pieces = pieces(bytes, at).peekable();
    let is_hole = |piece: &&[u8]| piece.iter().all(|byte| *byte == 0);
    let mut zeros = 0;
    while let Some(piece) = pieces.next_if(is_hole) {
        zeros += piece.len();
    }
    (
        zeros,
        pieces
            .take_while(|piece| !is_hole(piece))
            .map(<[u8]>::len)
            .sum(),
    )
}

/// Cut where blocks of the file begin.
fn pieces(bytes: &[u8], at: u64) -> impl Iterator<Item = &[u8]> {
    let first = (BLOCK_BYTES - at % BLOCK_BYTES) as usize;
    let (first, rest) = bytes.split_at(first.min(bytes.len()));
    std::iter::once(first).chain(rest.chunks(BLOCK_BYTES as usize))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn what_was_written_is_read_and_blocks_of_zeros_take_no_room_however_it_was_cut() {
        let mut content = vec![0; 1 << 20];
        for at in [0, 5000, 300_000, 300_001, 700_000] {
            content[at] = 1;
        }
        let folder = tempfile::tempdir().unwrap();
        for cut in [1 << 20, 4096, 4095, 70_000] {
            let file = File::create(folder.path().join("a")).unwrap();
            let mut sparse = SparseWriter::new(&file);
            content
                .chunks(cut)
                .for_each(|chunk| sparse.write(chunk).unwrap());
            sparse.finish().unwrap();
            assert!(
                fs::read(folder.path().join("a")).unwrap() == content,
                "{cut}"
            );
            let room = file.metadata().unwrap().blocks() * 512;
            assert!(room <= 10 * 4096, "{cut}: {room}");
        }
    }
}
