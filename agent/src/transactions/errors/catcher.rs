//! Who caught an exception: the frame that it reached last.

use crate::transactions::callsite::is_application;
use pyapm_model::line::Frame;

/// Where servers and frameworks catch what the application did not, as the ends of files' paths. Only asked for
/// exceptions that have no frame of the application's own, which libraries else raise and catch among themselves.
const LAST_RESORTS: [&str; 13] = [
    "/django/core/handlers/exception.py",
    "/flask/app.py",
    "/starlette/middleware/errors.py",
    "/uvicorn/protocols/http/h11_impl.py",
    "/uvicorn/protocols/http/httptools_impl.py",
    "/gunicorn/workers/sync.py",
    "/gunicorn/workers/gthread.py",
    "/gunicorn/workers/base_async.py",
    "/aiohttp/web_protocol.py",
    "/waitress/channel.py",
    "/tornado/web.py",
    "/wsgiref/handlers.py",
    "/celery/app/trace.py",
];

/// Whether the application caught it, by its traceback from the innermost frame outwards. `None` when it reached the
/// outermost frame of a program, which may have caught it or died of it.
pub(super) fn handled(stack: &[Frame]) -> Option<bool> {
    let last = stack.last()?;
    if is_application(last) {
        return (last.function != "<module>").then_some(true);
    }
    let left_the_application = stack.iter().any(is_application);
    let given_up = LAST_RESORTS.iter().any(|end| last.file.ends_with(end));
    Some(!left_the_application && !given_up)
}

/// The innermost frame of the application's own; the innermost of all where there is none.
pub(super) fn own_frame(stack: &[Frame]) -> Option<&Frame> {
    stack.iter().find(|frame| is_application(frame)).or_else(|| stack.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(files: &[&str]) -> Vec<Frame> {
        let frame = |file: &&str| Frame { function: "f".into(), file: (*file).into(), line: None };
        files.iter().map(frame).collect()
    }

    #[test]
    fn whose_frame_it_reached_last() {
        let library = "/v/lib/python3.11/site-packages/flask/app.py";
        let other = "/v/lib/python3.11/site-packages/json.py";
        assert_eq!(handled(&stack(&["/srv/a.py", "/srv/b.py"])), Some(true));
        assert_eq!(handled(&stack(&[other, "/srv/b.py"])), Some(true));
        assert_eq!(handled(&stack(&["/srv/a.py", library])), Some(false));
        assert_eq!(handled(&stack(&["/srv/a.py", other])), Some(false));
        assert_eq!(handled(&stack(&[other, other])), Some(true));
        assert_eq!(handled(&stack(&[other, library])), Some(false));
        assert_eq!(handled(&[]), None);
        let mut program = stack(&["/srv/a.py", "/srv/main.py"]);
        program[1].function = "<module>".into();
        assert_eq!(handled(&program), None);
    }
}
