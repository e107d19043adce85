//! What manifests come of a file, and what is found to be wrong with one.

use std::collections::BTreeMap;

use super::*;

mod flags;
mod goldens;
mod problems;
