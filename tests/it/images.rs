//! Brings images by the real program, from a registry to a registry, through what goes wrong on the way.

mod faults;
mod layouts;
mod releases;
mod restarts;
