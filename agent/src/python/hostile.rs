//! Tests only: everything that reads a target, on targets that answer every read with something. Nothing
//! may panic, and nothing may go on for longer than its own bounds.

use super::code::read_code;
use super::memory::{BoundedMemory, MAX_READ, Memory, MemoryError};
use super::objects::Objects;
use super::offsets::{DebugOffsets, SUPPORTED_MINORS, table};
use super::stack::{Chain, read_chain, read_stack};
use super::threads::thread_states;
use pyapm_wire::python::MAX_FRAMES;
use std::cell::Cell;

/// Answers with pseudo-random bytes: of all values, of small ones, or of addresses.
struct Noise {
    state: Cell<u64>,
    mask: u64,
    reads: Cell<usize>,
    bytes: Cell<usize>,
}

impl Noise {
    fn new(seed: u64, mask: u64) -> Self {
        Self { state: Cell::new(seed | 1), mask, reads: Cell::new(0), bytes: Cell::new(0) }
    }

    /// xorshift64.
    fn next(&self) -> u64 {
        let mut x = self.state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.set(x);
        x & self.mask
    }
}

impl Memory for Noise {
    fn read(&self, _: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        assert!(buffer.len() <= MAX_READ);
        self.reads.set(self.reads.get() + 1);
        self.bytes.set(self.bytes.get() + buffer.len());
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[test]
fn noise_is_survived_within_bounds() {
    for minor in SUPPORTED_MINORS {
        let offsets = table(minor).unwrap();
        for seed in 1..40_u64 {
            for mask in [u64::MAX, 0xffff, 0x7fff_ffff_fff8, 0x00ff_00ff_00ff_00ff, 0x7f] {
                let noise = Noise::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), mask);
                if let Ok(code) = read_code(&noise, offsets, 0x1000) {
                    let _ = code.lines.line(100);
                }
                assert!(noise.reads.get() <= 20 && noise.bytes.get() <= 3 * MAX_READ);
                let noise = Noise::new(seed, mask);
                let frames = read_stack(&noise, offsets, 0x1000).unwrap();
                assert!(frames.len() <= MAX_FRAMES);
                assert!(noise.reads.get() <= 5 * MAX_FRAMES + 2);
                let noise = Noise::new(seed, mask);
                let _ = DebugOffsets::read(&noise, 0x1000, None, minor, 0x030d_00f0, offsets);
                // Chains may be long, so that a few are enough.
                if seed > 1 {
                    continue;
                }
                let noise = Noise::new(seed, mask);
                if let Ok(chain) = read_chain(&noise, offsets, 0x1000) {
                    assert!(chain.frames.len() <= Chain::MAX_KEPT);
                }
                let noise = Noise::new(seed, mask);
                read_objects(&noise, minor);
            }
        }
        let noise = Noise::new(7, u64::MAX);
        let _ = thread_states(&noise, offsets, 0x1000).unwrap();
        assert!(noise.reads.get() <= 5 * 16_384 + 3 * 256);
    }
}

/// Everything that follows objects, on a memory that may be asked so often and no more.
fn read_objects(noise: &Noise, minor: u8) {
    let offsets = table(minor).unwrap();
    let bounded = || BoundedMemory::new(noise, 2000);
    let with = |act: &dyn Fn(&Objects<'_>)| act(&Objects::new(&bounded(), offsets, minor).unwrap());
    with(&|objects| assert!(objects.repr(0x1000).map_or(0, |text| text.len()) < 1000));
    with(&|objects| assert!(objects.dict_items(0x1000).map_or(0, |items| items.len()) <= 1 << 16));
    with(&|objects| assert!(objects.attributes(0x1000).map_or(0, |items| items.len()) <= 1 << 16));
    with(&|objects| assert!(objects.locals(0x1000, 0x2000).map_or(0, |locals| locals.len()) <= 256));
    with(&|objects| assert!(objects.tuple_items(0x1000, 10).map_or(0, |items| items.len()) <= 10));
    with(&|objects| assert!(objects.list_items(0x1000, 10).map_or(0, |items| items.len()) <= 10));
    with(&|objects| assert!(objects.thread_names(0x1000).map_or(0, |names| names.len()) <= 1 << 16));
    with(&|objects| assert!(objects.gil(0x1000, 0x2000).is_err() || noise.reads.get() > 0));
    with(&|objects| assert!(objects.set_strings(0x1000, 64).map_or(0, |strings| strings.len()) <= 512));
    with(&|objects| assert!(objects.all_modules(0x1000).map_or(0, |modules| modules.len()) <= 1 << 16));
    with(&|objects| {
        let _ = objects.class_attribute(0x1000, "regex");
        let _ = objects.function_attribute(0x1000, "__wrapped__");
        let _ = objects.class_name(0x1000);
    });
    assert!(noise.reads.get() <= 8 * 2000 && noise.bytes.get() <= 8 * 2000 * MAX_READ);
}
