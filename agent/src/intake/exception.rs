//! A record of an exception to an event: pure and total, like the rest of the decoding. What a message reads like
//! depends on classes, which are not known here.

use super::decode::{DecodeError, split};
use super::event::{Content, Exception, ExceptionId, Relation, Value};
use pyapm_wire::exception::{self as wire, flag, relation, value};
use pyapm_wire::scope::Scope;

pub(super) fn decode(record: &[u8]) -> Result<(Exception, Scope), DecodeError> {
    let (wire, _) = split::<wire::Exception>(record)?;
    let other = ExceptionId(wire.other);
    let flagged = |flag| wire.header.flags & flag != 0;
    let frames = wire.stack.get(..wire.frames as usize).ok_or(DecodeError::Short(record.len()))?;
    let [first, second, third] = &wire.values;
    let exception = Exception {
        id: ExceptionId(wire.id),
        relation: match wire.relation {
            relation::NONE => Relation::None,
            relation::CAUSE_OF => Relation::CauseOf(other),
            relation::CONTEXT_OF => Relation::ContextOf(other),
            relation::CONTINUES => Relation::Continues(other),
            unknown => return Err(DecodeError::Relation(unknown)),
        },
        class: wire.class,
        class_name: {
            let name = wire.class_name.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        },
        suppressed: wire.suppressed,
        place: (wire.place != 0).then_some(wire.place),
        arguments: wire.arguments,
        values: [content(first), content(second)],
        file_name: content(third),
        frames: frames.to_vec(),
        frames_cut: flagged(flag::FRAMES_CUT),
        chain_cut: flagged(flag::CHAIN_CUT),
    };
    Ok((exception, wire.scope))
}

/// `None` where there is none, or it could not be read.
fn content(wire: &wire::Value) -> Option<Value> {
    let captured = wire.bytes.get(..wire.captured as usize).unwrap_or_default();
    let content = match wire.kind {
        value::TEXT => {
            let (text, characters) = text(captured, wire.width)?;
            Content::Text { text, cut: characters < wire.length }
        }
        value::INT => {
            let word = |at: usize| {
                let bytes = captured.get(at..).and_then(|bytes| bytes.first_chunk());
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            Content::Int([word(0), word(8), word(16)])
        }
        value::OTHER => Content::Other,
        _ => return None,
    };
    Some(Value { class: wire.class, content })
}

/// Characters of so many bytes each, and how many there are. Lone surrogates, which are no text, become U+FFFD.
fn text(bytes: &[u8], width: u16) -> Option<(String, u64)> {
    let width = match width {
        1 | 2 | 4 => usize::from(width),
        _ => return None,
    };
    let mut text = String::with_capacity(bytes.len());
    let mut characters = 0;
    for unit in bytes.chunks_exact(width) {
        let code = unit.iter().rev().fold(0_u32, |code, byte| (code << 8) | u32::from(*byte));
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        characters += 1;
    }
    Some((text, characters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use pyapm_wire::event::{Header, kind};
    use pyapm_wire::python::Frame;

    fn record() -> wire::Exception {
        let mut record = wire::Exception {
            header: Header {
                kind: kind::EXCEPTION,
                flags: flag::CHAIN_CUT,
                len: 0,
                time_ns: 1,
                tgid: 2,
                tid: 3,
            },
            id: 7,
            other: 6,
            relation: relation::CAUSE_OF,
            place: 9,
            frames: 2,
            arguments: 1,
            ..wire::Exception::zeroed()
        };
        record.class_name[..5].copy_from_slice(b"a.Err");
        let value = &mut record.values[0];
        (value.kind, value.width, value.length, value.captured) = (value::TEXT, 2, 9, 4);
        value.bytes[..4].copy_from_slice(&[0xac, 0x20, 0x00, 0xdc]);
        record.stack[1] = Frame { code: 5, instruction: 4, identity: 3 };
        record
    }

    #[test]
    fn everything_that_is_there() {
        let (exception, _) = decode(bytemuck::bytes_of(&record())).unwrap();
        assert_eq!((exception.relation, exception.place), (Relation::CauseOf(ExceptionId(6)), Some(9)));
        assert_eq!((exception.class_name.as_str(), exception.frames.len()), ("a.Err", 2));
        let text = Content::Text { text: "€\u{fffd}".into(), cut: true };
        assert_eq!(exception.values, [Some(Value { class: 0, content: text }), None]);
        assert!(exception.chain_cut && !exception.frames_cut);
    }

    #[test]
    fn hostile_records() {
        let good = bytemuck::bytes_of(&record()).to_vec();
        for end in (0..good.len()).step_by(7) {
            assert_eq!(decode(&good[..end]), Err(DecodeError::Short(end)));
        }
        for index in 0..good.len() {
            for value in [0, 3, 0x7f, 0xff] {
                let mut changed = good.clone();
                changed[index] = value;
                let _no_panic = decode(&changed);
            }
        }
    }
}
