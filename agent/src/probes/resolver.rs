//! Where the probes of the C library's `getaddrinfo` go: at its start, and on what it returns by.

use super::exit_site::plain_returns;
use super::site::{ARGUMENTS, Site, find_in};
use crate::binaries::Image;

const FUNCTION: &str = "getaddrinfo";

/// The programs of the kernel half, see `ebpf/src/connect.rs`.
pub(super) const BEGINS: &str = "lookup_begins";
pub(super) const ENDS: &str = "lookup_ends";

/// Places of one C library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverSites {
    pub start: Site,
    /// Never empty.
    pub ends: Vec<Site>,
}

impl ResolverSites {
    /// `None` when the function is not there, or where it ends could not be found.
    #[must_use]
    pub fn inspect(image: &Image) -> Option<Self> {
        let symbol = image.exported(FUNCTION)?;
        let start = find_in(image, FUNCTION, symbol, ARGUMENTS.get(..4)?).ok()?;
        let ends = plain_returns(image, symbol);
        (!ends.is_empty()).then_some(Self { start, ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries::mappings;

    #[test]
    fn of_the_c_library_of_this_test() {
        let pid = std::process::id();
        let own = mappings(pid).unwrap();
        let executable = own.iter().filter(|mapping| mapping.executable && mapping.file.is_some());
        let sites = executable
            .filter_map(|mapping| ResolverSites::inspect(&Image::open(&mapping.reachable(pid)).ok()?))
            .next()
            .unwrap();
        assert!(sites.start.emulated && !sites.ends.is_empty(), "{sites:?}");
    }
}
