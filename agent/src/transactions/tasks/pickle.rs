//! The values that a pickle is made of, as far as they are plain: texts, numbers, tuples, lists, dicts and names of
//! classes. Nothing is imported, called or built: what a class would make of its state stays its name and the state.
//! (CPython `Lib/pickletools.py`, protocols 2 to 5.)
//!
//! A pickle that is cut short gives what its bytes say so far.

use std::collections::HashMap;

/// Steps of one pickle that are followed.
const MOST_STEPS: usize = 16_384;
/// Values that may be there at once.
const MOST_VALUES: usize = 8_192;
/// How deep values may lie in each other.
const DEEPEST: u32 = 32;

#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a [u8]),
    /// A class or a function, by module and name.
    Global(&'a [u8], &'a [u8]),
    /// Also what an object is made of: its class, then its arguments and its state.
    Tuple(Vec<Self>, u32),
    List,
    /// Keys and values in turn.
    Dict(Vec<Self>, u32),
    /// Anything else.
    Opaque,
}

impl<'a> Value<'a> {
    fn depth(&self) -> u32 {
        match self {
            Self::Tuple(_, depth) | Self::Dict(_, depth) => *depth,
            _ => 0,
        }
    }

    /// The value of a key, in a dict.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(items, _) = self else { return None };
        let mut pairs = items.chunks_exact(2);
        pairs.find(|pair| pair[0].text() == Some(key.as_bytes())).map(|pair| &pair[1])
    }

    #[must_use]
    pub fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }
}

/// The outermost value without its tuples: what they hold, one after the other. Empty for what is no pickle.
#[must_use]
pub fn outline(bytes: &[u8]) -> Vec<Value<'_>> {
    let mut machine = Machine { bytes, ..Machine::default() };
    machine.run();
    let mut flat = Vec::new();
    for value in machine.closed() {
        flatten(value, &mut flat);
    }
    flat
}

fn flatten<'a>(value: Value<'a>, flat: &mut Vec<Value<'a>>) {
    match value {
        // No deeper than `DEEPEST`.
        Value::Tuple(values, _) => values.into_iter().for_each(|value| flatten(value, flat)),
        value => flat.push(value),
    }
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    stack: Vec<Value<'a>>,
    /// Where in the stack what comes next is gathered from.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) {
        for _ in 0..MOST_STEPS {
            if self.step().is_none() || self.stack.len() > MOST_VALUES || self.memo.len() > MOST_VALUES {
                return;
            }
        }
    }

    /// What is there once everything that is open is closed where it stands.
    fn closed(mut self) -> Vec<Value<'a>> {
        while let Some(at) = self.marks.pop() {
            let items = self.stack.split_off(at.min(self.stack.len()));
            match self.stack.last_mut() {
                Some(Value::Dict(..)) => self.extend_dict(items),
                Some(Value::List) => {}
                _ => self.push_tuple(items),
            }
        }
        self.stack
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// Little endian, up to 8 bytes.
    fn number(&mut self, size: usize) -> Option<u64> {
        let bytes = self.take(size)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Bytes behind their length, which takes so many bytes itself.
    fn sized(&mut self, size: usize) -> Option<&'a [u8]> {
        let length = self.number(size)?;
        self.take(usize::try_from(length).ok()?)
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end)?;
        self.take(1)?;
        Some(line)
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    fn push_tuple(&mut self, values: Vec<Value<'a>>) {
        let depth = 1 + values.iter().map(Value::depth).max().unwrap_or(0);
        self.push(if depth > DEEPEST { Value::Opaque } else { Value::Tuple(values, depth) });
    }

    /// The latest so many values as one.
    fn tuple_of(&mut self, count: usize) -> Option<()> {
        let at = self.stack.len().checked_sub(count)?;
        let values = self.stack.split_off(at);
        self.push_tuple(values);
        Some(())
    }

    /// What has been gathered since the latest mark.
    fn gathered(&mut self) -> Option<Vec<Value<'a>>> {
        let at = self.marks.pop()?;
        (at <= self.stack.len()).then(|| self.stack.split_off(at))
    }

    fn extend_dict(&mut self, items: Vec<Value<'a>>) {
        let deepest = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        if let Some(Value::Dict(known, depth)) = self.stack.last_mut()
            && deepest <= DEEPEST
            && known.len() + items.len() <= MOST_VALUES
        {
            known.extend(items);
            *depth = deepest.max(*depth);
        }
    }

    fn keep(&mut self, index: u32) -> Option<()> {
        // Others may still change, or are of no use twice.
        let value = match self.stack.last()? {
            value @ (Value::Text(_) | Value::Global(..)) => value.clone(),
            _ => Value::Opaque,
        };
        self.memo.insert(index, value);
        Some(())
    }

    fn recall(&mut self, index: u32) -> Option<()> {
        let value = self.memo.get(&index)?.clone();
        self.push(value);
        Some(())
    }

    /// One operation; `None` at the end, or where the pickle makes no sense.
    fn step(&mut self) -> Option<()> {
        let operation = self.byte()?;
        match operation {
            0x80 => drop(self.byte()?),    // PROTO
            0x95 => drop(self.number(8)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' | b'M' => {
                let number = self.number(if operation == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(i64::try_from(number).ok()?));
            }
            b'J' => {
                let number = self.number(4)?;
                self.push(Value::Int(i64::from(u32::try_from(number).ok()?.cast_signed())));
            }
            0x8a | 0x8b => {
                let digits = self.sized(if operation == 0x8a { 1 } else { 4 })?;
                self.push(long(digits));
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Opaque);
            }
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' | b'U' => self.opaque_sized(1)?,
            b'B' | b'T' => self.opaque_sized(4)?,
            0x8e | 0x96 => self.opaque_sized(8)?,
            b')' => self.push(Value::Tuple(Vec::new(), 1)),
            0x85..=0x87 => self.tuple_of(usize::from(operation - 0x84))?,
            b't' => {
                let values = self.gathered()?;
                self.push_tuple(values);
            }
            b']' | 0x8f => self.push(Value::List),
            b'a' => drop(self.stack.pop()?),
            b'e' | 0x90 => drop(self.gathered()?),
            b'l' | 0x91 => {
                self.gathered()?;
                self.push(Value::List);
            }
            b'}' => self.push(Value::Dict(Vec::new(), 1)),
            b'd' => {
                let items = self.gathered()?;
                self.push(Value::Dict(Vec::new(), 1));
                self.extend_dict(items);
            }
            b's' => {
                let at = self.stack.len().checked_sub(2)?;
                let items = self.stack.split_off(at);
                self.extend_dict(items);
            }
            b'u' => {
                let items = self.gathered()?;
                self.extend_dict(items);
            }
            0x94 => self.keep(u32::try_from(self.memo.len()).ok()?)?,
            b'q' | b'r' => {
                let index = self.number(if operation == b'q' { 1 } else { 4 })?;
                self.keep(u32::try_from(index).ok()?)?;
            }
            b'h' | b'j' => {
                let index = self.number(if operation == b'h' { 1 } else { 4 })?;
                self.recall(u32::try_from(index).ok()?)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.stack.pop()?.text(), self.stack.pop()?.text());
                self.push(
                    module.zip(name).map_or(Value::Opaque, |(module, name)| Value::Global(module, name)),
                );
            }
            // A callable or class with its arguments, an object with its state: neither is made.
            b'R' | 0x81 | b'b' => self.tuple_of(2)?,
            0x92 => self.tuple_of(3)?,
            b'0' => drop(self.stack.pop()?),
            b'1' => drop(self.gathered()?),
            0x97 => self.push(Value::Opaque),
            0x98 => {}
            // STOP, persistent ids, extensions, and text of protocol 0.
            _ => return None,
        }
        Some(())
    }

    fn text(&mut self, size: usize) -> Option<()> {
        let text = self.sized(size)?;
        self.push(Value::Text(text));
        Some(())
    }

    fn opaque_sized(&mut self, size: usize) -> Option<()> {
        self.sized(size)?;
        self.push(Value::Opaque);
        Some(())
    }
}

/// Two's complement, little endian, of any length.
fn long<'a>(digits: &[u8]) -> Value<'a> {
    let Some(last) = digits.last() else { return Value::Int(0) };
    if digits.len() > 8 {
        return Value::Opaque;
    }
    let mut bytes = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    bytes[..digits.len()].copy_from_slice(digits);
    Value::Int(i64::from_le_bytes(bytes))
}
