//! Runs one tool over one link, watches it until it ends, and tells what it took.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use kops_mirror::store::ETag;
use rustix::process::{Pid, Signal, kill_process_group};

use super::interrupt;
use super::lab::{BUCKET, Lab};
use super::line::By;
use super::line::emulator::Counters;
use super::memory;
use super::release::Release;
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
    /// The most connections to the origin at once.
    pub(crate) connections: u64,
    /// Whether all files are in the bucket with their MD5 as ETag.
    pub(crate) is_single_part: bool,
}

/// What to run, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) name: &'a str,
    pub(crate) tool: Tool,
    pub(crate) flags: &'a [&'a str],
    pub(crate) crossing: &'a Crossing,
    pub(crate) trouble: Trouble,
    pub(crate) release: &'a Release,
    pub(crate) cap: Duration,
    pub(crate) by: By,
    pub(crate) seed: u64,
}

/// Measures one run in a set-up of its own.
pub(crate) fn measure(task: &Task<'_>) -> io::Result<Measured> {
    let mut lab = Lab::new(task.crossing, task.release, task.by, task.seed)?;
    let desk = Desk::new(task.release, &format!("{}-{}", task.name, task.tool.name()))?;
    let mut watch = Watch::new(task);
    let begun = Instant::now();
    let end = watch.run(&mut lab, &desk)?;
    let seconds = begun.elapsed().as_secs_f64();
    let counters = lab.carried()?;
    Ok(Measured {
        end: end.told(&desk),
        seconds,
        crossed: match counters.payload_new {
            0 => served(&lab),
            crossed => crossed,
        },
        fetched: desk
            .report()
            .and_then(|r| r["totals"]["bytes_fetched"].as_u64()),
        counters,
        memory: watch.memory,
        connections: lab.origin.log().connections().peak,
        is_single_part: is_single_part(&lab, task.release),
    })
}

/// Without a link that counts: the bodies that the origin wrote.
fn served(lab: &Lab) -> u64 {
    let exchanges = lab.origin.log().exchanges();
    exchanges.iter().map(|exchange| exchange.body_bytes).sum()
}

fn is_single_part(lab: &Lab, release: &Release) -> bool {
    let bucket = lab.s3.bucket(BUCKET);
    release.files.iter().all(|file| {
        let object = bucket.object(&file.path);
        object.is_some_and(|object| ETag::new(&object.etag) == ETag::from(file.md5))
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
                if lab.carried()?.payload_new > self.task.release.bytes / 2 {
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
