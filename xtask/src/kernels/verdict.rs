//! What a guest's serial log proves. Only a clean run to `@@ rc=0` is a pass; a kernel that crashed, a log
//! without a result or a guest that never ended prove nothing, neither way.

use std::time::Duration;

/// How qemu ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    PoweredOff,
    /// Any exit status but success.
    Broke(String),
    TimedOut(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// The test in the guest ended with this code.
    Failed(i32),
    /// Infrastructure failure: the test did not run to its end on a healthy kernel.
    Unproven(String),
}

/// What a crashing kernel prints (Linux 5.10 to 7.2: `die()`, `panic()`, `BUG()`, the page fault handler).
const CRASHES: &[&str] = &[
    "Oops:",
    "Kernel panic - not syncing",
    "BUG: ",
    "kernel BUG at",
    "general protection fault",
    "Unable to handle kernel",
];

/// Prefix of the lines in which the guest's scripts speak to this program.
const MARK: &str = "@@ ";

/// Judges a finished guest by its log.
pub(super) fn judge(log: &str, end: &End) -> Verdict {
    if let Some(line) = log.lines().find(|line| is_crash(line)) {
        return Verdict::Unproven(format!("the kernel crashed: {}", line.trim()));
    }
    match end {
        End::TimedOut(limit) => {
            return Verdict::Unproven(format!("the guest did not end within {} s", limit.as_secs()));
        }
        End::Broke(status) => return Verdict::Unproven(format!("qemu ended with {status}")),
        End::PoweredOff => {}
    }
    if let Some(reason) = marked(log, "stopped:").next() {
        return Verdict::Unproven(format!("the first stage stopped: {reason}"));
    }
    let codes: Vec<&str> = marked(log, "rc=").collect();
    match codes.as_slice() {
        [] => Verdict::Unproven("the log has no `@@ rc=` line".to_owned()),
        [code] => match code.parse() {
            Ok(0) => Verdict::Passed,
            Ok(code) => Verdict::Failed(code),
            Err(_) => Verdict::Unproven(format!("the log has a broken result, `@@ rc={code}`")),
        },
        _ => Verdict::Unproven(format!("the log has {} results", codes.len())),
    }
}

/// What the guest's script wants in the report: its `@@ note:` lines.
pub(super) fn notes(log: &str) -> Vec<String> {
    marked(log, "note:").map(str::to_owned).collect()
}

fn marked<'a>(log: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    log.lines().filter_map(move |line| line.strip_prefix(MARK)?.strip_prefix(kind)).map(str::trim)
}

/// Whether the kernel wrote this line while crashing. Its lines begin with a time stamp, which keeps a
/// program's own words in the guest from being taken for a crash; a panic is believed anywhere, since it may
/// cut a line short.
fn is_crash(line: &str) -> bool {
    let from_kernel = line
        .trim_start()
        .strip_prefix('[')
        .is_some_and(|rest| rest.split_once(']').is_some_and(|(time, _)| time.trim().parse::<f64>().is_ok()));
    line.contains("Kernel panic - not syncing")
        || (from_kernel && CRASHES.iter().any(|crash| line.contains(crash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str =
        "hello\r\n@@ note: 20 of 20 requests\r\n\r\n@@ rc=0\r\n[    9.123456] reboot: Power down\r\n";

    fn unproven(log: &str, end: &End) -> String {
        match judge(log, end) {
            Verdict::Unproven(reason) => reason,
            other => panic!("{other:?} from {log:?}"),
        }
    }

    #[test]
    fn a_clean_run_passes_and_its_notes_are_kept() {
        assert_eq!(judge(CLEAN, &End::PoweredOff), Verdict::Passed);
        assert_eq!(notes(CLEAN), ["20 of 20 requests"]);
    }

    #[test]
    fn a_failing_test_is_a_failure_with_its_code() {
        assert_eq!(judge("@@ rc=3\n", &End::PoweredOff), Verdict::Failed(3));
        assert_eq!(judge("@@ rc=-9\n", &End::PoweredOff), Verdict::Failed(-9));
    }

    #[test]
    fn a_crash_is_never_a_pass() {
        for crash in [
            "[    4.200000] Oops: int3: 0000 [#1] PREEMPT SMP",
            "[   12.000001] general protection fault, probably for non-canonical address",
            "[    1.5] BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "[    1.5] kernel BUG at mm/slub.c:305!",
            "20 requKernel panic - not syncing: Attempted to kill init!",
        ] {
            let log = format!("{crash}\n{CLEAN}");
            assert!(unproven(&log, &End::PoweredOff).contains("crashed"), "{crash}");
        }
    }

    #[test]
    fn a_programs_own_words_are_not_a_crash() {
        let log = format!("Oops: said the program\nBUG: none\n[x] BUG: none\n{CLEAN}");
        assert_eq!(judge(&log, &End::PoweredOff), Verdict::Passed);
    }

    #[test]
    fn a_log_without_one_sound_result_proves_nothing() {
        assert!(unproven("", &End::PoweredOff).contains("no `@@ rc=`"));
        assert!(unproven("it printed @@ rc=0 within a line\n", &End::PoweredOff).contains("no `@@ rc=`"));
        assert!(unproven("@@ rc=\n", &End::PoweredOff).contains("broken"));
        assert!(unproven("@@ rc=0\n@@ rc=0\n", &End::PoweredOff).contains("2 results"));
        assert!(unproven("@@ stopped: no /dev/vda\n", &End::PoweredOff).contains("no /dev/vda"));
    }

    #[test]
    fn a_guest_that_hung_or_qemu_that_broke_proves_nothing() {
        assert!(unproven(CLEAN, &End::TimedOut(Duration::from_secs(7))).contains("7 s"));
        assert!(unproven(CLEAN, &End::Broke("signal: 9 (SIGKILL)".to_owned())).contains("SIGKILL"));
    }
}
