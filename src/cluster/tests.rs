//! What manifests come of a file, and what is found to be wrong with one.

use super::*;

mod goldens;
mod problems;
