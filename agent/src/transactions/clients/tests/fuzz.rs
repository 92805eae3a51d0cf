//! Recordings with damage: any bytes, any cut, any loss. Nothing panics, nothing grows without bound, and each
//! call that ends has begun. A fixed number of seeded cases.

use super::recorded::{RECORDINGS, parser};
use super::{Exchange, feed, recording};
use crate::transactions::clients::{Call, Calls};
use crate::transactions::http::Part;
use crate::transactions::tests::Dice;
use std::collections::HashMap;

const CASES: usize = 400;

fn damaged(dice: &mut Dice, exchange: &mut Exchange) {
    for _ in 0..1 + dice.below(6) {
        let at = dice.below(exchange.len());
        let (_, bytes) = &mut exchange[at];
        if bytes.is_empty() {
            continue;
        }
        let place = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes[place] = u8::try_from(dice.below(256)).unwrap(),
            1 => bytes[place] = [0, 0xff, 0x7f, 0x80][dice.below(4)],
            2 => bytes.truncate(place),
            3 => bytes.insert(place, u8::try_from(dice.below(256)).unwrap()),
            4 => {
                let copy = exchange[at].clone();
                exchange.insert(at, copy);
            }
            _ => {
                exchange.remove(at);
                if exchange.is_empty() {
                    return;
                }
            }
        }
    }
}

#[test]
fn damaged_recordings() {
    let mut dice = Dice(0x0dd_ba11);
    for name in RECORDINGS {
        let recorded = recording(name);
        for case in 0..CASES {
            let mut exchange = recorded.clone();
            damaged(&mut dice, &mut exchange);
            let (mut protocol, mut calls) = (parser(name), Calls::new());
            for (sent, bytes) in &exchange {
                let mut rest = bytes.as_slice();
                let mut first = true;
                while !rest.is_empty() {
                    let (run, later) = rest.split_at(1 + dice.below(rest.len()));
                    let part = match dice.below(12) {
                        0 => Part::Absent(run.len() as u64),
                        1 => Part::Lost(run.len() as u64 + dice.below(3) as u64),
                        _ => Part::Bytes(run),
                    };
                    feed(&mut *protocol, *sent, part, first, &mut calls);
                    (rest, first) = (later, false);
                }
            }
            protocol.closed(&mut calls);
            balanced(&calls, &format!("{name}, case {case}"));
        }
    }
}

/// Bytes that are nothing at all.
#[test]
fn noise() {
    let mut dice = Dice(0xdead);
    for name in RECORDINGS {
        for case in 0..CASES {
            let (mut protocol, mut calls) = (parser(name), Calls::new());
            for _ in 0..dice.below(20) {
                let bytes: Vec<u8> =
                    (0..dice.below(80)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
                feed(&mut *protocol, dice.below(2) == 0, Part::Bytes(&bytes), true, &mut calls);
            }
            protocol.closed(&mut calls);
            balanced(&calls, &format!("{name}, case {case}"));
        }
    }
}

fn balanced(calls: &[Call], what: &str) {
    let mut open: HashMap<u64, i64> = HashMap::new();
    for call in calls {
        match call {
            Call::Began { tag, .. } => *open.entry(*tag).or_default() += 1,
            Call::Ended { tag, .. } => {
                let open = open.entry(*tag).or_default();
                *open -= 1;
                assert!(*open >= 0, "{what}: a call ended that had not begun");
            }
            Call::Answering { .. }
            | Call::Accepted { .. }
            | Call::Checked
            | Call::Undecoded
            | Call::Lost
            | Call::Overflow => {}
        }
    }
    assert!(open.values().all(|open| *open == 0), "{what}: a call never ended: {open:?}");
}
