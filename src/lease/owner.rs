//! Who holds a lease, and whether it can be known here that it is gone.

use std::fmt;
use std::fs;
use std::process;

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest};

/// A process that runs, told from every other one. It sees by itself to it that it takes a lease once at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Drawn when the process starts.
    #[serde(rename = "owner")]
    pub id: String,
    /// For the reader.
    pub host: String,
    pub pid: u32,
    /// None where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<Life>,
}

/// What tells this life of a pid from every other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    /// Where the pid means something: this boot of this machine, this space of pids; hashed, since it is nobody's business.
    pids: String,
    /// When the process began, in ticks since the boot: pids are given out again.
    began: u64,
}

impl Owner {
    /// This process, under a new name each time.
    pub fn this_process() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let pid = process::id();
        Self {
            id: format!("{:032x}", fastrand::u128(..)),
            host: Some(host.trim())
                .filter(|host| !host.is_empty())
                .unwrap_or("unknown")
                .to_owned(),
            pid,
            life: Life::of(pid),
        }
    }

    /// Whoever wrote what nobody can read.
    pub(super) fn unknown() -> Self {
        Self::named("", "an unknown host", 0)
    }

    pub(super) fn named(id: &str, host: &str, pid: u32) -> Self {
        Self {
            id: id.to_owned(),
            host: host.to_owned(),
            pid,
            life: None,
        }
    }

    /// Whether it ran on this machine and does no more: nobody has to wait for what it held. False where that is not known.
    pub fn is_gone(&self) -> bool {
        let Some(life) = &self.life else {
            return false;
        };
        pids_here().is_some_and(|here| here == life.pids)
            && Life::of(self.pid).as_ref() != Some(life)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

impl Life {
    /// None when there is no such process.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self {
            pids: pids_here()?,
            began: began(&stat)?,
        })
    }
}

/// The 22nd field of proc_pid_stat(5); None for what has ended and is only waited for. The second is a name in parentheses that may
/// have spaces and parentheses itself.
fn began(stat: &str) -> Option<u64> {
    const STATE: usize = 0;
    const BEGAN: usize = 19;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.get(STATE), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(BEGAN)?.parse().ok()
}

fn pids_here() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    let text = format!("{} {}", boot.trim(), space.display());
    let digest = Digest::of(Algorithm::Sha256, text.as_bytes()).hex();
    Some(digest[..32].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_is_not_gone_and_who_ended_is() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let of_child = Owner {
            pid: child.id(),
            life: Life::of(child.id()),
            ..Owner::this_process()
        };
        assert!(!Owner::this_process().is_gone());
        assert!(!of_child.is_gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(of_child.is_gone());
        // Its pid may be another's by then, and another machine's processes are not known here.
        let mut earlier = Owner::this_process();
        earlier.life.as_mut().unwrap().began -= 1;
        assert!(earlier.is_gone());
        let mut elsewhere = of_child;
        elsewhere.life.as_mut().unwrap().pids = "elsewhere".to_owned();
        assert!(!elsewhere.is_gone());
        assert!(!Owner::unknown().is_gone());
    }

    #[test]
    fn a_name_may_have_anything_in_it() {
        let rest = " 4".repeat(18);
        assert_eq!(began(&format!("7 (a) b) c) S{rest} 22000 23")), Some(22000));
        assert_eq!(began(&format!("7 (a) Z{rest} 22000 23")), None);
    }
}
