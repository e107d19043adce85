//! Keeps the bytes of objects: in memory as they came from the socket, in files, or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};

use super::Storage;

/// Files are read in frames of this size: large enough to be cheap, small enough to hash in the second-level cache.
const FRAME_BYTES: u64 = 64 << 10;

/// The content of an object: cheap to clone, cheap to join.
#[derive(Debug, Clone)]
pub(super) struct Content {
    length: u64,
    kept: Kept,
}

#[derive(Debug, Clone)]
enum Kept {
    Segments(Arc<[Segment]>),
    Nowhere { md5: [u8; 16] },
}

#[derive(Debug, Clone)]
enum Segment {
    Memory(Bytes),
    File { file: Arc<File>, length: u64 },
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(position(range.start)..position(range.end))),
            Self::File { file, .. } => {
                let mut frame = BytesMut::zeroed(position(range.end - range.start));
                file.read_exact_at(&mut frame, range.start)?;
                Ok(frame.freeze())
            }
        }
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("what is in memory can be addressed")
}

impl Content {
    pub(super) fn of(bytes: Bytes) -> Self {
        Self::from_segments(vec![Segment::Memory(bytes)])
    }

    fn from_segments(segments: Vec<Segment>) -> Self {
        Self {
            length: segments.iter().map(Segment::length).sum(),
            kept: Kept::Segments(segments.into()),
        }
    }

    /// The parts one after the other. They must have been kept.
    pub(super) fn join<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let segments = parts.into_iter().flat_map(|part| match &part.kept {
            Kept::Segments(segments) => segments.to_vec(),
            Kept::Nowhere { .. } => Vec::new(),
        });
        Self::from_segments(segments.collect())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The frames of a range; None when the content was not kept.
    pub(super) fn frames(&self, range: Range<u64>) -> Option<Frames> {
        let Kept::Segments(segments) = &self.kept else {
            return None;
        };
        Some(Frames {
            segments: Arc::clone(segments),
            at: 0,
            skip: range.start,
            left: range.end.min(self.length).saturating_sub(range.start),
        })
    }

    pub(super) fn bytes(&self) -> io::Result<Option<Bytes>> {
        let Some(frames) = self.frames(0..self.length) else {
            return Ok(None);
        };
        let mut all = BytesMut::with_capacity(position(self.length));
        for frame in frames {
            all.extend_from_slice(&frame?);
        }
        Ok(Some(all.freeze()))
    }

    /// The MD5 of the whole. Blocks for as long as it takes to read it.
    pub(super) fn md5(&self) -> io::Result<[u8; 16]> {
        let frames = match (&self.kept, self.frames(0..self.length)) {
            (Kept::Nowhere { md5 }, _) => return Ok(*md5),
            (Kept::Segments(_), frames) => frames.into_iter().flatten(),
        };
        let mut md5 = Md5::new();
        for frame in frames {
            md5.update(&frame?);
        }
        Ok(md5.finalize().into())
    }

    /// Forgets the bytes and keeps what they hash to.
    pub(super) fn forgotten(&self) -> io::Result<Self> {
        let md5 = self.md5()?;
        Ok(Self {
            length: self.length,
            kept: Kept::Nowhere { md5 },
        })
    }

    /// A copy with one bit of the byte at `offset` turned; None where there is no such byte.
    pub(super) fn corrupted(&self, offset: u64) -> io::Result<Option<Self>> {
        let Some(bytes) = self.bytes()?.filter(|_| offset < self.length) else {
            return Ok(None);
        };
        let mut bytes = BytesMut::from(bytes);
        bytes[position(offset)] ^= 1;
        Ok(Some(Self::of(bytes.freeze())))
    }
}

/// The frames of a content, in order.
#[derive(Debug)]
pub(super) struct Frames {
    segments: Arc<[Segment]>,
    at: usize,
    skip: u64,
    left: u64,
}

impl Iterator for Frames {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            let segment = self.segments.get(self.at)?;
            let available = segment.length().saturating_sub(self.skip);
            if available == 0 {
                self.skip -= segment.length();
                self.at += 1;
                continue;
            }
            let taken = available.min(FRAME_BYTES).min(self.left);
            let frame = segment.read(self.skip..self.skip + taken);
            self.skip += taken;
            self.left -= taken;
            return Some(frame);
        }
        None
    }
}

/// Takes a content in, frame by frame. Dropped before `finish` it leaves nothing.
#[derive(Debug)]
pub(super) struct Sink {
    length: u64,
    into: Into,
}

#[derive(Debug)]
enum Into {
    Memory(Vec<Segment>),
    File(File),
    Nowhere,
}

impl Sink {
    /// A sink for an object's bytes.
    pub(super) fn open(storage: &Storage) -> io::Result<Self> {
        let into = match storage {
            Storage::Memory => Into::Memory(Vec::new()),
            Storage::Folder(folder) => Into::File(tempfile::tempfile_in(folder)?),
            Storage::Nowhere => Into::Nowhere,
        };
        Ok(Self { length: 0, into })
    }

    /// A sink for the bytes of a part, which are kept until the upload is completed.
    pub(super) fn open_for_part(storage: &Storage) -> io::Result<Self> {
        match storage {
            Storage::Nowhere => Self::open(&Storage::Memory),
            kept => Self::open(kept),
        }
    }

    /// Writes to files without leaving the async thread: one frame into the page cache costs less than the hand-over would.
    pub(super) fn take(&mut self, frame: Bytes) -> io::Result<()> {
        self.length += frame.len() as u64;
        match &mut self.into {
            Into::Memory(segments) => segments.push(Segment::Memory(frame)),
            Into::File(file) => file.write_all(&frame)?,
            Into::Nowhere => {}
        }
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn finish(self, md5: [u8; 16]) -> Content {
        let kept = match self.into {
            Into::Memory(segments) => Kept::Segments(segments.into()),
            Into::File(file) => Kept::Segments(Arc::new([Segment::File {
                file: Arc::new(file),
                length: self.length,
            }])),
            Into::Nowhere => Kept::Nowhere { md5 },
        };
        Content {
            length: self.length,
            kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(storage: &Storage, frames: &[&'static str]) -> Content {
        let mut sink = Sink::open(storage).unwrap();
        for frame in frames {
            sink.take(Bytes::from_static(frame.as_bytes())).unwrap();
        }
        sink.finish(Md5::digest(frames.concat()).into())
    }

    fn read(content: &Content, range: Range<u64>) -> String {
        let frames = content.frames(range).unwrap();
        frames
            .map(|frame| String::from_utf8(frame.unwrap().to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn any_range_reads_as_written_from_memory_and_file() {
        let folder = tempfile::tempdir().unwrap();
        for storage in [Storage::Memory, Storage::Folder(folder.path().to_owned())] {
            let parts = [
                content(&storage, &["ab", "", "cde"]),
                content(&storage, &["f"]),
            ];
            let whole = Content::join(&parts);
            assert_eq!(whole.length(), 6);
            for start in 0..=6 {
                for end in start..=6 {
                    let expected = &"abcdef"[start..end];
                    assert_eq!(read(&whole, start as u64..end as u64), expected);
                }
            }
            assert_eq!(whole.md5().unwrap()[..], Md5::digest("abcdef")[..]);
        }
    }

    #[test]
    fn what_is_kept_nowhere_still_knows_its_digest() {
        let content = content(&Storage::Nowhere, &["abc"]);
        assert!(content.frames(0..3).is_none());
        assert_eq!(content.md5().unwrap()[..], Md5::digest("abc")[..]);
    }

    #[test]
    fn corruption_changes_one_byte() {
        let content = content(&Storage::Memory, &["ab", "c"]);
        let corrupted = content.corrupted(2).unwrap().unwrap();
        assert_eq!(read(&corrupted, 0..3), "abb");
        assert!(content.corrupted(3).unwrap().is_none());
    }
}
