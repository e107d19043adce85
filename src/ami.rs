//! Images that instances start from: found, waited for, carried from one partition of AWS to another.
//!
//! kops' own default image does not exist in China, so the image is looked up, copied from elsewhere, or built. Whatever is made here carries
//! tags from its first moment ([`Mark`]), so that the account itself is the record of how far things are: a run that was killed goes
//! on from what it finds there, and nothing is left that can't be found.

mod build;
mod copy;
mod failure;
mod leftovers;
mod mark;
mod pace;
mod resolve;
mod wait;

pub use self::build::{BuildOrder, Built, Ledger, build, built};
pub use self::copy::{Buckets, Copied, CopyOrder, clear_way, copied, copy};
pub use self::failure::AmiError;
pub use self::leftovers::{Kind, Leftover, gone, leftovers, remove, standing};
pub use self::mark::{Mark, Role};
pub use self::pace::Pace;
pub use self::resolve::{How, Resolved, named, resolve, unfit};
pub use self::wait::{Which, available};
