//! Makes the line of a pair of Ethernet devices whose queues the kernel's `netem` keeps.

use std::io;
use std::process::{Command, Output};

use serde_json::Value;

use super::emulator::{Counters, Line, MTU};
use crate::bench::hosts::{Host, ip, wire};

/// Ethernet, IPv4 and TCP with time stamps: what a packet has besides its payload.
const HEADERS: u64 = 14 + 20 + 32;

/// A line between two hosts; it goes with them.
#[derive(Debug)]
pub(crate) struct Netem {
    /// Where its second device is.
    host: String,
    device: String,
}

/// Whether this kernel has netem, and this machine `tc`.
pub(super) fn is_there() -> io::Result<bool> {
    let host = Host::new("probe")?;
    let asked = tc(&host, &["qdisc", "add", "dev", "lo", "root", "netem"]);
    Ok(asked.is_ok_and(|output| output.status.success()))
}

fn tc(host: &Host, words: &[&str]) -> io::Result<Output> {
    Command::new("tc")
        .args(["-n", &host.name])
        .args(words)
        .output()
}

impl Netem {
    pub(super) fn between(line: &Line, first: &Host, second: &Host) -> io::Result<Self> {
        wire(first, second, [&line.first, &line.second])?;
        for (host, device) in [(first, &line.first), (second, &line.second)] {
            // What the kernel would send as one must be lost and counted packet by packet.
            ip(&["-n", &host.name, "link", "set", device, "gso_max_segs", "1"])?;
            let quality = words(line);
            let quality: Vec<&str> = quality.split(' ').collect();
            let queue = ["qdisc", "replace", "dev", device, "root", "netem"];
            let output = tc(host, &[&queue[..], &quality[..]].concat())?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!("tc: {said}")));
            }
        }
        Ok(Self {
            host: second.name.clone(),
            device: line.second.clone(),
        })
    }

    /// What came in at the second device. Bytes that TCP sent again are not told apart.
    pub(super) fn carried(&self) -> io::Result<Counters> {
        let output = Command::new("ip")
            .args(["-n", &self.host, "-j", "-s", "link", "show", "dev"])
            .arg(&self.device)
            .output()?;
        let devices: Value = serde_json::from_slice(&output.stdout)?;
        let received = &devices[0]["stats64"]["rx"];
        let number = |name: &str| {
            received[name]
                .as_u64()
                .ok_or_else(|| io::Error::other("ip tells no statistics"))
        };
        let (packets, bytes) = (number("packets")?, number("bytes")?);
        let payload = bytes.saturating_sub(packets * HEADERS);
        Ok(Counters {
            packets_out: packets,
            bytes_out: bytes,
            payload,
            payload_new: payload,
            ..Counters::default()
        })
    }
}

/// The line in netem's words.
fn words(line: &Line) -> String {
    let held = line.rate * 1e6 / 8.0 * (line.delay + line.queue) / 1e3;
    let packets = (held / MTU as f64).ceil();
    let loss = match line.burst > 1.0 {
        true => {
            let end = 100.0 / line.burst;
            let begin = end * line.loss / (100.0 - line.loss);
            format!("gemodel {begin}% {end}% 100% 0%")
        }
        false => format!("random {}%", line.loss),
    };
    format!(
        "rate {}mbit delay {}ms limit {packets} loss {loss}",
        line.rate, line.delay
    )
}
