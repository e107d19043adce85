//! Shows that the link of the bench `link` is as it says: what it would measure wrongly, nobody would see.

#[path = "../../benches/link/bench/line/pipe.rs"]
mod pipe;
#[path = "../../benches/link/bench/line/streams.rs"]
mod streams;

use std::time::Duration;

use pipe::{Fate, Pipe, Quality};
use streams::{Payload, Streams};

/// 100 Mbit/s and 100 ms: a packet of 1,500 bytes takes 120 µs to send.
const GOOD: Quality = Quality {
    rate: 12_500_000.0,
    delay: Duration::from_millis(100),
    queue: Duration::from_millis(1),
    loss: 0.0,
    burst: 1.0,
};

const PACKET: [u8; 1500] = [0; 1500];

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn a_packet_is_sent_after_those_before_it_and_comes_out_after_the_delay() {
    let mut pipe = Pipe::new(GOOD, 1);
    for _ in 0..2 {
        assert_eq!(pipe.take(Duration::ZERO, &PACKET), Fate::Carried);
    }
    // The line is free again by now.
    assert_eq!(pipe.take(micros(1000), &PACKET[..750]), Fate::Carried);
    for due in [100_120, 100_240, 101_060] {
        assert_eq!(pipe.due(), Some(micros(due)));
        assert!(pipe.give(micros(due - 1)).is_none(), "too early");
        let (_, late) = pipe.give(micros(due + 7)).unwrap();
        assert_eq!(late, micros(7));
    }
    assert_eq!(pipe.due(), None);
}

#[test]
fn packets_come_out_as_they_went_in() {
    let mut pipe = Pipe::new(GOOD, 1);
    pipe.take(Duration::ZERO, b"first");
    pipe.take(Duration::ZERO, b"second");
    let later = Duration::from_secs(1);
    assert_eq!(&*pipe.give(later).unwrap().0, b"first");
    assert_eq!(&*pipe.give(later).unwrap().0, b"second");
    assert!(pipe.give(later).is_none());
}

#[test]
fn a_full_queue_drops_what_comes_until_some_of_it_is_sent() {
    let mut pipe = Pipe::new(GOOD, 1);
    let fates: Vec<Fate> = (0..11)
        .map(|_| pipe.take(Duration::ZERO, &PACKET))
        .collect();
    // Before the tenth 1,080 µs wait, which is more than the queue holds.
    assert_eq!(fates[..9], [Fate::Carried; 9]);
    assert_eq!(fates[9..], [Fate::Dropped; 2]);
    assert_eq!(pipe.take(micros(80), &PACKET), Fate::Carried);
}

/// The share of packets lost, and the mean length of a row of losses.
fn losses(loss: f64, burst: f64) -> (f64, f64) {
    const PACKETS: u32 = 400_000;
    let quality = Quality {
        loss,
        burst,
        queue: Duration::MAX,
        ..GOOD
    };
    let mut pipe = Pipe::new(quality, 1);
    let (mut lost, mut rows, mut was_lost) = (0_u32, 0_u32, false);
    for _ in 0..PACKETS {
        let is_lost = pipe.take(Duration::ZERO, &[]) == Fate::Lost;
        lost += u32::from(is_lost);
        rows += u32::from(is_lost && !was_lost);
        was_lost = is_lost;
    }
    let share = f64::from(lost) / f64::from(PACKETS);
    (share, f64::from(lost) / f64::from(rows.max(1)))
}

fn near(value: f64, wanted: f64) -> bool {
    (value / wanted - 1.0).abs() < 0.05
}

#[test]
fn packets_are_lost_in_the_share_and_the_rows_that_were_asked_for() {
    assert_eq!(losses(0.0, 1.0), (0.0, 0.0));
    for (loss, burst) in [(0.01, 1.0), (0.01, 4.0), (0.2, 10.0)] {
        let (share, row) = losses(loss, burst);
        // Independent losses follow each other now and then.
        let wanted = if burst > 1.0 {
            burst
        } else {
            1.0 / (1.0 - loss)
        };
        assert!(near(share, loss), "{share} for {loss} in rows of {burst}");
        assert!(near(row, wanted), "{row} for {loss} in rows of {burst}");
    }
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    let quality = Quality { loss: 0.3, ..GOOD };
    let fates = |seed| {
        let mut pipe = Pipe::new(quality, seed);
        (0..64)
            .map(|_| pipe.take(Duration::ZERO, &[]))
            .collect::<Vec<_>>()
    };
    assert_eq!(fates(1), fates(1));
    assert_ne!(fates(1), fates(2));
}

const SYN: u8 = 2;
const ACK: u8 = 16;

/// A TCP segment in an IPv4 packet, both with options.
fn segment(port: u16, sequence: u32, flags: u8, payload: u16) -> Vec<u8> {
    const IP: usize = 24;
    const TCP: usize = 32;
    let mut packet = vec![0; IP + TCP + usize::from(payload)];
    packet[0] = 0x46;
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[9] = 6;
    packet[IP..IP + 2].copy_from_slice(&80_u16.to_be_bytes());
    packet[IP + 2..IP + 4].copy_from_slice(&port.to_be_bytes());
    packet[IP + 4..IP + 8].copy_from_slice(&sequence.to_be_bytes());
    packet[IP + 12] = 0x80;
    packet[IP + 13] = flags;
    packet
}

#[track_caller]
fn check(streams: &mut Streams, packet: &[u8], all: u64, new: u64) {
    assert_eq!(streams.note(packet), Payload { all, new });
}

#[test]
fn a_byte_of_a_stream_is_new_once() {
    // Sequence numbers go round within the stream.
    let first = u32::MAX - 1500;
    let at = |offset: u32| first.wrapping_add(1 + offset);
    let mut streams = Streams::default();
    check(&mut streams, &segment(1, first, SYN, 0), 0, 0);
    check(&mut streams, &segment(1, at(0), ACK, 1000), 1000, 1000);
    // One is lost on the way here: what comes after it is new, and so is it when it comes.
    check(&mut streams, &segment(1, at(2000), ACK, 1000), 1000, 1000);
    check(&mut streams, &segment(1, at(1000), ACK, 1000), 1000, 1000);
    check(&mut streams, &segment(1, at(2500), ACK, 1000), 1000, 500);
    check(&mut streams, &segment(1, at(0), ACK, 1000), 1000, 0);
    check(&mut streams, &segment(1, first, SYN, 0), 0, 0);
    check(&mut streams, &segment(1, at(0), ACK, 1000), 1000, 0);
}

#[test]
fn streams_are_told_apart_by_port_and_by_their_first_number() {
    let mut streams = Streams::default();
    for (port, first) in [(1, 7), (2, 7), (1, 900_000)] {
        check(&mut streams, &segment(port, first, SYN, 0), 0, 0);
        check(&mut streams, &segment(port, first + 1, ACK, 10), 10, 10);
    }
}

#[test]
fn what_is_no_tcp_has_no_payload() {
    let mut streams = Streams::default();
    let mut udp = segment(1, 0, ACK, 100);
    udp[9] = 17;
    let mut v6 = segment(1, 0, ACK, 100);
    v6[0] = 0x65;
    for packet in [&udp[..], &v6, &[], &segment(1, 0, ACK, 100)[..30]] {
        check(&mut streams, packet, 0, 0);
    }
}
