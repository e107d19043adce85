//! Reads how much memory a process and those that it started took, as Linux tells it.

use std::fs;

/// The peak resident memory of a process and its living descendants together, KiB; 0 when it is over.
pub(crate) fn peak(process: u32) -> u64 {
    let children = children(process).into_iter().map(peak);
    own_peak(process) + children.sum::<u64>()
}

fn own_peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.split_whitespace().next());
    kilobytes.and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let list = fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}
