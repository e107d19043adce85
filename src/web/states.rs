//! The names of the states of a release, as they stand in JSON too.

use crate::board::ReleaseState;

pub(super) const ALL: [ReleaseState; 7] = [
    ReleaseState::Complete,
    ReleaseState::Incomplete,
    ReleaseState::Missing,
    ReleaseState::Failed,
    ReleaseState::Changed,
    ReleaseState::Withdrawn,
    ReleaseState::Unknown,
];

pub(super) fn name(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Complete => "complete",
        ReleaseState::Incomplete => "incomplete",
        ReleaseState::Missing => "missing",
        ReleaseState::Failed => "failed",
        ReleaseState::Changed => "changed",
        ReleaseState::Withdrawn => "withdrawn",
        ReleaseState::Unknown => "unknown",
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
