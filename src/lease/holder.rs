//! Who has a lease, for who only wants to know.

use std::sync::Arc;

use jiff::Timestamp;

use super::place::Place;
use super::{Name, Owner};
use crate::store::{Store, StoreError};

/// Who has the lease of this name, and until when; None where it is free. Takes nothing.
pub async fn holder(
    store: &Arc<dyn Store>,
    name: Name,
    now: Timestamp,
) -> Result<Option<(Owner, Timestamp)>, StoreError> {
    let place = Place {
        store: Arc::clone(store),
        key: name.key(),
    };
    let claim = place.read().await?.and_then(|found| found.claim);
    Ok(claim.and_then(|claim| claim.held(now).map(|until| (claim.owner, until))))
}
