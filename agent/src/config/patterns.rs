//! One pattern or a list of them: `"a*"` is `["a*"]`. A pattern is plain text with `*` and `?`; nothing else is special
//! but `[` and `{`, as shells have them.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// As written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Patterns(pub Vec<String>);

impl Patterns {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ready to be used.
    ///
    /// # Errors
    /// When one of them is not a pattern.
    pub fn compiled(&self) -> Result<GlobSet, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in &self.0 {
            set.add(GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()?);
        }
        set.build()
    }

    /// What is wrong with them, if anything is.
    pub(super) fn wrong(&self) -> Option<String> {
        self.compiled().err().map(|error| error.to_string())
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Patterns;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a pattern, or a list of patterns")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Patterns, E> {
                Ok(Patterns(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some(pattern) = list.next_element()? {
                    patterns.push(pattern);
                }
                Ok(Patterns(patterns))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_go_over_slashes() {
        let patterns = Patterns(vec!["/srv/*/python3*".to_owned(), "exact".to_owned()]);
        let set = patterns.compiled().unwrap();
        assert!(set.is_match("/srv/shop/venv/bin/python3.11") && set.is_match("exact"));
        assert!(!set.is_match("/usr/bin/python3") && !set.is_match("exactly"));
        assert!(Patterns(vec!["a[".to_owned()]).wrong().is_some());
    }
}
