//! Runs the parts together, over real sockets and files.

// Origins' logs are lists of ranges, and often of one.
#![allow(clippy::single_range_in_vec_init)]

mod audit;
mod cli;
mod faults;
mod folder_store;
mod loopback_origin;
mod loopback_releases;
mod loopback_s3;
mod model;
mod resume;
mod s3_store;
mod serve;
mod store_contract;
mod support;
mod transfer;
