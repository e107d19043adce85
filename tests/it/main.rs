//! Everything that is tested from outside, in one binary.

mod s3_store;
mod store_contract;
