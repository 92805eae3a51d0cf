//! Tracebacks as Python prints them (`traceback.format_exc()`), and what pyapm says in the same form: comparable frame by
//! frame. Source lines and markers below them are left out, being no part of what happened.

use pyapm_model::error::Error;
use pyapm_model::line::Frame;

/// One exception of a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Printed {
    /// File, line and function, outermost first.
    pub frames: Vec<(String, u32, String)>,
    /// `module.Class: message`.
    pub last: String,
}

/// What Python printed: the exception itself last, what it was raised from before it.
#[must_use]
pub fn parse(text: &str) -> Vec<Printed> {
    let mut chain: Vec<Printed> = Vec::new();
    for line in text.lines() {
        if line.starts_with("Traceback (most recent call last):") {
            chain.push(Printed { frames: Vec::new(), last: String::new() });
        } else if let Some(printed) = chain.last_mut() {
            if let Some(frame) = frame(line) {
                printed.frames.push(frame);
            } else if let Some(times) = repeated(line) {
                let last = printed.frames.last().cloned();
                printed.frames.extend(std::iter::repeat_n(last, times).flatten());
            } else if printed.last.is_empty() && !line.is_empty() && !line.starts_with(' ') {
                line.clone_into(&mut printed.last);
            }
        }
    }
    chain
}

/// `  File "x.py", line 3, in f`
fn frame(line: &str) -> Option<(String, u32, String)> {
    let (file, rest) = line.strip_prefix("  File \"")?.rsplit_once("\", line ")?;
    let (number, function) = rest.split_once(", in ")?;
    Some((file.to_owned(), number.parse().ok()?, function.to_owned()))
}

/// `  [Previous line repeated 2 more times]`
fn repeated(line: &str) -> Option<usize> {
    line.strip_prefix("  [Previous line repeated ")?.split(' ').next()?.parse().ok()
}

/// What pyapm says, in the same order.
#[must_use]
pub fn of(error: &Error) -> Vec<Printed> {
    let earlier = error.chain.iter().rev().map(|chained| {
        let name = (chained.module.as_deref(), chained.kind.as_str());
        printed(name, chained.message.as_deref(), &chained.stack)
    });
    let own = printed((error.module.as_deref(), &error.kind), error.message.as_deref(), &error.stack);
    earlier.chain([own]).collect()
}

fn printed((module, kind): (Option<&str>, &str), message: Option<&str>, stack: &[Frame]) -> Printed {
    let name = match module {
        Some("builtins" | "__main__") => kind.to_owned(),
        Some(module) => format!("{module}.{kind}"),
        None => format!("?.{kind}"),
    };
    let last = match message {
        Some("") => name,
        Some(message) => format!("{name}: {message}"),
        None => format!("{name}: ?"),
    };
    let frames = stack.iter().rev().map(|frame| {
        // Python prints `co_name`, which the qualified name ends with.
        let function = frame.function.rsplit('.').next().unwrap_or_default();
        (frame.file.to_string(), frame.line.unwrap_or(0), function.to_owned())
    });
    Printed { frames: frames.collect(), last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read() {
        let text = "Traceback (most recent call last):\n  File \"/a b.py\", line 3, in f\n    x\n    ^\nKeyError: 'x'\n\n\
            The above exception was the direct cause of the following exception:\n\n\
            Traceback (most recent call last):\n  File \"b.py\", line 7, in <module>\n    f()\na.B\n";
        let parsed = parse(text);
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].frames, [("/a b.py".to_owned(), 3, "f".to_owned())]);
        assert_eq!((parsed[0].last.as_str(), parsed[1].last.as_str()), ("KeyError: 'x'", "a.B"));
    }
}
