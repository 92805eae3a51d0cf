//! A fixed number of damaged inputs for each target, the same ones each time. `PYAPM_FUZZ_CASES` makes them more, and
//! `PYAPM_FUZZ_SEEDS` writes what they are made from into a folder for each target, for `cargo fuzz`.

use super::{Broken, TARGETS, run};
use crate::transactions::clients::tests::recorded::RECORDINGS;
use crate::transactions::clients::tests::recording;
use crate::transactions::tests::Dice;

/// Damaged inputs made from each seed.
const CASES: usize = 60;

const REQUESTS: [&[u8]; 6] = [
    b"GET /users/7?a=b HTTP/1.1\r\nHost: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
    b"POST /x HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"HEAD * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"\0\x2c\0\0\x0e\0REQUEST_METHOD\x03\0GET\x0b\0REQUEST_URI\x04\0/a?b",
];
const ANSWERS: [&[u8]; 6] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\nanything",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
];
const STATEMENTS: [&[u8]; 8] = [
    b"SELECT a, \"b\" FROM `t` WHERE c IN (1, 2.5e3, -3) AND d LIKE 'it''s \\' %' -- x\n LIMIT 5",
    b"INSERT INTO t (a, b) VALUES ('x', X'00ff'), (E'\\n', $tag$ it's $tag$), (?, $1) ON CONFLICT DO NOTHING",
    b"/*! SET @a := 0x1f */; UPDATE t SET a = a + 1 WHERE b = :name AND c = @p1 AND d IS NULL;",
    b"WITH x AS (SELECT 1) SELECT /* c1 /* c2 */ */ * FROM x JOIN y USING (z) WHERE a::int[] = ARRAY[1,2]",
    b"CALL p(1, 'a', N'b', _utf8mb4'c'); COMMIT",
    "SELECT 'é' AS \"ü\", U&'\\0041' FROM \"schema\".\"tábla\"".as_bytes(),
    b"PRAGMA table_info('t'); EXPLAIN ANALYZE DELETE FROM t WHERE rowid BETWEEN 1 AND 2 RETURNING *",
    b"COPY t FROM STDIN; FETCH FORWARD 100 FROM c; LISTEN \"x\"",
];

/// One run in the form that [`super::Runs`] reads.
fn write(input: &mut Vec<u8>, sent: bool, bytes: &[u8]) {
    for piece in bytes.chunks(usize::from(u16::MAX)) {
        input.push(u8::from(sent));
        input.extend(u16::try_from(piece.len()).unwrap().to_le_bytes());
        input.extend(piece);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let http = |ours: bool| -> Vec<Vec<u8>> {
        let one = |(index, request): (usize, &&[u8])| {
            // What the server target gets begins with the protocol.
            let mut input = if ours { vec![u8::from(index == 5)] } else { Vec::new() };
            write(&mut input, true, request);
            write(&mut input, false, ANSWERS[index]);
            write(&mut input, true, REQUESTS[0]);
            write(&mut input, false, ANSWERS[0]);
            input
        };
        REQUESTS.iter().enumerate().map(one).collect()
    };
    match target {
        "http-server" => http(true),
        "http-client" => http(false),
        "http2-client" | "http2-client-middle" => recorded(|recording| recording.starts_with("http2/")),
        "celery" => vec![pool()],
        "sql" => {
            let each = |choice: u8| STATEMENTS.map(|text| [&[choice], text].concat());
            (0..4).flat_map(each).collect()
        }
        // Any record will do: the kind is in the first two bytes.
        "records" => {
            (0..48_u8).map(|kind| [&[kind, 0, 0, 0, 200, 0, 0, 0][..], &[1; 192]].concat()).collect()
        }
        "detect" => recorded(|_| true),
        name => recorded(|recording| recording.starts_with(name.trim_end_matches("-middle"))),
    }
}

/// What a process of Celery's pool read and wrote.
fn pool() -> Vec<u8> {
    let mut input = Vec::new();
    for (sent, bytes, more) in crate::transactions::tasks::tests::recording() {
        write(&mut input, sent, &bytes);
        if more > 0 {
            // It moved, was not captured, and is not at the start of the call.
            input.push(u8::from(sent) | (2 << 1) | 8);
            input.extend(u16::try_from(more).unwrap_or(u16::MAX).to_le_bytes());
        }
    }
    input
}

/// Recordings of real drivers and servers, by name.
fn recorded(wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let recordings = RECORDINGS.iter().filter(|name| wanted(name));
    recordings
        .map(|name| {
            let mut input = Vec::new();
            for (sent, bytes) in recording(name) {
                write(&mut input, sent, &bytes);
            }
            input
        })
        .collect()
}

const TELLING: [u8; 12] = [0, 1, 2, 3, 7, 0x7f, 0x80, 0xfe, 0xff, b'\r', b'\n', b'\''];

/// What a fuzzer without a guide does.
fn damage(dice: &mut Dice, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=dice.below(8) {
        if input.is_empty() {
            return;
        }
        let at = dice.below(input.len());
        let until = at + dice.below((input.len() - at).min(64) + 1);
        match dice.below(9) {
            0 => input[at] = u8::try_from(dice.below(256)).unwrap(),
            1 => input[at] = TELLING[dice.below(TELLING.len())],
            2 => input[at] ^= 1 << dice.below(8),
            3 => input.insert(at, TELLING[dice.below(TELLING.len())]),
            4 => drop(input.drain(at..until)),
            5 => {
                let again = input[at..until].to_vec();
                input.splice(at..at, again);
            }
            6 => input.truncate(at),
            7 => input[at..until].fill(0xff),
            _ => {
                let from = dice.below(other.len().max(1)).min(other.len());
                let to = (from + dice.below(256)).min(other.len());
                input.splice(at..until, other[from..to].iter().copied());
            }
        }
    }
}

#[test]
fn damaged_inputs() {
    let cases = std::env::var("PYAPM_FUZZ_CASES").ok().map_or(CASES, |cases| cases.parse().unwrap());
    for (number, target) in TARGETS.iter().enumerate() {
        let mut dice = Dice(0x0f02_2bad + number as u64);
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target}");
        for seed in &seeds {
            assert_eq!(run(target, seed), Ok(()), "{target}");
            for case in 0..cases {
                let mut input = seed.clone();
                let other = &seeds[dice.below(seeds.len())];
                damage(&mut dice, &mut input, other);
                let ran = std::panic::catch_unwind(|| run(target, &input));
                assert!(
                    matches!(ran, Ok(Ok(()))),
                    "{target}, case {case}: {ran:?}\n{}",
                    input.escape_ascii()
                );
            }
        }
    }
}

#[test]
fn seeds_for_cargo_fuzz() {
    let folder = std::env::var_os("PYAPM_FUZZ_SEEDS").map(std::path::PathBuf::from);
    for target in TARGETS {
        for (number, seed) in seeds(target).iter().enumerate() {
            // Those for a fuzzer are exactly those that run here.
            assert!(!seed.is_empty(), "{target}");
            if let Some(folder) = &folder {
                std::fs::create_dir_all(folder.join(target)).unwrap();
                std::fs::write(folder.join(target).join(format!("seed-{number}")), seed).unwrap();
            }
        }
    }
}

/// Whatever is read on the wire has a target.
#[test]
fn every_protocol_that_was_recorded_has_a_target() {
    for recording in RECORDINGS {
        let protocol = recording.split('/').next().unwrap();
        let target = if protocol == "http2" { "http2-client" } else { protocol };
        assert!(TARGETS.contains(&target), "{recording}");
    }
}

#[test]
fn what_is_no_target() {
    assert_eq!(run("nothing", b""), Err(Broken::Target("nothing".to_owned())));
}

#[test]
fn any_prefix_of_anything() {
    for target in TARGETS {
        let seed = &seeds(target)[0];
        for end in 0..seed.len().min(600) {
            assert_eq!(run(target, &seed[..end]), Ok(()), "{target} {end}");
        }
    }
}
