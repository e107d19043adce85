//! Memory for small files, in blocks under a budget.
//!
//! Blocks that were given back are kept for the next file, and never for another use: allocators hold on to what they are
//! given back in large pieces, and the program would take a multiple of the budget.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the smallest file takes. Four thousand such are no burden to keep, and a file's last block wastes half of one.
const BLOCK_BYTES: usize = 64 << 10;

/// What all small files together may take.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<Blocks>>);

#[derive(Debug)]
struct Blocks {
    free: Vec<Box<[u8]>>,
    /// How many more may be made.
    to_make: u64,
}

/// One file's bytes.
#[derive(Debug)]
pub(super) struct Share {
    blocks: Vec<Box<[u8]>>,
    length: u64,
    memory: Memory,
}

impl Memory {
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Blocks {
            free: Vec::new(),
            to_make: bytes / BLOCK_BYTES as u64,
        })))
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a file of this length; None where the budget has none. What stands in it is not yet the file's.
    pub(super) fn share(&self, length: u64) -> Option<Share> {
        let count = length.div_ceil(BLOCK_BYTES as u64);
        let mut all = self.blocks();
        if count > all.free.len() as u64 + all.to_make {
            return None;
        }
        let mut blocks = Vec::new();
        for _ in 0..count {
            let block = all.free.pop().unwrap_or_else(|| {
                all.to_make -= 1;
                vec![0; BLOCK_BYTES].into()
            });
            blocks.push(block);
        }
        Some(Share {
            blocks,
            length,
            memory: self.clone(),
        })
    }
}

impl Share {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fails where it would end beyond the file.
    pub(super) fn write_all_at(&mut self, mut bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut block, mut at) = self.place(bytes.len(), offset)?;
        while !bytes.is_empty() {
            let now = bytes.len().min(BLOCK_BYTES - at);
            self.blocks[block][at..at + now].copy_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            (block, at) = (block + 1, 0);
        }
        Ok(())
    }

    /// As [`Share::write_all_at`], the other way.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut block, mut at) = self.place(buffer.len(), offset)?;
        let mut rest = buffer;
        while !rest.is_empty() {
            let now = rest.len().min(BLOCK_BYTES - at);
            let (these, those) = rest.split_at_mut(now);
            these.copy_from_slice(&self.blocks[block][at..at + now]);
            rest = those;
            (block, at) = (block + 1, 0);
        }
        Ok(())
    }

    /// The block that an offset lies in, and where in it.
    fn place(&self, bytes: usize, offset: u64) -> io::Result<(usize, usize)> {
        let end = offset.saturating_add(bytes as u64);
        if end > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        Ok((offset / BLOCK_BYTES, offset % BLOCK_BYTES))
    }

    /// The file's bytes, in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.length;
        self.blocks.iter().map(move |block| {
            let now = left.min(BLOCK_BYTES as u64);
            left -= now;
            // No more than a block.
            &block[..usize::try_from(now).unwrap_or(BLOCK_BYTES)]
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.blocks().free.append(&mut self.blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    #[test]
    fn bytes_come_back_across_blocks() {
        let memory = Memory::of_bytes(3 * BLOCK);
        let mut share = memory.share(2 * BLOCK + 10).unwrap();
        let bytes: Vec<u8> = (0..2 * BLOCK + 10).map(|n| (n % 251) as u8).collect();
        let (start, rest) = bytes.split_at(BLOCK_BYTES - 3);
        share.write_all_at(rest, BLOCK - 3).unwrap();
        share.write_all_at(start, 0).unwrap();
        let mut read = vec![0; bytes.len() - 5];
        share.read_exact_at(&mut read, 5).unwrap();
        assert!(read == bytes[5..]);
        assert!(share.pieces().collect::<Vec<_>>().concat() == bytes);
        assert!(share.write_all_at(b"0", 2 * BLOCK + 10).is_err());
        assert!(share.read_exact_at(&mut [0; 2], 2 * BLOCK + 9).is_err());
    }

    #[test]
    fn no_more_is_given_than_there_is_and_all_comes_back() {
        let memory = Memory::of_bytes(3 * BLOCK + 1);
        let first = memory.share(2 * BLOCK).unwrap();
        assert!(memory.share(BLOCK + 1).is_none());
        let second = memory.share(1).unwrap();
        assert!(memory.share(1).is_none());
        assert!(memory.share(0).is_some(), "an empty file takes nothing");
        drop((first, second));
        assert!(memory.share(3 * BLOCK).is_some());
        assert_eq!(memory.blocks().free.len(), 3, "blocks are used again");
    }
}
