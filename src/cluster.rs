//! What cluster is wanted, in one file, and what follows from it: the manifest for kops, zones, addresses, what it will download.
//!
//! Pure: what the cloud has is looked up by others and given in as [`Found`]. The recipe that this replaces is
//! `kops create cluster` with a dozen flags and two rounds of `kops edit`, whose order matters.

mod check;
mod checks;
mod era;
mod file;
mod manifest;
mod mirrors;
mod quorum;
mod subnets;
mod upgrade;
mod wants;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::check::Problem;
pub use self::checks::{BadCheckId, CheckId};
pub use self::era::{Dns, Era, Mirrors};
pub use self::file::*;
pub use self::manifest::{Found, Group, Manifest, RenderError, channel, manifest};
pub use self::mirrors::dead;
pub use self::quorum::Spread;
pub use self::subnets::{BadCidr, Cidr, Placed};
pub use self::upgrade::{BadUpgrade, upgrade};

/// Why a file tells of no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("it is not the YAML that config/cluster.example.yaml shows")]
    Syntax(#[source] serde_yaml_ng::Error),
    #[error("{}", Listed(problems))]
    Problems { problems: Vec<Problem> },
}

/// Problems, a line each.
struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what it wants does not fit together:")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl ClusterFile {
    /// Reads a file and checks whether what it wants fits together.
    pub fn parse(text: &str) -> Result<Self, ClusterError> {
        let file: Self = serde_yaml_ng::from_str(text).map_err(ClusterError::Syntax)?;
        let problems = check::problems(&file);
        match problems.is_empty() {
            true => Ok(file),
            false => Err(ClusterError::Problems { problems }),
        }
    }
}
