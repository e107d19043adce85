//! What this process takes of the machine, as Linux tells it: <https://man7.org/linux/man-pages/man5/proc.5.html>

use std::fs;

/// `utime` and `stime` are in units that are a hundredth of a second on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, files and processor time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
    pub(super) processor_seconds: f64,
}

impl Usage {
    /// None where there is no `/proc`.
    pub(super) fn now() -> Option<Self> {
        let open = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self {
            resident_bytes: resident(&fs::read_to_string("/proc/self/status").ok()?)?,
            // Looking takes one as well.
            open_files: (open as u64).saturating_sub(1),
            processor_seconds: processor(&fs::read_to_string("/proc/self/stat").ok()?)?,
        })
    }
}

/// From `/proc/self/status`; `statm` counts pages, whose size depends on the machine.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}

/// From `/proc/self/stat`: fields 14 and 15, where the second is the program's name in parentheses and may hold spaces.
fn processor(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_a_name_with_spaces() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1 2";
        assert_eq!(processor(stat), Some(3.0));
        assert_eq!(processor("42"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(resident("VmSize:\t 10 kB\nVmRSS:\t    2 kB\n"), Some(2048));
        assert_eq!(resident("VmSize:\t 10 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_something() {
        let usage = Usage::now().unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.open_files > 2, "{usage:?}");
    }
}
