//! Frames by pieces: what a walk copies of a thread's memory at once, and finds the next frames in. It knows no frame's
//! fields.

use crate::memory::{copy_user, opaque};
use pyapm_wire::python::{FRAME_BYTES, Layout};

/// Pages of user memory are as long, or longer: what begins in one that can be read can be read to such a multiple.
const PAGE: u64 = 4096;
/// A frame that lies at most so far before what was copied lies among its callers.
const NEAR: u64 = 1024;

/// A piece of a thread's memory, copied: `bytes` from `from` on are in `places` from the place `FRAME_BYTES` on, because what is
/// read of a frame lies where it lies in the frame, and the first may begin so much before what was copied. A frame may begin
/// at any of the places; behind them there is room for one, and eight bytes more: a field at the last offset stays inside.
#[repr(C)]
pub(crate) struct Window<const PLACES: usize> {
    pub from: u64,
    pub bytes: u64,
    pub places: [u8; PLACES],
    pub beyond: [u8; FRAME_BYTES + 8],
}

impl<const PLACES: usize> Window<PLACES> {
    /// Nothing is copied yet, and the first frame is to be copied alone.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.from = 0;
        self.bytes = 0;
    }

    /// Nothing is copied yet; the first frame, at `first`, is taken for one in a row.
    #[inline(always)]
    pub(crate) fn clear_for_row(&mut self, first: u64) {
        self.from = first.wrapping_add(NEAR / 2);
        self.bytes = 0;
    }
}

/// Of a common walk, which has little room.
pub(crate) const WINDOW_PLACES: usize = 1024;
/// Of a deep one: a page, and the frame that reaches into the next.
pub(crate) const PAGE_PLACES: usize = 8192;

/// Where a copy of the frame at `address` lies, or as much of it as is read; `FRAME_BYTES` and 8 may be read from there.
///
/// Frames that were called by one another lie one behind the other, callers first, on pages that Python gets for them.
/// So what lies before a frame on its page is copied with it where the frame is one in a row, and its callers are found there.
/// Frames of coroutines and generators lie anywhere: what lies before them is nobody's, and they are copied alone.
/// A page is there or is not, so nothing is asked for that is not there if the frame is.
#[inline(always)]
pub(crate) fn at<const PLACES: usize>(
    layout: &Layout,
    window: *mut Window<PLACES>,
    address: u64,
) -> Option<*const u8> {
    const { assert!(PLACES.is_power_of_two() && PLACES > FRAME_BYTES) };
    let room = (PLACES - FRAME_BYTES) as u64;
    let start = opaque(u64::from(layout.frame_start)) & (FRAME_BYTES as u64 - 1);
    let length = opaque(u64::from(layout.frame_bytes)) & (FRAME_BYTES as u64 - 1);
    let from = address + start;
    // SAFETY: `window` is valid, here and below.
    let (copied_from, copied) = unsafe { ((*window).from, (*window).bytes) };
    let places = unsafe { (&raw mut (*window).places).cast::<u8>() };
    if from.wrapping_sub(copied_from).saturating_add(length) > copied {
        let mut reach = length;
        if copied_from.wrapping_sub(from) <= NEAR {
            reach += from & (PAGE - 1);
        }
        let mut bytes = opaque(reach);
        if bytes > room {
            bytes = room;
        }
        // SAFETY: as above; `bytes` are inside behind the first `FRAME_BYTES`.
        unsafe {
            (*window).from = (from + length).wrapping_sub(bytes);
            (*window).bytes = bytes;
            if !copy_user(places.add(FRAME_BYTES), bytes as u32, (*window).from) {
                (*window).bytes = 0;
                return None;
            }
        }
    }
    // By a mask, aligned: where frames do not lie on multiples of 8 there are none.
    // SAFETY: as above.
    let place = FRAME_BYTES as u64 + from.wrapping_sub(unsafe { (*window).from }).wrapping_sub(start);
    let place = opaque(place) & (PLACES as u64 - 8);
    // SAFETY: `place` is below `PLACES`, behind which there is room for a frame.
    Some(unsafe { places.add(place as usize) })
}
