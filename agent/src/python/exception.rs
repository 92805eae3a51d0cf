//! What Python would print of an exception, told from outside: the name and module of its class, and the message
//! from the arguments that were copied. No code of the target runs, so a class's own `__str__` does not either:
//! its message is what `BaseException` would make of the arguments.

use super::objects::{Objects, TP_NAME, ValueLayout};
use super::raising::{Raising, TP_STR};
use super::strings::{MAX_NAME, ObjectError};
use crate::intake::{Content, Exception, Value};

/// `PyTypeObject.tp_flags` and `tp_dict`, x86-64, 3.8 to 3.15 with the GIL; `Py_TPFLAGS_HEAPTYPE`.
const TP_FLAGS: u64 = 168;
const TP_DICT: u64 = 264;
const HEAP_TYPE: u64 = 1 << 9;

/// How `str()` of an exception is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printing {
    /// The only argument, or all as a tuple.
    Arguments,
    /// `KeyError`: the only argument as `repr` gives it.
    Key,
    /// `OSError`: `[Errno 2] No such file or directory: 'name'`.
    Os,
    /// By code of its own, which does not run here.
    Own,
}

/// The class of an exception, or of one of its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionClass {
    /// `__qualname__`.
    pub name: String,
    /// `None` when it could not be told.
    pub module: Option<String>,
    pub printing: Printing,
}

impl ExceptionClass {
    /// What the kernel half's copy of `tp_name` says alone: classes of C name their module there, classes of Python do not.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let (module, name) = match name.rsplit_once('.') {
            Some((module, name)) => (Some(module.to_owned()), name),
            None => (None, name),
        };
        Self { name: name.to_owned(), module, printing: Printing::Own }
    }
}

impl Objects<'_> {
    /// The class at this address, if its `tp_name` still begins as it did when the kernel half saw it.
    ///
    /// # Errors
    /// When it cannot be read, or is another one by now.
    pub fn exception_class(
        &self,
        raising: &Raising,
        address: u64,
        seen: &str,
    ) -> Result<ExceptionClass, ObjectError> {
        let at = |offset: u64| self.part(address, offset);
        let name = self.c_string(self.memory.read_u64(at(TP_NAME))?)?;
        if name.is_empty() || !name.starts_with(seen) {
            return Err(ObjectError::Changed { address });
        }
        let printing = match self.memory.read_u64(at(TP_STR))? {
            own if own == raising.str_of_base => Printing::Arguments,
            own if own == raising.str_of_key_error => Printing::Key,
            own if own == raising.str_of_os_error => Printing::Os,
            _ => Printing::Own,
        };
        if self.memory.read_u64(at(TP_FLAGS))? & HEAP_TYPE == 0 {
            // A static type's name has its module, unless that is `builtins` (`type_module`, `Objects/typeobject.c`).
            let class = ExceptionClass::from_name(&name);
            let module = class.module.unwrap_or_else(|| "builtins".to_owned());
            return Ok(ExceptionClass { module: Some(module), printing, ..class });
        }
        let qualname =
            self.memory.read_u64(address.wrapping_add(u64::from(self.layout.type_cached_keys) - 8))?;
        let module = self.dict_get(self.memory.read_u64(at(TP_DICT))?, "__module__")?;
        Ok(ExceptionClass {
            name: self.string(qualname, MAX_NAME)?,
            module: module.and_then(|module| self.string(module, MAX_NAME).ok()),
            printing,
        })
    }
}

/// The message, or `None` when its arguments cannot be printed from here. `class_of` names the class at an address.
#[must_use]
pub fn message(
    exception: &Exception,
    class: &ExceptionClass,
    layout: &ValueLayout,
    class_of: &dyn Fn(u64) -> Option<String>,
) -> Option<String> {
    let shown = Shown { layout, class_of };
    let [first, second] = &exception.values;
    match (exception.arguments, class.printing) {
        (0, _) => Some(String::new()),
        (1, Printing::Key) => shown.repr(first.as_ref()?),
        (1, _) => shown.str(first.as_ref()?),
        (2, Printing::Os) => {
            let text = format!("[Errno {}] {}", shown.str(first.as_ref()?)?, shown.str(second.as_ref()?)?);
            // `filename` is null, or `None`, when there is none.
            match exception.file_name.as_ref().map(|name| (shown.is_none(name), shown.repr(name))) {
                None | Some((true, _)) => Some(text),
                Some((false, Some(name))) => Some(format!("{text}: {name}")),
                Some((false, None)) => None,
            }
        }
        (2, _) => Some(format!("({}, {})", shown.repr(first.as_ref()?)?, shown.repr(second.as_ref()?)?)),
        _ => None,
    }
}

struct Shown<'a> {
    layout: &'a ValueLayout,
    class_of: &'a dyn Fn(u64) -> Option<String>,
}

impl Shown<'_> {
    fn is_none(&self, value: &Value) -> bool {
        value.content == Content::Other && (self.class_of)(value.class).as_deref() == Some("NoneType")
    }

    fn str(&self, value: &Value) -> Option<String> {
        match &value.content {
            Content::Text { text, cut } => Some(if *cut { format!("{text}…") } else { text.clone() }),
            Content::Int(words) => {
                let number = self.int(*words)?;
                match (self.class_of)(value.class)?.as_str() {
                    "int" => Some(number.to_string()),
                    "bool" => Some(if number == 0 { "False" } else { "True" }.to_owned()),
                    // An enumeration, say: it prints otherwise.
                    _ => None,
                }
            }
            Content::Other => self.is_none(value).then(|| "None".to_owned()),
        }
    }

    fn repr(&self, value: &Value) -> Option<String> {
        match &value.content {
            Content::Text { text, cut } => Some(quoted(text, *cut)),
            Content::Int(_) | Content::Other => self.str(value),
        }
    }

    /// `PyLongObject`: `ob_size` or `lv_tag`, then digits of 30 bits.
    fn int(&self, words: [u64; 3]) -> Option<i128> {
        let [head, low, high] = words;
        let (digits, negative) = if self.layout.int_tag {
            (head >> 3, head & 3 == 2)
        } else {
            (head.cast_signed().unsigned_abs(), head.cast_signed() < 0)
        };
        let all = [low & 0xffff_ffff, low >> 32, high & 0xffff_ffff, high >> 32];
        let digits = all.get(..usize::try_from(digits).ok()?)?;
        let value = digits.iter().rev().fold(0_i128, |value, digit| (value << 30) | i128::from(*digit));
        Some(if negative { -value } else { value })
    }
}

/// As `repr` quotes a string (`unicode_repr`, `Objects/unicodeobject.c`).
fn quoted(text: &str, cut: bool) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push_str(if cut { "…" } else { "" });
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{ExceptionId, Relation};

    fn text(text: &str) -> Option<Value> {
        Some(Value { class: 1, content: Content::Text { text: text.into(), cut: false } })
    }

    fn int(class: u64, words: [u64; 3]) -> Option<Value> {
        Some(Value { class, content: Content::Int(words) })
    }

    fn printed(minor: u8, printing: Printing, arguments: u32, values: [Option<Value>; 3]) -> Option<String> {
        let [first, second, file_name] = values;
        let exception = Exception {
            id: ExceptionId(1),
            relation: Relation::None,
            class: 5,
            class_name: "Boom".into(),
            suppressed: 0,
            place: None,
            arguments,
            values: [first, second],
            file_name,
            frames: Vec::new(),
            frames_cut: false,
            chain_cut: false,
        };
        let class = ExceptionClass { printing, ..ExceptionClass::from_name("a.b.Boom") };
        let class_of = |class| {
            let name = ["", "str", "int", "bool", "NoneType", "Color"].get(class as usize)?;
            Some((*name).to_owned())
        };
        message(&exception, &class, ValueLayout::of(minor)?, &class_of)
    }

    #[test]
    fn as_python_prints_them() {
        let none = || Some(Value { class: 4, content: Content::Other });
        let some = |text: &str| Some(text.to_owned());
        use Printing::{Arguments, Key, Os, Own};
        assert_eq!(printed(11, Arguments, 0, [None, None, None]), some(""));
        assert_eq!(printed(11, Arguments, 1, [text("it's"), None, None]), some("it's"));
        assert_eq!(printed(11, Own, 1, [text("a"), None, None]), some("a"));
        assert_eq!(printed(11, Key, 1, [text("it's"), None, None]), some("\"it's\""));
        assert_eq!(printed(11, Key, 1, [text("a\\\n'\"\u{1}"), None, None]), some("'a\\\\\\n\\'\"\\x01'"));
        assert_eq!(printed(11, Arguments, 1, [none(), None, None]), some("None"));
        assert_eq!(
            printed(11, Arguments, 2, [int(2, [1, 1064, 0]), text("near ','"), None]),
            some("(1064, \"near ','\")")
        );
        let missing = || [int(2, [1 << 3, 2, 0]), text("No such file"), text("/x")];
        assert_eq!(printed(13, Os, 2, missing()), some("[Errno 2] No such file: '/x'"));
        assert_eq!(printed(13, Arguments, 2, missing()), some("(2, 'No such file')"));
        let [number, words, _] = missing();
        assert_eq!(printed(13, Os, 2, [number, words, none()]), some("[Errno 2] No such file"));
    }

    #[test]
    fn ints_of_every_layout() {
        for (minor, words, expected) in [
            (11, [0, 0, 0], Some("0")),
            (11, [u64::MAX, 7, 0], Some("-7")),
            (11, [2, 1 << 32, 0], Some("1073741824")),
            (13, [1, 0, 0], Some("0")),
            (13, [1 << 3 | 2, 7, 0], Some("-7")),
            (13, [2 << 3, 1 << 32 | 1, 0], Some("1073741825")),
            (13, [5 << 3, 1, 1], None),
        ] {
            let found = printed(minor, Printing::Arguments, 1, [int(2, words), None, None]);
            assert_eq!(found.as_deref(), expected, "3.{minor} {words:?}");
        }
        assert_eq!(
            printed(13, Printing::Key, 1, [int(3, [1 << 3, 1, 0]), None, None]).as_deref(),
            Some("True")
        );
        assert_eq!(printed(13, Printing::Key, 1, [int(5, [1 << 3, 1, 0]), None, None]), None);
    }

    #[test]
    fn what_cannot_be_known_is_not_made_up() {
        let other = || Some(Value { class: 9, content: Content::Other });
        assert_eq!(printed(11, Printing::Arguments, 1, [other(), None, None]), None);
        assert_eq!(printed(11, Printing::Arguments, 2, [text("a"), other(), None]), None);
        assert_eq!(printed(11, Printing::Arguments, 3, [text("a"), text("b"), None]), None);
        assert_eq!(printed(11, Printing::Arguments, 1, [None, None, None]), None);
    }
}
