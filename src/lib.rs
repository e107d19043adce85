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

// Words: plain data.
pub mod asset;
pub mod config;
pub mod digest;
pub mod events;
pub mod layout;
pub mod report;

// Decisions: pure, no clock, no I/O.
pub mod catalogue;
pub mod consumer;
pub mod index;
pub mod plan;
pub mod retry;

// Stages: one verb or one end of the wire each.
pub mod fetch;
pub mod limits;
pub mod origin;
pub mod publish;
pub mod spool;
pub mod store;
pub mod upstream;
pub mod verify;
pub mod vouch;

// The engine.
pub mod audit;
pub mod sync;
pub mod transfer;

// The other ends of the wire, on loopback: for `demo` and the tests.
pub mod loopback;

// Shell: may use everything above.
pub mod cli;
pub mod command;
pub mod demo;
pub mod serve;
pub mod terminal;
