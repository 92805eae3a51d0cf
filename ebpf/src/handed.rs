//! Threads that answer what another has read, and wake it when they have done: they write the letter `x` into a pipe
//! (waitress, `trigger.py`). Only processes that have imported such a server are asked.

use crate::connection::{S_IFMT, mode};
use crate::emit;
use crate::lifecycle::header;
use crate::memory::user;
use pyapm_wire::event::{HandedBack, kind};
use pyapm_wire::scope::flag;
use pyapm_wire::target::Target;

const S_IFIFO: u16 = 0o010_000;

/// One byte, which lies at `address`, was written to what is no socket.
#[inline(always)]
pub(crate) fn back(target: &Target, fd: u32, address: u64) {
    if target.contexts.always & flag::HANDS_ON == 0 || user::<u8>(address) != Some(b'x') {
        return;
    }
    if mode(fd).is_some_and(|mode| mode & S_IFMT == S_IFIFO) {
        emit::send(&HandedBack { header: header(kind::HANDED_BACK, size_of::<HandedBack>()) });
    }
}
