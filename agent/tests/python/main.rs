//! The rooms `python` and `symbols` against real interpreters: every version that is on the machine is run
//! on the scripts in this folder, which write down what is true of themselves. No privilege is needed.

#![expect(
    clippy::unwrap_used,
    reason = "a test binary: helpers outside `#[test]` fail tests in the same way"
)]

mod collector;
mod interpreters;
mod objects;
mod other_versions;
mod routes;
mod truth;
mod waiting;
