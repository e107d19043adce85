//! Brings images by the real program, from one registry to another, through what goes wrong on the way.

mod cluster;
mod faults;
mod layouts;
mod releases;
mod restarts;
mod signed;
mod skopeo;
mod sources;
