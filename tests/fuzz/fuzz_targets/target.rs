//! One of the targets of `pyapm::transactions::fuzz`, by the variable `PYAPM_FUZZ_TARGET`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyapm::transactions::fuzz;
use std::sync::OnceLock;

static TARGET: OnceLock<String> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let target = TARGET.get_or_init(|| {
        std::env::var("PYAPM_FUZZ_TARGET")
            .unwrap_or_else(|_| panic!("PYAPM_FUZZ_TARGET is one of {:?}", fuzz::TARGETS))
    });
    if let Err(broken) = fuzz::run(target, input) {
        panic!("{target}: {broken}");
    }
});
