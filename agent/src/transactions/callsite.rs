//! Which frame of a stack is the application's own: the call site that a span names.

use pyapm_model::line::Frame;
use pyapm_model::stack::Stack;

/// Whether a frame is neither the standard library's, nor an installed package's, nor generated.
///
/// `site-packages` and `dist-packages` (Debian's) are where `site.py` looks for installed code;
/// `lib/pythonX.Y` is the standard library's place on every Unix build (`sysconfig`, scheme
/// `posix_prefix`). `<frozen importlib._bootstrap>`, `<string>` and the like have no file.
#[must_use]
pub fn is_application(frame: &Frame) -> bool {
    let file = frame.file.as_str();
    if file.is_empty() || file == "?" || file.starts_with('<') {
        return false;
    }
    let mut before = "";
    for part in file.split('/') {
        let library = matches!(before, "lib" | "lib32" | "lib64") && is_python_version(part);
        if library || part == "site-packages" || part == "dist-packages" || part.ends_with(".zip") {
            return false;
        }
        before = part;
    }
    true
}

/// The stack from its innermost application frame outwards; the whole stack when it has none.
#[must_use]
pub fn from_application(stack: Stack) -> Stack {
    stack.cut(|frames| frames.iter().position(is_application).unwrap_or(0))
}

/// `python3`, `python3.11`, `python3.13t`; also `pypy3.10`.
fn is_python_version(part: &str) -> bool {
    let rest = part.strip_prefix("python").or_else(|| part.strip_prefix("pypy"));
    rest.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(file: &str) -> Frame {
        Frame { function: "f".into(), file: file.into(), line: Some(1) }
    }

    #[test]
    fn whose_file() {
        for (file, expected) in [
            ("/srv/shop/views.py", true),
            ("shop/views.py", true),
            ("/home/u/python3-course/app.py", true),
            ("/opt/lib/app/main.py", true),
            ("/srv/python3.11/app.py", true),
            ("/srv/app/lib/python3.11/site-packages/django/db/utils.py", false),
            ("/usr/lib/python3/dist-packages/MySQLdb/cursors.py", false),
            ("/usr/lib/python3.11/socket.py", false),
            ("/usr/lib64/python3.9/socket.py", false),
            ("/root/.pyenv/versions/3.13.0/lib/python3.13t/threading.py", false),
            ("/usr/lib/python311.zip/os.py", false),
            ("<frozen importlib._bootstrap>", false),
            ("<string>", false),
            ("", false),
            ("?", false),
        ] {
            assert_eq!(is_application(&frame(file)), expected, "{file}");
        }
    }

    #[test]
    fn driver_frames_above_the_call_are_dropped() {
        let stack = [
            frame("/v/lib/python3.11/site-packages/MySQLdb/cursors.py"),
            frame("/v/lib/python3.11/site-packages/django/db/backends/utils.py"),
            frame("/srv/shop/views.py"),
            frame("/v/lib/python3.11/site-packages/django/core/handlers/base.py"),
        ];
        let cut = |stack: &[Frame]| from_application(stack.to_vec().into());
        assert_eq!(&*cut(&stack), &stack[2..]);
        assert_eq!(&*cut(&stack[..2]), &stack[..2]);
        assert!(cut(&[]).is_empty());
    }
}
