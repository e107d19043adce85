//! kops-mirror carries Kubernetes and kops release files over slow, lossy links into a bucket or a folder, verifies every
//! byte before it is visible, and keeps each object single-part so that its `ETag` is its MD5.
//!
//! ```text
//! selection ─▶ catalogue ─▶ vouch ─▶ plan ─▶ fetch ─▶ spool ─▶ verify ─▶ publish ─▶ index
//!  versions     assets      digests  wanted   ranges  a file   digests   single-     releases/
//!  platforms                         × held   in any  + its    of the    part PUT    NAME.json
//!                                             order   ranges   prefix
//! ```
//!
//! ARCHITECTURE.md tells the rest.

// Modules use those above them and beside them, never those below: tests/it/tidy.rs reads this list.

// Words: plain data and rules about it.
pub mod asset;
pub mod digest;
pub mod events;
pub mod image;
pub mod layout;
pub mod partition;
pub mod record;
pub mod report;
pub mod retry;
pub mod schedule;
pub mod signature;

// What is wanted, and what kops is to be told: pure, no clock, no I/O.
pub mod catalogue;
pub mod cluster;
pub mod consumer;
pub mod follow;
pub mod retention;

// The ends of the wire and what stands between them.
pub mod challenge;
pub mod cloud;
pub mod history;
pub mod kops;
pub mod lease;
pub mod limits;
pub mod notify;
pub mod origin;
pub mod spool;
pub mod store;
pub mod verify;

// The stages of an asset's way, one verb each.
pub mod fetch;
pub mod index;
pub mod plan;
pub mod publish;
pub mod upstream;
pub mod vouch;

// The engine.
pub mod ami;
pub mod audit;
pub mod images;
pub mod measure;
pub mod preflight;
pub mod provision;
pub mod prune;
pub mod scrub;
pub mod sync;
pub mod transfer;

// The service, which lets the engine run for months.
pub mod board;
pub mod service;

// The other ends of the wire, on loopback: for `demo` and the tests.
pub mod loopback;

// Shell: may use everything above.
pub mod cli;
pub mod command;
pub mod config;
pub mod demo;
pub mod serve;
pub mod terminal;
pub mod web;
