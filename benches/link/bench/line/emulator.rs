//! Carries IP packets between two TUN devices as a long, narrow, lossy line would: a process of its own, so that nothing that
//! is measured delays it. Linux only.
//!
//! Each direction is a thread that reads one device, keeps each packet for its time, and writes the other. It answers a line on
//! its standard input with its counters, and ends, with a last count, when that input ends: so it never outlives who started it.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::pipe::{Fate, Pipe, Quality};
use super::streams::Streams;

/// The largest packet on the devices.
pub(crate) const MTU: usize = 1500;

/// Devices are looked after this often while packets are on their way: two of full size pass at 100 Mbit/s, and against a
/// delay of 100 ms it is nothing.
const STEP: Duration = Duration::from_micros(250);

/// How long an idle direction sleeps before it looks whether all is over.
const IDLE: Duration = Duration::from_millis(100);

/// Before everything else on a busy machine.
const PRIORITY: i32 = -20;

/// What one direction did so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) packets_lost: u64,
    /// By a full queue.
    pub(crate) packets_dropped: u64,
    /// Of whole packets.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Of TCP's payload, of what came out.
    pub(crate) payload: u64,
    /// The payload without what TCP had brought out before.
    pub(crate) payload_new: u64,
    /// How late packets came out, at most and on average.
    pub(crate) late_us_max: u64,
    pub(crate) late_us_sum: u64,
}

/// Both directions, by the end at which packets go in.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Crossed {
    pub(crate) from_first: Counters,
    pub(crate) from_second: Counters,
}

/// The line to make, and the names of the devices at its two ends.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Line {
    #[arg(long)]
    pub(crate) first: String,
    #[arg(long)]
    pub(crate) second: String,
    /// Mbit/s
    #[arg(long)]
    pub(crate) rate: f64,
    /// One way, ms
    #[arg(long)]
    pub(crate) delay: f64,
    /// Per cent
    #[arg(long)]
    pub(crate) loss: f64,
    /// Packets
    #[arg(long)]
    pub(crate) burst: f64,
    /// ms
    #[arg(long)]
    pub(crate) queue: f64,
    #[arg(long)]
    pub(crate) seed: u64,
}

impl Line {
    /// The line as arguments for the process that makes it.
    pub(crate) fn words(&self) -> Vec<String> {
        vec![
            format!("--first={}", self.first),
            format!("--second={}", self.second),
            format!("--rate={}", self.rate),
            format!("--delay={}", self.delay),
            format!("--loss={}", self.loss),
            format!("--burst={}", self.burst),
            format!("--queue={}", self.queue),
            format!("--seed={}", self.seed),
        ]
    }

    fn quality(&self) -> Quality {
        let milliseconds = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        Quality {
            rate: self.rate * 1e6 / 8.0,
            delay: milliseconds(self.delay),
            queue: milliseconds(self.queue),
            loss: self.loss / 100.0,
            burst: self.burst,
        }
    }
}

/// Runs the line until standard input ends. It says `ready` when both devices are there.
pub(crate) fn run(line: &Line) -> io::Result<()> {
    let first = Arc::new(device(&line.first)?);
    let second = Arc::new(device(&line.second)?);
    let stop = Arc::new(AtomicBool::new(false));
    let ways = [
        Way::new(line, 0, &first, &second, &stop),
        Way::new(line, 1, &second, &first, &stop),
    ];
    let [forth, back] = [0, 1].map(|way| Arc::clone(&ways[way].counters));
    let threads = ways.map(|way| thread::spawn(move || way.carry()));
    say("ready")?;
    for asked in io::stdin().lock().lines() {
        asked?;
        tell(&forth, &back)?;
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a direction does not panic")?;
    }
    tell(&forth, &back)
}

fn device(name: &str) -> io::Result<SyncDevice> {
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L3)
        .build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

fn tell(forth: &Mutex<Counters>, back: &Mutex<Counters>) -> io::Result<()> {
    let counted =
        |counters: &Mutex<Counters>| *counters.lock().unwrap_or_else(PoisonError::into_inner);
    let crossed = Crossed {
        from_first: counted(forth),
        from_second: counted(back),
    };
    say(&serde_json::to_string(&crossed)?)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// One direction between the devices.
struct Way {
    from: Arc<SyncDevice>,
    to: Arc<SyncDevice>,
    pipe: Pipe,
    streams: Streams,
    counters: Arc<Mutex<Counters>>,
    stop: Arc<AtomicBool>,
    begun: Instant,
}

impl Way {
    fn new(
        line: &Line,
        number: u64,
        from: &Arc<SyncDevice>,
        to: &Arc<SyncDevice>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            from: Arc::clone(from),
            to: Arc::clone(to),
            pipe: Pipe::new(line.quality(), line.seed * 2 + number),
            streams: Streams::default(),
            counters: Arc::default(),
            stop: Arc::clone(stop),
            begun: Instant::now(),
        }
    }

    fn carry(mut self) -> io::Result<()> {
        // Without the right to it the line still works, less evenly.
        let _ = setpriority_process(None, PRIORITY);
        while !self.stop.load(Ordering::Relaxed) {
            let counters = Arc::clone(&self.counters);
            let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
            self.take_in(&mut counters)?;
            self.give_out(&mut counters)?;
            drop(counters);
            self.rest()?;
        }
        Ok(())
    }

    fn take_in(&mut self, counters: &mut Counters) -> io::Result<()> {
        let mut packet = [0; MTU];
        loop {
            let length = match self.from.recv(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return gone_or(error),
            };
            counters.packets_in += 1;
            counters.bytes_in += length as u64;
            match self.pipe.take(self.begun.elapsed(), &packet[..length]) {
                Fate::Carried => {}
                Fate::Lost => counters.packets_lost += 1,
                Fate::Dropped => counters.packets_dropped += 1,
            }
        }
    }

    fn give_out(&mut self, counters: &mut Counters) -> io::Result<()> {
        while let Some((packet, late)) = self.pipe.give(self.begun.elapsed()) {
            if let Err(error) = self.to.send(&packet) {
                return gone_or(error);
            }
            let payload = self.streams.note(&packet);
            let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            counters.packets_out += 1;
            counters.bytes_out += packet.len() as u64;
            counters.payload += payload.all;
            counters.payload_new += payload.new;
            counters.late_us_max = counters.late_us_max.max(late);
            counters.late_us_sum += late;
        }
        Ok(())
    }

    /// Sleeps until there is something to do, and a step longer while packets are on their way, so that some gather.
    fn rest(&self) -> io::Result<()> {
        let wait = match self.pipe.due() {
            None => IDLE,
            Some(due) => {
                thread::sleep(STEP);
                due.saturating_sub(self.begun.elapsed())
            }
        };
        if wait.is_zero() {
            return Ok(());
        }
        self.wait_for_packet(wait.min(IDLE))
    }

    fn wait_for_packet(&self, most: Duration) -> io::Result<()> {
        let mut devices = [PollFd::new(&self.from, PollFlags::IN)];
        let most = Timespec::try_from(most).map_err(io::Error::other)?;
        poll(&mut devices, Some(&most))?;
        Ok(())
    }
}

/// A device goes with its namespace, which may be removed before the line ends.
fn gone_or(error: io::Error) -> io::Result<()> {
    const EIO: i32 = 5;
    const ENXIO: i32 = 6;
    const EBADFD: i32 = 77;
    match error.raw_os_error() {
        Some(EIO | ENXIO | EBADFD) => {
            thread::sleep(IDLE);
            Ok(())
        }
        _ => Err(error),
    }
}
