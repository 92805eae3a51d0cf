//! Each format on one small recording, read back by other means than it was written with.

use super::messages;
use super::{About, Format, Look, Recording, write};
use crate::profile::{Limits, Mode, Profile, State, Thread, Weight};
use crate::targets::{Reason, Wait};
use prost::Message as _;
use pyapm_model::line::Frame;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;

const PERIOD_NS: u64 = 10_000_000;

fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: file.into(), line: Some(line) }
}

/// Two threads of one process, and one of another.
fn profile() -> Profile {
    let mut profile = Profile::new(Limits::default());
    let thread = |pid: u32, tid: u32, name: Option<&str>| Thread {
        pid,
        tid,
        process: format!("python shop.py {pid}").into(),
        name: name.map(Into::into),
    };
    let main = profile.thread(thread(10, 10, None));
    let worker = profile.thread(thread(10, 11, Some("worker; 1")));
    let child = profile.thread(thread(20, 20, None));
    let module = frame("<module>", "/srv/shop/shop.py", 30);
    let price = frame("Shop.price", "/srv/shop/catalogue/work.py", 7);
    let later = frame("Shop.price", "/srv/shop/catalogue/work.py", 9);
    let query = frame("Query.run", "/v/lib/python3.11/site-packages/db/query.py", 5);
    let mark = Frame { function: "[interpreter]".into(), file: "".into(), line: None };
    let priced = profile.stack([&module, &price]);
    let priced_later = profile.stack([&module, &later]);
    let queried = profile.stack([&module, &price, &query]);
    let nothing = profile.stack([&mark]);
    let samples = |count: u64| Weight { samples: count, nanoseconds: count * PERIOD_NS };
    profile.add(main, State::Cpu, priced, samples(3));
    profile.add(main, State::Cpu, queried, samples(2));
    profile.add(main, State::Cpu, priced_later, samples(1));
    profile.add(worker, State::Cpu, priced, samples(4));
    profile.add(child, State::Cpu, nothing, samples(1));
    profile
}

fn about(mode: Mode) -> About {
    About {
        title: "python shop.py: CPU time".to_owned(),
        mode,
        rate_hz: 100,
        started_ns: 1_700_000_000_000_000_000,
        duration_ns: 2_000_000_000,
    }
}

fn written(format: Format, look: Look, baseline: Option<&[u8]>) -> Vec<u8> {
    of(&profile(), &about(Mode::Cpu), format, look, baseline)
}

fn of(profile: &Profile, about: &About, format: Format, look: Look, baseline: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    write(format, &Recording { profile, about, look }, baseline, &mut out).unwrap();
    out
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn folded() {
    assert_eq!(
        text(written(Format::Folded, Look::default(), None)),
        "<module> (shop/shop.py:30);Shop.price (catalogue/work.py:7) 7\n\
         <module> (shop/shop.py:30);Shop.price (catalogue/work.py:7);Query.run (db/query.py:5) 2\n\
         <module> (shop/shop.py:30);Shop.price (catalogue/work.py:9) 1\n\
         [interpreter] 1\n"
    );
}

#[test]
fn folded_by_thread_and_function() {
    let look = Look { threads: true, function: true, full_paths: true };
    assert_eq!(
        text(written(Format::Folded, look, None)),
        "process 10 (python shop.py 10);thread 10;<module> (/srv/shop/shop.py);\
         Shop.price (/srv/shop/catalogue/work.py) 4\n\
         process 10 (python shop.py 10);thread 10;<module> (/srv/shop/shop.py);\
         Shop.price (/srv/shop/catalogue/work.py);Query.run (/v/lib/python3.11/site-packages/db/query.py) 2\n\
         process 10 (python shop.py 10);thread 11 (worker: 1);<module> (/srv/shop/shop.py);\
         Shop.price (/srv/shop/catalogue/work.py) 4\n\
         process 20 (python shop.py 20);thread 20;[interpreter] 1\n"
    );
}

/// Where samples are of different lengths, the number is their time, and what was waited for is the innermost frame.
#[test]
fn folded_waits() {
    let mut profile = Profile::new(Limits::default());
    let thread = profile.thread(Thread { pid: 1, tid: 1, process: "app".into(), name: None });
    let stack = profile.stack([&frame("get", "app.py", 3)]);
    for (state, nanoseconds) in [
        (State::Cpu, 10_000_400),
        (State::OffCpu(Wait { reason: Reason::Lock, call: Some("futex") }), 1_500),
        (State::OffCpu(Wait { reason: Reason::Socket, call: Some("recvfrom") }), 7_000),
        (State::OffCpu(Wait::RUNNABLE), 3_000),
        (State::WaitingForGil, 2_000),
        (State::OffCpu(Wait { reason: Reason::Sleep, call: Some("clock_nanosleep") }), 10),
    ] {
        profile.add(thread, state, stack, Weight { samples: 1, nanoseconds });
    }
    assert_eq!(
        text(of(&profile, &about(Mode::Wall), Format::Folded, Look::default(), None)),
        "get (app.py:3) 10000\n\
         get (app.py:3);[waits for a CPU] 3\n\
         get (app.py:3);[waits for a lock] 2\n\
         get (app.py:3);[waits for a socket: recvfrom] 7\n\
         get (app.py:3);[waits for the GIL] 2\n"
    );
}

#[test]
fn flamegraph_has_title_search_and_every_frame() {
    let svg = text(written(Format::Flamegraph, Look::default(), None));
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    for part in [
        "python shop.py: CPU time",
        "11 samples, 0.11 s of CPU time, 100 Hz over 2.0 s",
        "id=\"search\"",
        "Shop.price (catalogue/work.py:7) (9 samples",
        "Query.run (db/query.py:5) (2 samples",
    ] {
        assert!(svg.contains(part), "no `{part}` in {svg}");
    }
    // The application's own code and a package's have colours of their own.
    let color = |name: &str| {
        let at = svg.find(&format!("<title>{name}")).unwrap();
        svg[at..].split("fill=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    assert_ne!(color("Shop.price"), color("Query.run"));
}

#[test]
fn flamegraph_against_a_baseline() {
    let baseline = b"<module> (shop/shop.py:30);Shop.price (catalogue/work.py:7) 2\n[interpreter] 9\n";
    let svg = text(written(Format::Flamegraph, Look::default(), Some(baseline)));
    assert!(svg.contains("against an earlier recording"));
    // It had 2 of 11 and has 9 of 11 now, 7 of them its own.
    assert!(svg.contains("Shop.price (catalogue/work.py:7) (9 samples, 81.82%; +45.45%)"), "{svg}");
    assert!(svg.contains("[interpreter] (1 samples, 9.09%; -72.73%)"), "{svg}");
}

#[test]
fn flamegraph_of_nothing() {
    let empty = Profile::new(Limits::default());
    let svg = text(of(&empty, &about(Mode::Cpu), Format::Flamegraph, Look::default(), None));
    assert!(svg.contains("no samples"));
}

/// What <https://www.speedscope.app/file-format-schema.json> requires of a file with sampled profiles.
fn assert_speedscope(file: &Value) {
    assert_eq!(file["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames = file["shared"]["frames"].as_array().unwrap();
    for frame in frames {
        assert!(frame["name"].is_string());
        assert!(frame.get("file").is_none_or(Value::is_string));
        assert!(frame.get("line").is_none_or(Value::is_u64));
        assert!(frame.get("col").is_none_or(Value::is_u64));
    }
    let profiles = file["profiles"].as_array().unwrap();
    for profile in profiles {
        assert_eq!(profile["type"], "sampled");
        assert!(profile["name"].is_string());
        let units = ["none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"];
        assert!(units.contains(&profile["unit"].as_str().unwrap()));
        let (start, end) = (profile["startValue"].as_u64().unwrap(), profile["endValue"].as_u64().unwrap());
        let samples = profile["samples"].as_array().unwrap();
        let weights = profile["weights"].as_array().unwrap();
        assert_eq!(samples.len(), weights.len());
        assert_eq!(weights.iter().map(|weight| weight.as_u64().unwrap()).sum::<u64>(), end - start);
        for index in samples.iter().flat_map(|sample| sample.as_array().unwrap()) {
            assert!((index.as_u64().unwrap() as usize) < frames.len());
        }
    }
    if let Some(active) = file.get("activeProfileIndex") {
        assert!((active.as_u64().unwrap() as usize) < profiles.len());
    }
    assert!(file["name"].is_string() && file["exporter"].is_string());
}

#[test]
fn speedscope() {
    for look in [Look::default(), Look { function: true, ..Look::default() }] {
        let file: Value = serde_json::from_slice(&written(Format::Speedscope, look, None)).unwrap();
        assert_speedscope(&file);
    }
    let file: Value = serde_json::from_slice(&written(Format::Speedscope, Look::default(), None)).unwrap();
    let names: Vec<&str> =
        file["profiles"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "all 3 threads",
            "process 10 (python shop.py 10), thread 10",
            "process 10 (python shop.py 10), thread 11 (worker: 1)",
            "process 20 (python shop.py 20), thread 20",
        ]
    );
    assert_eq!(file["profiles"][0]["endValue"], 11 * PERIOD_NS);
    let empty = Profile::new(Limits::default());
    let file = of(&empty, &about(Mode::Cpu), Format::Speedscope, Look::default(), None);
    assert_speedscope(&serde_json::from_slice(&file).unwrap());
}

#[test]
fn speedscope_as_written() {
    let file: Value = serde_json::from_slice(&written(Format::Speedscope, Look::default(), None)).unwrap();
    insta::assert_snapshot!("speedscope", serde_json::to_string_pretty(&file["shared"]).unwrap());
}

#[test]
fn json_as_written() {
    let file: Value = serde_json::from_slice(&written(Format::Json, Look::default(), None)).unwrap();
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&file).unwrap());
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn pprof_read_by_its_own_messages() {
    let plain = inflated(&written(Format::Pprof, Look::default(), None));
    let file = messages::Profile::decode(plain.as_slice()).unwrap();
    let text = |number: i64| file.string_table[usize::try_from(number).unwrap()].as_str();
    assert_eq!(file.string_table[0], "");
    let types: Vec<_> = file.sample_type.iter().map(|t| (text(t.r#type), text(t.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!((text(file.default_sample_type), file.period), ("cpu", 10_000_000));
    assert_eq!((file.time_nanos, file.duration_nanos), (1_700_000_000_000_000_000, 2_000_000_000));

    let functions: BTreeMap<u64, _> = file.function.iter().map(|function| (function.id, function)).collect();
    let locations: BTreeMap<u64, _> = file.location.iter().map(|location| (location.id, location)).collect();
    assert_eq!((functions.len(), locations.len()), (4, 5));
    assert!(locations.values().all(|location| location.mapping_id == file.mapping[0].id));
    let stacks: Vec<(Vec<String>, Vec<i64>)> = file
        .sample
        .iter()
        .map(|sample| {
            let frames = sample.location_id.iter().map(|id| {
                let line = locations[id].line[0];
                let function = functions[&line.function_id];
                format!("{} {}:{}", text(function.name), text(function.filename), line.line)
            });
            (frames.collect(), sample.value.clone())
        })
        .collect();
    let price = "Shop.price /srv/shop/catalogue/work.py:7".to_owned();
    let module = "<module> /srv/shop/shop.py:30".to_owned();
    assert_eq!(stacks[0], (vec![price, module], vec![3, 30_000_000]));
    assert_eq!(stacks.iter().map(|(_, value)| value[0]).sum::<i64>(), 11);
    let labels: Vec<(&str, &str, i64)> =
        file.sample[3].label.iter().map(|label| (text(label.key), text(label.str), label.num)).collect();
    assert_eq!(
        labels,
        [
            ("process", "python shop.py 10", 0),
            ("thread", "worker; 1", 0),
            ("pid", "", 10),
            ("thread id", "", 11)
        ]
    );
}

/// One field of a protobuf message.
#[derive(Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// A reader of the wire format that shares nothing with the writer (protobuf.dev, "Encoding").
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (own, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(own)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

#[test]
fn pprof_read_by_an_independent_reader() {
    let plain = inflated(&written(Format::Pprof, Look::default(), None));
    let all = fields(&plain);
    let messages = |number: u64| {
        all.iter()
            .filter(move |(own, _)| *own == number)
            .map(|(_, field)| match field {
                Field::Bytes(bytes) => *bytes,
                Field::Varint(_) => panic!("field {number} is a number"),
            })
            .collect::<Vec<_>>()
    };
    let strings: Vec<&str> =
        messages(6).into_iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
    assert_eq!(strings[0], "");
    let number = |message: &[u8], wanted: u64| {
        fields(message).into_iter().find_map(|(number, field)| match field {
            Field::Varint(value) if number == wanted => Some(value),
            _ => None,
        })
    };
    // Functions: 1 id, 2 name, 4 file. Locations: 1 id, 4 lines of 1 function, 2 line.
    let functions: BTreeMap<u64, &str> = messages(5)
        .into_iter()
        .map(|f| (number(f, 1).unwrap(), strings[usize::try_from(number(f, 2).unwrap()).unwrap()]))
        .collect();
    let locations: BTreeMap<u64, (&str, u64)> = messages(4)
        .into_iter()
        .map(|location| {
            let lines = fields(location);
            let Some((_, Field::Bytes(line))) = lines.iter().find(|(number, _)| *number == 4) else {
                panic!()
            };
            let function = functions[&number(line, 1).unwrap()];
            (number(location, 1).unwrap(), (function, number(line, 2).unwrap_or(0)))
        })
        .collect();
    // Samples: 1 locations, 2 values, both packed.
    let mut sums: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for sample in messages(2) {
        let mut packed = BTreeMap::new();
        for (number, field) in fields(sample) {
            if let (1 | 2, Field::Bytes(mut bytes)) = (number, field) {
                let values: &mut Vec<u64> = packed.entry(number).or_default();
                while !bytes.is_empty() {
                    values.push(varint(&mut bytes));
                }
            }
        }
        *sums.entry(locations[&packed[&1][0]]).or_default() += packed[&2][1];
    }
    let expected = [
        (("Query.run", 5), 2 * PERIOD_NS),
        (("Shop.price", 7), 7 * PERIOD_NS),
        (("Shop.price", 9), PERIOD_NS),
        (("[interpreter]", 0), PERIOD_NS),
    ];
    assert_eq!(sums.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn formats_by_ending() {
    for (name, format) in [
        ("a.svg", Some(Format::Flamegraph)),
        ("a.speedscope.json", Some(Format::Speedscope)),
        ("/b/A.PB.GZ", Some(Format::Pprof)),
        ("a.pprof", Some(Format::Pprof)),
        ("a.folded", Some(Format::Folded)),
        ("a.txt", Some(Format::Folded)),
        ("a.json", Some(Format::Json)),
        ("a.gz", None),
        ("svg", None),
        ("-", None),
        ("/", None),
    ] {
        assert_eq!(Format::of(std::path::Path::new(name)), format, "{name}");
    }
}
