//! Stands in for the two sides of the border on the loopback interface: real servers on 127.0.0.1, for `kops-mirror demo` and
//! for the tests, which order the faults that long and lossy links have.

pub mod origin;
pub mod registry;
pub mod releases;
pub mod s3;
