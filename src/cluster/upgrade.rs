//! Which Kubernetes may follow which: as kops has it, no minor release is left out and none is gone back to.

use semver::Version;

/// Why a cluster that runs one release can't go to another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUpgrade {
    #[error(
        "the cluster runs Kubernetes {from}, and {to} is older: its store of objects can't be read by an older one; make another cluster"
    )]
    Downgrade { from: Version, to: Version },
    #[error(
        "the cluster runs Kubernetes {from}, and {to} is {} minor releases on: go by one at a time, to 1.{} first",
        to.minor - from.minor,
        from.minor + 1
    )]
    Leap { from: Version, to: Version },
}

/// Whether a cluster may go from one release to another.
pub fn upgrade(from: &Version, to: &Version) -> Result<(), BadUpgrade> {
    let (from, to) = (from.clone(), to.clone());
    if to < from {
        return Err(BadUpgrade::Downgrade { from, to });
    }
    match to.major == from.major && to.minor <= from.minor + 1 {
        true => Ok(()),
        false => Err(BadUpgrade::Leap { from, to }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_release_at_a_time_and_never_back() {
        let upgrade = |from: &str, to: &str| upgrade(&from.parse().unwrap(), &to.parse().unwrap());
        for (from, to) in [
            ("1.34.8", "1.34.8"),
            ("1.34.1", "1.34.8"),
            ("1.34.8", "1.35.0"),
        ] {
            upgrade(from, to).unwrap();
        }
        for (from, to) in [("1.34.8", "1.34.1"), ("1.35.0", "1.34.8")] {
            let told = upgrade(from, to).unwrap_err();
            assert!(matches!(told, BadUpgrade::Downgrade { .. }), "{told}");
        }
        let told = upgrade("1.33.9", "1.36.0").unwrap_err().to_string();
        assert!(
            told.contains("3 minor releases on") && told.contains("to 1.34 first"),
            "{told}"
        );
    }
}
