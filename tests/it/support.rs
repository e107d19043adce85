//! Plays what stands around the code under test.

pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod gallery;
pub(crate) mod gate;
pub(crate) mod list;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod sigstore;
pub(crate) mod tls;
pub(crate) mod wire;
pub(crate) mod world;
