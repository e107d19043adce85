//! Reads TCP segments as they come out of a link, to tell bytes that cross for the first time from those that TCP sends again.

use std::collections::HashMap;

use rangemap::RangeSet;

/// TCP over IPv4, as far as bytes of streams are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// Source and destination port. Between two hosts they name a stream.
    ports: [u16; 2],
    sequence: u32,
    is_first: bool,
    payload: u32,
}

impl Segment {
    fn read(packet: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        const SYN: u8 = 2;
        let ip_header = usize::from(packet.first()? & 15) * 4;
        if packet[0] >> 4 != 4 || *packet.get(9)? != TCP {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let segment = packet.get(ip_header..length)?;
        let header = usize::from(*segment.get(12)? >> 4) * 4;
        let sixteen = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        Some(Self {
            ports: [sixteen(0), sixteen(2)],
            sequence: u32::from(sixteen(4)) << 16 | u32::from(sixteen(6)),
            is_first: segment.get(13)? & SYN != 0,
            payload: u32::try_from(segment.len().checked_sub(header)?).ok()?,
        })
    }
}

/// The bytes of one stream that have come out.
#[derive(Debug, Default)]
struct Stream {
    /// The sequence number of its first byte.
    first: u32,
    bytes: RangeSet<u64>,
}

/// The streams of one direction.
#[derive(Debug, Default)]
pub(crate) struct Streams(HashMap<[u16; 2], Stream>);

/// Bytes of payload in a packet: all, and those that were not in one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) all: u64,
    pub(crate) new: u64,
}

impl Streams {
    /// Notes a packet that came out. Streams are shorter than 4 GiB.
    pub(crate) fn note(&mut self, packet: &[u8]) -> Payload {
        let Some(segment) = Segment::read(packet) else {
            return Payload::default();
        };
        if segment.is_first {
            self.begin(segment.ports, segment.sequence.wrapping_add(1));
        }
        if segment.payload == 0 {
            return Payload::default();
        }
        let stream = self.0.entry(segment.ports).or_insert_with(|| Stream {
            first: segment.sequence,
            bytes: RangeSet::new(),
        });
        let start = u64::from(segment.sequence.wrapping_sub(stream.first));
        let range = start..start + u64::from(segment.payload);
        let new = stream.bytes.gaps(&range).map(|gap| gap.end - gap.start);
        let payload = Payload {
            all: segment.payload.into(),
            new: new.sum(),
        };
        stream.bytes.insert(range);
        payload
    }

    /// Ports are used again: what another first number begins is another stream.
    fn begin(&mut self, ports: [u16; 2], first: u32) {
        if self.0.get(&ports).is_none_or(|known| known.first != first) {
            let bytes = RangeSet::new();
            self.0.insert(ports, Stream { first, bytes });
        }
    }
}
