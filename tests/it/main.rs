//! Runs the parts together, over real sockets and files.

// Origins' logs are lists of ranges, and often of one.
#![allow(clippy::single_range_in_vec_init)]
// Test data are small.
#![allow(clippy::cast_possible_truncation)]
// A world is made inside a runtime.
#![allow(clippy::unused_async)]

mod alternates;
mod audit;
mod away;
mod bench;
mod cli;
mod connections;
mod cut_through;
mod daemon;
mod demo;
mod faults;
mod folder_store;
mod image_audit;
mod images;
mod lease;
mod link;
mod loopback_origin;
mod loopback_registry;
mod loopback_releases;
mod loopback_s3;
mod mirror_run;
mod model;
mod notify;
mod provision;
mod prune;
mod registry_contract;
mod registry_reading;
mod resume;
mod s3_store;
mod scrub;
mod serve;
mod shards;
mod signature;
mod slow_links;
mod staged;
mod store_contract;
mod support;
mod tidy;
mod transfer;
mod upstreams;
mod ways_to_origins;
mod web;
mod what_a_user_sees;
