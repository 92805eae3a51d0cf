//! The command line as a user meets it: usage errors end with 2, help and version with 0, and data goes to stdout.

use harness::pyapm;

fn code(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = pyapm::run(arguments).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn usage_errors_end_with_2_and_say_what_was_wrong() {
    for (arguments, word) in [
        (&["attach"][..], "--pid"),
        (&["attach", "--pid"][..], "--pid"),
        (&["attach", "--pid", "nobody"][..], "nobody"),
        (&["attach", "--pid", "-4"][..], "-4"),
        (&["attach", "--pid", "1", "--format", "carrier-pigeon"][..], "carrier-pigeon"),
        (&["attach", "--pid", "1", "--duration", "soon"][..], "soon"),
        (&["no-such-command"][..], "no-such-command"),
        (&["--no-such-option"][..], "--no-such-option"),
    ] {
        let (status, stdout, stderr) = code(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?} wrote to stdout: {stdout}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn help_and_version_are_data() {
    for arguments in [&["--help"][..], &["attach", "--help"], &["ps", "--help"], &["doctor", "--help"]] {
        let (status, stdout, stderr) = code(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
        assert!(stdout.contains("Usage"), "{arguments:?}: {stdout}");
    }
    let (status, stdout, _) = code(&["--version"]);
    assert_eq!(status, Some(0));
    assert!(stdout.starts_with("pyapm "), "{stdout}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    // `head` ends after one byte; what pyapm still has to say meets a broken pipe.
    let binary = harness::place::binary().unwrap();
    let script = "\"$0\" --help | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}";
    let output = std::process::Command::new("bash").args(["-c", script]).arg(&binary).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
