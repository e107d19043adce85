//! Fills in the placeholders of a catalogue's URLs.

use url::Url;

use super::CatalogueError;
use crate::asset::Arch;

/// The values of placeholders: `{arch}` is `amd64`.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    values: Vec<(&'static str, String)>,
}

impl Template {
    pub(super) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    /// The text with every placeholder replaced.
    pub(super) fn fill(&self, text: &str) -> Result<String, CatalogueError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let value = after.split_once('}').and_then(|(name, tail)| {
                let (_, value) = self.values.iter().find(|(known, _)| *known == name)?;
                Some((value, tail))
            });
            let (value, tail) = value.ok_or_else(|| CatalogueError::Placeholder {
                text: text.to_owned(),
            })?;
            filled.push_str(before);
            filled.push_str(value);
            rest = tail;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The URL with every placeholder replaced.
    pub(super) fn url(&self, text: &str) -> Result<Url, CatalogueError> {
        let filled = self.fill(text)?;
        Url::parse(&filled).map_err(|source| CatalogueError::Url {
            text: filled,
            source,
        })
    }
}

/// An architecture's name as `uname -m` and Docker have it.
pub(super) fn machine(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64",
        Arch::Arm64 => "aarch64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_replaced_and_an_unknown_one_refused() {
        let template = Template::new().with("a", "1").with("b", "2");
        assert_eq!(template.fill("x{a}y{b}{a}").unwrap(), "x1y21");
        for text in ["{c}", "{a", "{}", "{{a}}"] {
            assert!(template.fill(text).is_err(), "{text}");
        }
    }
}
