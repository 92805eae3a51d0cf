//! How frames, threads and processes are called in files that have only text for them.

use super::recording::Look;
use crate::profile::Thread;
use crate::symbols::UNKNOWN;
use pyapm_model::line::Frame;

/// Components of a path that are shown when nothing tells where its package begins.
const SHOWN: usize = 2;

/// Folders that packages are installed to.
const PACKAGES: [&str; 2] = ["/site-packages/", "/dist-packages/"];

/// `qualname (file:line)`. Frames of the recorder itself have no file and are their own name.
pub(super) fn frame(frame: &Frame, look: Look) -> String {
    let function = tame(&frame.function);
    if frame.file.is_empty() {
        return function;
    }
    if frame.function == UNKNOWN && frame.file == UNKNOWN {
        return "[code that could not be read]".to_owned();
    }
    let file = if look.full_paths { tame(&frame.file) } else { tame(short(&frame.file)) };
    match frame.line.filter(|_| !look.function) {
        Some(line) => format!("{function} ({file}:{line})"),
        None => format!("{function} ({file})"),
    }
}

/// `process 12 (gunicorn shop)`.
pub(super) fn process(thread: &Thread) -> String {
    format!("process {} ({})", thread.pid, tame(&thread.process))
}

/// `thread 34 (worker)`.
pub(super) fn thread(thread: &Thread) -> String {
    match &thread.name {
        Some(name) => format!("thread {} ({})", thread.tid, tame(name)),
        None => format!("thread {}", thread.tid),
    }
}

/// Whose code it is, as far as its file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Application,
    /// An installed package.
    Package,
    /// The standard library.
    Library,
    /// A frame of the recorder itself, or one that could not be named.
    Nobody,
}

impl Origin {
    pub(super) fn of(frame: &Frame) -> Self {
        let file = frame.file.as_str();
        if file.is_empty() || file == UNKNOWN {
            Self::Nobody
        } else if PACKAGES.iter().any(|folder| file.contains(folder)) {
            Self::Package
        } else if file.starts_with("<frozen ") || standard_library(file).is_some() {
            Self::Library
        } else {
            Self::Application
        }
    }
}

/// From where packages are installed on, else the last components.
fn short(path: &str) -> &str {
    for folder in PACKAGES {
        if let Some((_, rest)) = path.rsplit_once(folder) {
            return rest;
        }
    }
    if let Some(rest) = standard_library(path) {
        return rest;
    }
    if path.starts_with('<') {
        return path;
    }
    let start = path.rmatch_indices('/').nth(SHOWN - 1).map_or(0, |(at, _)| at + 1);
    path.get(start..).unwrap_or(path)
}

/// `/usr/lib/python3.11/json/decoder.py` is `json/decoder.py`.
fn standard_library(path: &str) -> Option<&str> {
    let (_, rest) = path.rsplit_once("/lib/python3.")?;
    let (minor, rest) = rest.split_once('/')?;
    minor.bytes().all(|digit| digit.is_ascii_digit() || digit == b't').then_some(rest)
}

/// Neither ends a line nor a frame: code can name itself as it likes.
fn tame(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            ';' => ':',
            letter if letter.is_control() => ' ',
            letter => letter,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(function: &str, file: &str, line: Option<u32>, look: Look) -> String {
        frame(&Frame { function: function.into(), file: file.into(), line }, look)
    }

    #[test]
    fn frames() {
        let plain = Look::default();
        let full = Look { full_paths: true, ..plain };
        let function = Look { function: true, ..plain };
        let price = |look| named("Shop.price", "/srv/shop/catalogue/work.py", Some(7), look);
        assert_eq!(price(plain), "Shop.price (catalogue/work.py:7)");
        assert_eq!(price(full), "Shop.price (/srv/shop/catalogue/work.py:7)");
        assert_eq!(price(function), "Shop.price (catalogue/work.py)");
        assert_eq!(named("f", "work.py", None, plain), "f (work.py)");
        assert_eq!(named("?", "?", None, plain), "[code that could not be read]");
        assert_eq!(named("[mark]", "", None, plain), "[mark]");
        assert_eq!(named("a;b\nc", "<string;>", Some(1), plain), "a:b c (<string:>:1)");
    }

    #[test]
    fn origins() {
        let of = |file: &str| Origin::of(&Frame { function: "f".into(), file: file.into(), line: None });
        assert_eq!(of("/srv/shop/work.py"), Origin::Application);
        assert_eq!(of("<string>"), Origin::Application);
        assert_eq!(of("/v/lib/python3.11/site-packages/six.py"), Origin::Package);
        assert_eq!(of("/usr/lib/python3.11/json/decoder.py"), Origin::Library);
        assert_eq!(of("<frozen importlib._bootstrap>"), Origin::Library);
        assert_eq!((of(""), of("?")), (Origin::Nobody, Origin::Nobody));
    }

    #[test]
    fn short_paths() {
        for (path, expected) in [
            ("/v/lib/python3.11/site-packages/django/db/models/query.py", "django/db/models/query.py"),
            ("/usr/lib/python3/dist-packages/six.py", "six.py"),
            ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"),
            ("/usr/lib/python3.13t/threading.py", "threading.py"),
            ("/srv/lib/python3.x/a.py", "python3.x/a.py"),
            ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
            ("<a/b/c>", "<a/b/c>"),
            ("/a.py", "/a.py"),
            ("/b/a.py", "b/a.py"),
            ("a.py", "a.py"),
            ("", ""),
        ] {
            assert_eq!(short(path), expected, "{path}");
        }
    }
}
