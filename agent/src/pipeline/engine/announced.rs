//! What processes of the whole host did that may make them servers, as the kernel half has told it: kept until the
//! service asks. What becomes of it is decided there.

use super::Engine;
use crate::intake::{Body, Event};

/// Announcements that are kept; more are counted as missed, and found by the scan of `/proc` instead.
const MAX: usize = 4096;

/// One announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline) struct Announcement {
    pub(in crate::pipeline) pid: u32,
    /// It has begun to listen; else it has become another program.
    pub(in crate::pipeline) listens: bool,
}

#[derive(Debug, Default)]
pub(super) struct Announced {
    kept: Vec<Announcement>,
    pub(super) missed: u64,
}

impl Announced {
    /// `false`: the event is of another kind.
    pub(super) fn take(&mut self, event: &Event<'_>) -> bool {
        let listens = match event.body {
            Body::Listens => true,
            Body::Started => false,
            _ => return false,
        };
        if self.kept.len() < MAX {
            self.kept.push(Announcement { pid: event.pid, listens });
        } else {
            self.missed += 1;
        }
        true
    }
}

impl Engine {
    /// What has been announced since the last time.
    pub(in crate::pipeline) fn announcements(&mut self) -> Vec<Announcement> {
        std::mem::take(&mut self.announced.kept)
    }
}
