//! The names of the states of a release, as they stand in JSON too.

use crate::board::ReleaseState;

pub(super) const ALL: [ReleaseState; 6] = [
    ReleaseState::Complete,
    ReleaseState::Incomplete,
    ReleaseState::Missing,
    ReleaseState::Failed,
    ReleaseState::Changed,
    ReleaseState::Withdrawn,
];

pub(super) fn name(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Complete => "complete",
        ReleaseState::Incomplete => "incomplete",
        ReleaseState::Missing => "missing",
        ReleaseState::Failed => "failed",
        ReleaseState::Changed => "changed",
        ReleaseState::Withdrawn => "withdrawn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_json() {
        for state in ALL {
            assert_eq!(serde_json::json!(state), name(state));
        }
    }
}
