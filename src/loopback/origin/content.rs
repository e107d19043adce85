//! Makes file content of any length out of a seed, so that many gibibytes are served from one mebibyte of memory.
//!
//! Content is a row of 4 KiB pages, each a window into one shared pool of noise that starts where a hash of the seed and the
//! page's number says, and begins with that hash. So any offset is reached at once, making bytes is a copy (gigabytes per
//! second even without optimisation), and no two pages are alike: a byte that lands in the wrong place is seen.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};

use crate::digest::{Algorithm, Digests, Hasher};

const PAGE: usize = 4096;
const POOL: usize = 1 << 20;

/// The bytes of a file: held, or made from a seed when they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Held(Bytes),
    Generated { seed: u64, length: u64 },
}

impl Content {
    pub fn generated(seed: u64, length: u64) -> Self {
        Self::Generated { seed, length }
    }

    pub fn length(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Generated { length, .. } => *length,
        }
    }

    /// Fills `buffer` with the content from `offset` on. Beyond the end, generated content goes on and held content is zeros,
    /// for answers that are longer than they should be.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        match self {
            Self::Held(bytes) => fill_from(bytes, offset, buffer),
            Self::Generated { seed, .. } => generate(*seed, offset, buffer),
        }
    }

    /// The bytes of a range that fits in memory.
    pub fn read(&self, range: Range<u64>) -> Bytes {
        let length = usize::try_from(range.end - range.start).expect("a range that fits in memory");
        let mut buffer = BytesMut::zeroed(length);
        self.fill(range.start, &mut buffer);
        buffer.freeze()
    }

    /// Hashes the whole content, in constant memory.
    pub fn digests(&self, also: &[Algorithm]) -> Digests {
        let mut hasher = Hasher::new(also);
        self.each_piece(|piece| hasher.update(piece));
        hasher.finish()
    }

    /// The CRC-32C that Google's storage tells in `x-goog-hash`.
    pub fn crc32c(&self) -> u32 {
        let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        self.each_piece(|piece| crc.update(piece));
        u32::try_from(crc.finalize()).expect("a CRC-32 has 32 bits")
    }

    fn each_piece(&self, mut take: impl FnMut(&[u8])) {
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        while at < self.length() {
            let left = usize::try_from(self.length() - at).unwrap_or(usize::MAX);
            let piece = &mut buffer[..left.min(256 * 1024)];
            self.fill(at, piece);
            take(piece);
            at += piece.len() as u64;
        }
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Self {
        Self::Held(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Held(Bytes::from(text))
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Held(bytes)
    }
}

fn fill_from(bytes: &Bytes, offset: u64, buffer: &mut [u8]) {
    let from = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    let held = (bytes.len() - from).min(buffer.len());
    buffer[..held].copy_from_slice(&bytes[from..from + held]);
    buffer[held..].fill(0);
}

fn generate(seed: u64, offset: u64, buffer: &mut [u8]) {
    let pool = pool();
    let mut page = offset / PAGE as u64;
    let mut within = usize::try_from(offset % PAGE as u64).expect("less than a page");
    let mut rest = buffer;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at_mut(rest.len().min(PAGE - within));
        let mark = mix(seed ^ mix(page));
        let start = usize::try_from(mark % POOL as u64).expect("less than the pool") + within;
        piece.copy_from_slice(&pool[start..start + piece.len()]);
        for (byte, mark) in piece
            .iter_mut()
            .zip(mark.to_le_bytes().into_iter().skip(within))
        {
            *byte = mark;
        }
        rest = after;
        page += 1;
        within = 0;
    }
}

/// Noise that every generated content is cut from.
fn pool() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        (0..((POOL + PAGE) / 8) as u64)
            .flat_map(|word| mix(word).to_le_bytes())
            .collect()
    })
}

/// The output function of the SplitMix64 generator: every input bit changes half of the output bits.
pub(super) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn any_range_is_the_same_bytes_as_in_the_whole() {
        let content = Content::generated(7, 20_001);
        let whole = content.read(0..20_001);
        for (from, until) in [
            (0, 1),
            (3, 9),
            (4090, 4100),
            (4096, 8192),
            (8191, 20_001),
            (20_000, 20_001),
        ] {
            let range = usize::try_from(from).unwrap()..usize::try_from(until).unwrap();
            assert_eq!(content.read(from..until), whole[range], "{from}..{until}");
        }
    }

    #[test]
    fn no_two_pages_are_alike_within_and_across_seeds() {
        let mut pages = HashSet::new();
        for seed in 0..4 {
            let content = Content::generated(seed, 1 << 20);
            for page in content.read(0..1 << 20).chunks(PAGE) {
                assert!(pages.insert(page.to_vec()));
            }
        }
    }

    #[test]
    fn digests_and_crc_are_those_of_the_bytes() {
        let content = Content::generated(1, 700_000);
        let bytes = content.read(0..700_000);
        assert_eq!(content.digests(&[]), Digests::of(&bytes, &[]));
        // The check value of CRC-32C in the catalogue of CRC algorithms.
        assert_eq!(Content::from("123456789").crc32c(), 0xe306_9283);
    }

    #[test]
    fn what_lies_beyond_the_end_of_held_content_is_zeros() {
        let content = Content::from("abc");
        assert_eq!(content.read(1..5), &b"bc\0\0"[..]);
        assert_eq!(content.read(9..11), &b"\0\0"[..]);
    }
}
