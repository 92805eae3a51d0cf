//! Packages of Debian's suites, other ones than this machine's too: listed and downloaded by apt with lists and a
//! cache of its own below the target directory, unpacked by `dpkg-deb`. Nothing is installed.
//!
//! | file | subject |
//! |---|---|
//! | `sources` | the machine's apt entries, and entries of other suites derived from them |
//! | `suite` | one suite's lists, versions and downloads |
//! | `commands` | runs a host tool and names it when it fails |
//!
//! Not here: which packages are wanted, and what becomes of them.

pub mod commands;
pub mod sources;
pub mod suite;
