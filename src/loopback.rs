//! Plays both ends of the border on loopback: an origin that misbehaves to order, and what it publishes.

pub mod origin;
pub mod releases;
