//! From the place where the kernel has a thread to what it waits for.

use crate::python::Gil;
use crate::targets::{Descriptors, Place, ProcFs, SystemCall, Waits};
use pyapm_model::dump::State;

/// Descriptors of one `poll` or `select` that are looked at.
const MAX_POLLED: u64 = 1024;
/// `struct pollfd`: an int, then two shorts.
const POLLFD: usize = 8;

/// What is needed to tell.
pub(in crate::pipeline) struct Surroundings<'a> {
    pub procfs: &'a ProcFs,
    pub pid: u32,
    pub descriptors: &'a Descriptors,
    pub gil: Option<Gil>,
}

impl Surroundings<'_> {
    /// What thread `tid` is doing. Right only if it did not run meanwhile.
    pub(in crate::pipeline) fn state(&self, tid: u32) -> State {
        if let Ok(stat) = self.procfs.task_stat(self.pid, tid)
            && matches!(stat.state, 'T' | 't')
        {
            return State::Stopped;
        }
        match self.procfs.task_place(self.pid, tid) {
            Ok(Place::Running) => State::Running,
            Ok(Place::Kernel) => State::Kernel,
            Ok(Place::Call(call)) => self.of_call(&call),
            Err(_) => State::Unknown,
        }
    }

    fn of_call(&self, call: &SystemCall) -> State {
        let name = call.name();
        match call.waits() {
            Waits::Futex if self.gil.is_some_and(|gil| gil.is_waited_for_at(call.first())) => State::Gil,
            Waits::Futex => State::Lock { call: name },
            Waits::Time => State::Sleep { call: name },
            Waits::Child => State::Child { call: name },
            Waits::Path | Waits::Other => State::Call { call: name },
            // Descriptors are ints: the upper half of the register may hold anything.
            Waits::File | Waits::Socket | Waits::Disk | Waits::Lock | Waits::Events => {
                self.of_file(name, Some(call.first() & 0xffff_ffff))
            }
            Waits::Poll => match call.second() {
                0 => State::Sleep { call: name },
                1 => self.of_file(name, self.polled(call.first())),
                _ => self.of_file(name, None),
            },
            Waits::Select => match call.first() {
                0 => State::Sleep { call: name },
                count => self.of_file(name, self.selected(call, count)),
            },
        }
    }

    fn of_file(&self, call: String, fd: Option<u64>) -> State {
        State::Io { call, fd, file: fd.and_then(|fd| self.descriptors.describe(fd)) }
    }

    /// The descriptor in a `struct pollfd`; `None` for one that is to be ignored.
    fn polled(&self, address: u64) -> Option<u64> {
        let bytes = self.procfs.memory(self.pid, address, POLLFD);
        let fd = i32::from_ne_bytes(*bytes.first_chunk()?);
        u64::try_from(fd).ok()
    }

    /// The only descriptor in the three sets of a `select`.
    fn selected(&self, call: &SystemCall, count: u64) -> Option<u64> {
        let [_, sets @ .., _, _] = call.arguments;
        let mut only = None;
        for set in sets.into_iter().filter(|set| *set != 0) {
            let length = usize::try_from(count.min(MAX_POLLED).div_ceil(64) * 8).ok()?;
            let bytes = self.procfs.memory(self.pid, set, length);
            for (index, byte) in (0_u64..).zip(bytes) {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    let fd = index * 8 + bit;
                    if fd < count && only.replace(fd).is_some_and(|other| other != fd) {
                        return None;
                    }
                }
            }
        }
        only
    }
}
