//! Symbols as people read them: C++ and Rust names demangled, without parameters and hashes.

use cpp_demangle::{DemangleOptions, Symbol};

/// Longer symbols are shown as they are: what they would expand to has no bound.
const MAX_MANGLED: usize = 4096;
/// Letters of a name that are kept.
const MAX_NAME: usize = 512;

/// A readable name for a symbol of the file.
pub(super) fn readable(symbol: &str) -> String {
    let mut name = demangled(symbol).unwrap_or_else(|| symbol.to_owned());
    if let Some((end, _)) = name.char_indices().nth(MAX_NAME) {
        name.truncate(end);
    }
    name
}

fn demangled(symbol: &str) -> Option<String> {
    if symbol.len() > MAX_MANGLED {
        return None;
    }
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        return Some(format!("{rust:#}"));
    }
    if !symbol.starts_with("_Z") {
        return None;
    }
    let options = DemangleOptions::new().no_params().no_return_type();
    Symbol::new(symbol).ok()?.demangle_with_options(&options).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_languages() {
        for (symbol, expected) in [
            ("PyObject_Call", "PyObject_Call"),
            ("_ZN5model4Tree4growEi", "model::Tree::grow"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_Znonsense", "_Znonsense"),
            ("", ""),
        ] {
            assert_eq!(readable(symbol), expected);
        }
        assert_eq!(readable(&"a".repeat(5000)).len(), MAX_NAME);
        assert_eq!(readable(&format!("_Z{}", "N".repeat(5000))).len(), MAX_NAME);
    }
}
