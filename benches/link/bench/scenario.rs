//! What is measured: links, what is carried over them, and what goes wrong meanwhile.

use super::freight::Load;
use super::release::Files;

/// Mbit/s of the slow link, each way.
pub(crate) const RATE: f64 = 100.0;

/// Its delay, ms one way.
pub(crate) const DELAY: f64 = 100.0;

/// What its bottlenecks hold, ms.
pub(crate) const QUEUE: f64 = 100.0;

/// On which side of the mirror's host the slow link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    Origin,
    Store,
    Neither,
}

/// The link, and what is to cross it: peers are the same for all scenarios that share it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crossing {
    pub(crate) load: Load,
    pub(crate) slow: Slow,
    /// Per cent of packets, each way.
    pub(crate) loss: f64,
    /// The mean number of packets lost in a row.
    pub(crate) burst: f64,
    /// What hosts use unless a socket chooses for itself.
    pub(crate) congestion: &'static str,
}

/// What goes wrong besides the link's losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The origin resets one of its connections, any of them.
    ResetEverySecond,
    /// kill -9 when half has crossed, then the same command again.
    KilledHalfWay,
}

/// What a scenario must come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demands {
    /// Of the link's rate, at least.
    pub(crate) share: Option<f64>,
    /// Times as fast as the fastest peer, at least.
    pub(crate) best_peer: Option<f64>,
    /// Times as fast as a peer that is named, at least.
    pub(crate) peer: Option<(&'static str, f64)>,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) crossing: Crossing,
    /// What our command gets besides.
    pub(crate) flags: &'static [&'static str],
    pub(crate) trouble: Trouble,
    pub(crate) demands: Demands,
    /// Crossed over wanted, at most.
    pub(crate) crossed: f64,
}

impl Scenario {
    /// Whether the files cross the slow link.
    pub(crate) fn has_link(&self) -> bool {
        self.crossing.slow != Slow::Neither
    }
}

/// Resident memory of ours, in MiB, at most and always.
pub(crate) const MEMORY: f64 = 192.0;

const CLEAN: Crossing = Crossing {
    load: Load::Files(Files::Release),
    slow: Slow::Origin,
    loss: 0.0,
    burst: 1.0,
    congestion: "cubic",
};

const LOSSY: Crossing = Crossing { loss: 1.0, ..CLEAN };

const IMAGE: Crossing = Crossing {
    load: Load::Image,
    ..LOSSY
};

const TO_STORE: Crossing = Crossing {
    slow: Slow::Store,
    ..LOSSY
};

const CONNECTIONS_64: &[&str] = &["--connections", "64"];
const CONNECTIONS_160: &[&str] = &["--connections", "160"];
const STAGED: &[&str] = &["--connections", "64", "--publish", "staged"];
const BBR: &[&str] = &["--publish", "single-part", "--congestion", "bbr"];

/// Nothing but what every row must come to.
const NOTHING: Demands = Demands {
    share: None,
    best_peer: None,
    peer: None,
};

const fn fast(share: f64, best_peer: f64) -> Demands {
    Demands {
        share: Some(share),
        best_peer: Some(best_peer),
        peer: None,
    }
}

const fn row(
    name: &'static str,
    title: &'static str,
    crossing: Crossing,
    flags: &'static [&'static str],
    demands: Demands,
) -> Scenario {
    Scenario {
        name,
        title,
        crossing,
        flags,
        trouble: Trouble::None,
        demands,
        crossed: 1.02,
    }
}

const fn troubled(
    name: &'static str,
    title: &'static str,
    crossing: Crossing,
    trouble: Trouble,
) -> Scenario {
    let quiet = row(name, title, crossing, CONNECTIONS_64, NOTHING);
    Scenario {
        trouble,
        crossed: 1.05,
        ..quiet
    }
}

/// All rows of the table.
pub(crate) const ALL: [Scenario; 14] = [
    row(
        "origin-clean",
        "origin side, no loss, cubic",
        CLEAN,
        CONNECTIONS_64,
        fast(0.8, 1.5),
    ),
    row(
        "origin-0.1",
        "origin side, 0.1 % loss, cubic",
        Crossing { loss: 0.1, ..CLEAN },
        CONNECTIONS_64,
        fast(0.8, 1.5),
    ),
    row(
        "origin-1-64",
        "origin side, 1 % loss, cubic, 64 connections",
        LOSSY,
        CONNECTIONS_64,
        fast(0.4, 1.5),
    ),
    row(
        "origin-1-160",
        "origin side, 1 % loss, cubic, 160 connections",
        LOSSY,
        CONNECTIONS_160,
        fast(0.75, 2.0),
    ),
    row(
        "origin-1-bbr",
        "origin side, 1 % loss, bbr",
        Crossing {
            congestion: "bbr",
            ..LOSSY
        },
        CONNECTIONS_64,
        fast(0.8, 1.5),
    ),
    row(
        "store-1-staged",
        "store side, 1 % loss, cubic, staged, 64 connections",
        TO_STORE,
        STAGED,
        Demands {
            share: Some(0.4),
            best_peer: None,
            peer: Some(("wget", 10.0)),
        },
    ),
    row(
        "store-1-bbr",
        "store side, 1 % loss, bbr per socket, single-part",
        TO_STORE,
        BBR,
        Demands {
            share: Some(0.75),
            best_peer: None,
            peer: Some(("wget", 20.0)),
        },
    ),
    row(
        "large-1-64",
        "one 200 MB file, origin side, 1 % loss, cubic, 64 connections",
        Crossing {
            load: Load::Files(Files::OneLargeFile),
            ..LOSSY
        },
        CONNECTIONS_64,
        fast(0.4, 2.0),
    ),
    row(
        "no-link",
        "no link",
        Crossing {
            slow: Slow::Neither,
            ..CLEAN
        },
        CONNECTIONS_64,
        Demands {
            share: None,
            best_peer: Some(1.0),
            peer: Some(("wget", 3.0)),
        },
    ),
    troubled(
        "reset",
        "origin side, 1 % loss, cubic, 64 connections, one reset every second",
        LOSSY,
        Trouble::ResetEverySecond,
    ),
    troubled(
        "kill",
        "origin side, 1 % loss, cubic, 64 connections, kill -9 and restart half way",
        LOSSY,
        Trouble::KilledHalfWay,
    ),
    row(
        "image-clean",
        "an image of 6 layers, 120 MB, no loss, cubic, 64 connections",
        Crossing {
            load: Load::Image,
            ..CLEAN
        },
        CONNECTIONS_64,
        NOTHING,
    ),
    row(
        "image-1-64",
        "the image, 1 % loss, cubic, 64 connections",
        IMAGE,
        CONNECTIONS_64,
        Demands {
            share: Some(0.4),
            best_peer: None,
            peer: Some(("skopeo", 5.0)),
        },
    ),
    troubled(
        "image-kill",
        "the image, 1 % loss, cubic, 64 connections, kill -9 and restart half way",
        IMAGE,
        Trouble::KilledHalfWay,
    ),
];

/// Those that end in seconds.
pub(crate) const SMOKE: [Scenario; 2] = [
    smoke(
        "smoke",
        "a few small files, origin side, 1 % loss, cubic",
        Load::Files(Files::AFew),
    ),
    smoke(
        "smoke-image",
        "a small image, origin side, 1 % loss, cubic",
        Load::SmallImage,
    ),
];

/// Parts asked for twice at the end are much of so little.
const fn smoke(name: &'static str, title: &'static str, load: Load) -> Scenario {
    Scenario {
        crossed: 1.5,
        ..row(
            name,
            title,
            Crossing { load, ..LOSSY },
            CONNECTIONS_64,
            NOTHING,
        )
    }
}
