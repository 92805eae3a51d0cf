//! The two clocks of the host: events carry the monotonic one, outputs show the wall's.

use crate::transactions::Clock;
use nix::time::{ClockId, clock_getres, clock_gettime};
use std::time::Duration;

/// `CLOCK_MONOTONIC`, nanoseconds: the clock of every event.
pub(super) fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// How long a tick of the kernel's clock is, in microseconds: what its coarse clock goes by (kernel `kernel/time/hrtimer.c`,
/// `hrtimer_get_res`; `kernel/time/posix-timers.c`, `posix_get_coarse_res`). 0 when it does not say.
pub(super) fn tick_us() -> u32 {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE);
    tick.ok().and_then(|tick| u32::try_from(Duration::from(tick).as_micros()).ok()).unwrap_or(0)
}

/// `CLOCK_BOOTTIME`, nanoseconds: what start times of processes are counted by.
pub(super) fn boottime_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// How to turn the one into the other, as of now.
pub(super) fn offset() -> Clock {
    let wall = i128::from(read(ClockId::CLOCK_REALTIME));
    let monotonic = i128::from(monotonic_ns());
    Clock { monotonic_to_wall_offset_ns: i64::try_from(wall - monotonic).unwrap_or(0) }
}

/// Both clocks exist on every Linux; a failure would give 0, and times that are plainly wrong.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).ok().map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
    })
}
