//! `cargo xtask dist`: a Debian package of the binary, its service, configuration, manual pages and completions.
//!
//! | file | subject |
//! |---|---|
//! | `command` | the command |
//! | `deb` | what lies where in the package, and its control files |
//! | `clean_root` | a Debian without anything, in which the package is installed and its service started |

mod clean_root;
pub mod command;
mod deb;
