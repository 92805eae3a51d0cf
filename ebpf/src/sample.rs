//! On-CPU samples: a software clock event on every CPU (`PERF_COUNT_SW_CPU_CLOCK`), which interrupts
//! whatever thread runs there.

use crate::deep;
use crate::emit;
use crate::lifecycle::header;
use crate::maps::{TARGETS, setting};
use crate::stack::Gil;
use crate::{native, scope};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use pyapm_wire::count;
use pyapm_wire::event::{Sample, gil, kind};
use pyapm_wire::python::{route, status};

#[perf_event]
fn cpu_sample(context: PerfEventContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole; a value changed under us can only spoil this one sample.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return 0 };
    let Some(scratch) = deep::scratch() else { return 0 };
    let walked = deep::take(target, scratch, deep::SAMPLE_CALLS);
    if walked.status == status::NO_THREAD_STATE {
        emit::add(count::SAMPLE_NOT_PYTHON, 1);
    }
    if setting!(native) != 0 && target.layout.route != route::NONE {
        native::send(&context);
    }
    let scope = scope::take(target, scratch.cast(), || deep::deep_frames());
    let mut header = header(kind::SAMPLE, size_of::<Sample>());
    // SAFETY: map values stay valid while the program runs.
    if Gil::of(&target.layout, unsafe { (*scratch).walk.tstate }).is_some_and(|gil| gil.is_held_by_it) {
        header.flags = gil::HOLDS;
    }
    emit::send(&Sample { header, stack: walked.stack, stack_status: walked.status, padding: [0; 6], scope });
    0
}
