//! What a lease is for, where it is, and which others it excludes.

use crate::asset::Key;
use crate::store::SERVICE_FOLDER;

/// All of a target, or one of several shards of the work there.
///
/// The whole and a shard exclude each other, and so do shards of different divisions. Shards of one division work side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Name {
    /// `lease.json`
    #[default]
    Whole,
    /// `lease-2-of-4.json`: the shard, counted from 1, and how many there are.
    Shard { number: u32, of: u32 },
}

impl Name {
    /// Where it is, below the mirror's prefix.
    pub fn key(self) -> Key {
        let key = match self {
            Self::Whole => format!("{SERVICE_FOLDER}lease.json"),
            Self::Shard { number, of } => format!("{SERVICE_FOLDER}lease-{number}-of-{of}.json"),
        };
        key.parse().expect("it is made of words and numbers")
    }

    /// None for the key of anything else.
    pub(super) fn at(key: &Key) -> Option<Self> {
        let file = key.as_str().strip_prefix(SERVICE_FOLDER)?;
        if file == "lease.json" {
            return Some(Self::Whole);
        }
        let numbers = file.strip_prefix("lease-")?.strip_suffix(".json")?;
        let (number, of) = numbers.split_once("-of-")?;
        let name = Self::Shard {
            number: number.parse().ok()?,
            of: of.parse().ok()?,
        };
        (name.key() == *key).then_some(name)
    }

    pub(super) fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Shard { of: ours, .. }, Self::Shard { of: theirs, .. }) => ours != theirs,
            _ => self != other,
        }
    }

    /// Whether it gives way at once where both were taken at the same moment: else both might do so for ever.
    pub(super) fn gives_way_to(self, other: Self) -> bool {
        self.division() < other.division()
    }

    /// Into how many shards the work is divided.
    fn division(self) -> u32 {
        match self {
            Self::Whole => 0,
            Self::Shard { of, .. } => of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_OF_FOUR: Name = Name::Shard { number: 2, of: 4 };

    #[test]
    fn names_have_keys_of_their_own_out_of_sight() {
        assert_eq!(Name::Whole.key().as_str(), ".service/lease.json");
        assert_eq!(SECOND_OF_FOUR.key().as_str(), ".service/lease-2-of-4.json");
        for name in [Name::Whole, SECOND_OF_FOUR] {
            assert_eq!(Name::at(&name.key()), Some(name));
        }
        for other in [
            ".service/lease-02-of-4.json",
            ".service/prune.json",
            "lease.json",
        ] {
            assert_eq!(Name::at(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn only_shards_of_one_division_work_side_by_side() {
        let third_of_four = Name::Shard { number: 3, of: 4 };
        let third_of_five = Name::Shard { number: 3, of: 5 };
        assert!(!SECOND_OF_FOUR.excludes(third_of_four));
        for (one, other) in [
            (Name::Whole, SECOND_OF_FOUR),
            (SECOND_OF_FOUR, third_of_five),
        ] {
            assert!(one.excludes(other) && other.excludes(one));
            assert!(one.gives_way_to(other) && !other.gives_way_to(one));
        }
    }
}
