//! The bucket that kops keeps its state in: P05.

use super::Finding;
use super::facts::Facts;
use super::findings::Findings;
use crate::cluster::ClusterFile;
use crate::store::s3::Property;

/// P05: the state store is there, ours, private, versioned and encrypted.
pub(super) fn state_store(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(5);
    let (bucket, may_make) = (&file.state_store.bucket, file.state_store.create);
    let store = match &facts.state_bucket {
        Ok(store) => store,
        Err(why) => {
            found.error(why.clone(), "kops can't work without its state store");
            return found.or_fine("");
        }
    };
    let Some(store) = store else {
        if may_make {
            return found.or_fine(format!("there is no bucket {bucket} yet; apply makes it"));
        }
        found.error(
            format!("there is no bucket {bucket}, and stateStore.create is false"),
            "make it, or let it be made",
        );
        return found.or_fine("");
    };
    if !store.lacks.is_empty() {
        let lacks: Vec<_> = store.lacks.iter().map(Property::to_string).collect();
        let what = format!("s3://{bucket} is not {}", lacks.join(", not "));
        match may_make {
            true => found.warning(what, "apply sets it, and so does 'provision state-bucket ensure'"),
            false => found.error(what, "set it: kops keeps the cluster's keys there; stateStore.create: true lets it be set"),
        }
    }
    found.or_fine(format!(
        "s3://{bucket} is there, in {}, versioned, encrypted, closed to the public and for TLS only",
        file.region
    ))
}
