//! An object in a few characters, in the manner of `repr`: values of the simple types, sizes of containers,
//! and the class of everything else. No code of the target runs for it.

use super::kind::Kind;
use super::layout::Objects;
use super::number::Int;
use crate::python::strings::ObjectError;
use std::fmt::Write as _;

/// Most characters of a string's text.
const MAX_TEXT: usize = 80;

impl Objects<'_> {
    /// # Errors
    /// When the object cannot be read.
    pub fn repr(&self, address: u64) -> Result<String, ObjectError> {
        let class = self.type_of(address)?;
        let sized = |length: u64| format!("<{} of {length}>", class.name);
        Ok(match class.kind() {
            Kind::None => "None".to_owned(),
            Kind::Bool => {
                let text = if self.int(address)? == Int::Small(0) { "False" } else { "True" };
                text.to_owned()
            }
            Kind::Int if class.name == "int" => match self.int(address)? {
                Int::Small(value) => value.to_string(),
                Int::Large { bits } => format!("<int of up to {bits} bits>"),
            },
            Kind::Float => float(self.float(address)?),
            Kind::Str if class.name == "str" => quoted(&self.string(address, MAX_TEXT)?),
            Kind::Bytes | Kind::List | Kind::Tuple => sized(self.length(address)?),
            Kind::Dict => sized(self.dict_length(address)?),
            Kind::Set => sized(self.set_length(address)?),
            Kind::Int | Kind::Str | Kind::Type | Kind::Cell | Kind::Other => {
                format!("<{} object at {address:#x}>", class.name)
            }
        })
    }
}

/// As Python writes it: the shortest digits that give the same value, and always a sign that it is no int.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        // Python has a sign and two digits in every exponent.
        return match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let (sign, digits) = match exponent.strip_prefix('-') {
                    Some(digits) => ('-', digits),
                    None => ('+', exponent),
                };
                format!("{mantissa}e{sign}{digits:0>2}")
            }
            None => text,
        };
    }
    format!("{value:?}")
}

/// In quotes, with everything that does not print escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for character in text.chars() {
        match character {
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let code = u32::from(c);
                let _infallible = write!(out, "\\x{code:02x}");
            }
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (2.5, "2.5"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (1e300, "1e+300"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(quoted("a'b\n\u{1b}[2J\\ä"), "'a\\'b\\n\\x1b[2J\\\\ä'");
    }
}
