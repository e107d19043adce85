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
pub mod digest;
pub mod layout;

// Decisions: pure, no clock, no I/O.
pub mod catalogue;
pub mod retry;

// Stages: one verb or one end of the wire each.
pub mod spool;
pub mod store;
pub mod verify;
