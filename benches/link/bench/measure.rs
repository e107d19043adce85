//! Runs one tool over one link, watches it until it ends, and tells what it took.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::freight::Freight;
use super::interrupt;
use super::lab::Lab;
use super::line::By;
use super::line::emulator::Counters;
use super::memory;
use super::scenario::{Crossing, Trouble};
use super::tools::{Desk, Tool};

/// How often a running tool is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How often the link is asked what it carried.
const ASK: Duration = Duration::from_millis(200);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// It was stopped because it took too long.
    Capped,
    /// This build of our program does not know a flag yet.
    Unknown(String),
    Failed(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Capped => f.write_str("stopped"),
            Self::Unknown(flag) => write!(f, "skipped: this build does not know {flag}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What a run took.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) end: End,
    pub(crate) seconds: f64,
    /// Bytes that crossed towards the store, TCP's own repetitions left out.
    pub(crate) crossed: u64,
    /// What the program itself says that it fetched.
    pub(crate) fetched: Option<u64>,
    pub(crate) counters: Counters,
    /// Peak resident memory of the tool's processes together, KiB.
    pub(crate) memory: u64,
    /// The most connections to the origin at once; for an image, requests for its blobs.
    pub(crate) connections: u64,
    /// Whether all that was wanted is there as it should be.
    pub(crate) is_whole: bool,
}

/// What to run, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) name: &'a str,
    pub(crate) tool: Tool,
    pub(crate) flags: &'a [&'a str],
    pub(crate) crossing: &'a Crossing,
    pub(crate) trouble: Trouble,
    pub(crate) freight: &'a Freight,
    pub(crate) cap: Duration,
    pub(crate) by: By,
    pub(crate) seed: u64,
}

/// Measures one run in a set-up of its own.
pub(crate) fn measure(task: &Task<'_>) -> io::Result<Measured> {
    let mut lab = Lab::new(task.crossing, task.freight, task.by, task.seed)?;
    let desk = Desk::new(task.freight, &format!("{}-{}", task.name, task.tool.name()))?;
    let mut watch = Watch::new(task);
    let begun = Instant::now();
    let end = watch.run(&mut lab, &desk)?;
    let seconds = begun.elapsed().as_secs_f64();
    let counters = lab.carried()?;
    Ok(Measured {
        end: end.told(&desk),
        seconds,
        crossed: match counters.payload_new {
            // There is no link that counts.
            0 => task.freight.served(&lab),
            crossed => crossed,
        },
        fetched: desk
            .report()
            .and_then(|r| r["totals"]["bytes_fetched"].as_u64()),
        counters,
        memory: watch.memory,
        connections: task.freight.at_once(&lab),
        is_whole: task.freight.is_whole(&lab),
    })
}

/// How the watched process ended.
enum Ended {
    By(ExitStatus),
    Capped,
}

impl Ended {
    fn told(self, desk: &Desk) -> End {
        let status = match self {
            Self::Capped => return End::Capped,
            Self::By(status) if status.success() => return End::Done,
            Self::By(status) => status,
        };
        let said = desk.said();
        let refused = ["--publish", "--congestion"]
            .into_iter()
            .find(|flag| status.code() == Some(2) && said.contains(flag));
        match refused {
            Some(flag) => End::Unknown(flag.to_owned()),
            None => End::Failed(format!("{status}, see {}", desk.log_name())),
        }
    }
}

/// Looks after a running tool.
struct Watch<'a> {
    task: &'a Task<'a>,
    rng: fastrand::Rng,
    memory: u64,
    killed: bool,
}

impl<'a> Watch<'a> {
    fn new(task: &'a Task<'a>) -> Self {
        Self {
            task,
            rng: fastrand::Rng::with_seed(task.seed),
            memory: 0,
            killed: false,
        }
    }

    fn run(&mut self, lab: &mut Lab, desk: &Desk) -> io::Result<Ended> {
        let begun = Instant::now();
        let mut running = self.start(lab, desk)?;
        let mut asked = begun;
        let mut reset = begun;
        loop {
            if let Some(status) = running.0.try_wait()? {
                return Ok(Ended::By(status));
            }
            interrupt::check()?;
            if begun.elapsed() > self.task.cap {
                return Ok(Ended::Capped);
            }
            self.memory = self.memory.max(memory::peak(running.0.id()));
            if self.task.trouble == Trouble::ResetEverySecond && reset.elapsed().as_secs() >= 1 {
                reset += Duration::from_secs(1);
                lab.origin.reset_one(self.rng.usize(..));
            }
            if self.is_to_be_killed() && asked.elapsed() >= ASK {
                asked = Instant::now();
                if lab.carried()?.payload_new > self.task.freight.bytes() / 2 {
                    self.killed = true;
                    drop(running);
                    running = self.start(lab, desk)?;
                }
            }
            thread::sleep(LOOK);
        }
    }

    fn is_to_be_killed(&self) -> bool {
        self.task.trouble == Trouble::KilledHalfWay && !self.killed
    }

    fn start(&self, lab: &Lab, desk: &Desk) -> io::Result<Started> {
        let mut command = desk.command(self.task.tool, self.task.flags, lab)?;
        Ok(Started(command.process_group(0).spawn()?))
    }
}

/// A tool and the processes that it starts; they are killed with it.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // A group whose processes have all ended can't be killed again; that is what is wanted.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}
