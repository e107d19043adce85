//! Makes three hosts of this machine, `origin --- mirror --- store`, each a network namespace, and joins them.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The namespaces of all runs begin so; then come the process and a number.
const PREFIX: &str = "kops-link-";

/// Where `ip netns` keeps what it makes.
const FOLDER: &str = "/run/netns";

/// Between device and line: more than any sender has on its way, so that the line's own queue is the only one.
const DEVICE_QUEUE: &str = "10000";

/// What a host lacks to be divided in three.
pub(crate) fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("it makes network namespaces, for which it must be root");
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("ip (of iproute2) is not installed");
    }
    if ip(&["netns", "list"]).is_err() || probe().is_err() {
        return Some("this host lets nobody make network namespaces");
    }
    None
}

fn probe() -> io::Result<()> {
    Host::new("probe").map(drop)
}

/// Removes the namespaces that runs left which were killed, with what goes on running there.
pub(crate) fn sweep() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|r| r.split('-').next());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            end_processes(&name);
            // Another run may sweep as well.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn end_processes(namespace: &str) {
    let Ok(listed) = Command::new("ip")
        .args(["netns", "pids", namespace])
        .output()
    else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout);
    let processes = listed.split_whitespace().filter_map(|id| id.parse().ok());
    for process in processes.filter_map(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(process, Signal::KILL);
    }
}

pub(crate) fn ip(words: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = format!("ip {}: {}", words.join(" "), said.trim());
    Err(io::Error::other(said))
}

/// A host of its own; it is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
}

impl Host {
    pub(crate) fn new(role: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let host = Self { name };
        ip(&["-n", &host.name, "link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// What moves the calling thread to this host: its sockets from then on are the host's.
    pub(crate) fn entrance(&self) -> impl Fn() -> io::Result<()> + Send + Sync + use<> {
        let path: PathBuf = Path::new(FOLDER).join(&self.name);
        move || {
            let namespace = File::open(&path)?;
            let kind = Some(LinkNameSpaceType::Network);
            Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
        }
    }

    /// A command on this host.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Gives a device of this host its address in a network of 256, and what sends there its congestion control.
    pub(crate) fn address(
        &self,
        device: &str,
        address: Ipv4Addr,
        congestion: &str,
    ) -> io::Result<()> {
        let [a, b, c, _] = address.octets();
        let network = format!("{a}.{b}.{c}.0/24");
        let on = |words: &[&str]| ip(&[&["-n", &self.name], words].concat());
        on(&["addr", "add", &format!("{address}/24"), "dev", device])?;
        on(&[
            "link",
            "set",
            device,
            "up",
            "txqueuelen",
            DEVICE_QUEUE,
            "mtu",
            "1500",
        ])?;
        on(&[
            "route",
            "replace",
            &network,
            "dev",
            device,
            "proto",
            "kernel",
            "scope",
            "link",
            "src",
            &address.to_string(),
            "congctl",
            congestion,
        ])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may be gone with the machine's other namespaces; there is nobody to tell.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Joins two hosts by a wire that is as fast as the machine, with a device on each.
pub(crate) fn wire(first: &Host, second: &Host, devices: [&str; 2]) -> io::Result<()> {
    let [one, two] = devices;
    let ends = [
        &["link", "add", one, "netns", &first.name, "type", "veth"][..],
        &["peer", "name", two, "netns", &second.name],
    ];
    ip(&ends.concat())
}
