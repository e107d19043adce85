//! The tests that need more than one module, in one binary.

mod loopback_s3;
