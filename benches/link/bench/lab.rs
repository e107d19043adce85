//! One set-up: three hosts, the links between them, an origin and an S3 server at the ends, and beside each a registry. It is made anew for each
//! measurement, so that no host remembers anything of an earlier one.

use std::io;
use std::net::Ipv4Addr;

use kops_mirror::loopback::origin::Origin;
use kops_mirror::loopback::registry::{self, LoopbackRegistry};
use kops_mirror::loopback::s3::{LoopbackS3, Options};
use tokio::runtime::{Builder, Runtime};

use super::freight::Freight;
use super::hosts::{Host, wire};
use super::line::emulator::{Counters, Line};
use super::line::{By, Running};
use super::scenario::{Crossing, DELAY, QUEUE, RATE, Slow};

pub(crate) const BUCKET: &str = "mirror";

/// A network for benches, by RFC 2544: each link has 256 addresses of it.
const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const MIRROR_TO_ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
const MIRROR_TO_STORE: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
const STORE: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);

/// Ready to measure. Fields are dropped in this order: servers, line, hosts.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) origin: Origin,
    pub(crate) s3: LoopbackS3,
    /// Where images come from, beside the origin.
    pub(crate) source: LoopbackRegistry,
    /// Where they go, beside the bucket.
    pub(crate) target: LoopbackRegistry,
    _servers: [Runtime; 2],
    line: Option<Running>,
    pub(crate) mirror: Host,
    _ends: [Host; 2],
}

impl Lab {
    pub(crate) fn new(
        crossing: &Crossing,
        freight: &Freight,
        by: By,
        seed: u64,
    ) -> io::Result<Self> {
        let [origin_host, mirror, store_host] = [
            Host::new("origin")?,
            Host::new("mirror")?,
            Host::new("store")?,
        ];
        let line = join(crossing, &origin_host, &mirror, &store_host, by, seed)?;
        let at_origin = runtime_on(&origin_host)?;
        let at_store = runtime_on(&store_host)?;
        let origin = on(&at_origin, || Origin::start_on(ORIGIN))?;
        let s3 = on(&at_store, || {
            LoopbackS3::start_on(STORE, Options::default())
        })?;
        let open = registry::Options::default;
        let source = on(&at_origin, move || {
            LoopbackRegistry::start_on(ORIGIN, open())
        })?;
        let target = on(&at_store, move || LoopbackRegistry::start_on(STORE, open()))?;
        // Older versions of rclone send an ACL with each object.
        let _ = s3.bucket(BUCKET).accept_acls();
        let lab = Self {
            origin,
            s3,
            source,
            target,
            _servers: [at_origin, at_store],
            line,
            mirror,
            _ends: [origin_host, store_host],
        };
        freight.publish(&lab);
        Ok(lab)
    }

    /// What the link carried until now in the direction of the files.
    pub(crate) fn carried(&mut self) -> io::Result<Counters> {
        match &mut self.line {
            Some(line) => line.carried(),
            None => Ok(Counters::default()),
        }
    }
}

/// Makes both links, one of them slow, or none. The line's first end is where files come from.
fn join(
    crossing: &Crossing,
    origin: &Host,
    mirror: &Host,
    store: &Host,
    by: By,
    seed: u64,
) -> io::Result<Option<Running>> {
    let ends = [
        (Slow::Origin, origin, ORIGIN, mirror, MIRROR_TO_ORIGIN),
        (Slow::Store, mirror, MIRROR_TO_STORE, store, STORE),
    ];
    let mut line = None;
    for (number, (side, first, first_address, second, second_address)) in (0..).zip(ends) {
        let [one, two] = if crossing.slow == side {
            let slow = slow_line(crossing, seed);
            let names = [slow.first.clone(), slow.second.clone()];
            line = Some(Running::between(by, &slow, first, second)?);
            names
        } else {
            let device = format!("wire{number}");
            wire(first, second, [&device, &device])?;
            [device.clone(), device]
        };
        first.address(&one, first_address, crossing.congestion)?;
        second.address(&two, second_address, crossing.congestion)?;
    }
    Ok(line)
}

fn slow_line(crossing: &Crossing, seed: u64) -> Line {
    let process = std::process::id();
    Line {
        first: format!("slow{process}a"),
        second: format!("slow{process}b"),
        rate: RATE,
        delay: DELAY,
        loss: crossing.loss,
        burst: crossing.burst,
        queue: QUEUE,
        seed,
    }
}

/// A runtime whose threads are all on a host.
fn runtime_on(host: &Host) -> io::Result<Runtime> {
    let enter = host.entrance();
    Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || enter().expect("the host is there"))
        .enable_all()
        .build()
}

/// Starts a server on the runtime's threads.
fn on<T: Send + 'static>(
    runtime: &Runtime,
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let started = runtime.spawn(async move { start() });
    futures::executor::block_on(started).map_err(io::Error::other)?
}
