//! Frames of both directions, and the calls that they come to.

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST /a/7?q=1` to `shop:8443`, all names in the static table and nothing added.
const ASK: &[u8] = b"\x83\x04\x08/a/7?q=1\x01\x09shop:8443";
const OK: &[u8] = b"\x88";
const NOT_FOUND: &[u8] = b"\x8d";

fn operation() -> Operation {
    Operation::Http {
        method: Some("POST".into()),
        path: Some("/a/7".to_owned()),
        host: Some("shop".to_owned()),
        position: None,
    }
}

fn began(tag: u64) -> Call {
    Call::Began { tag, operation: operation() }
}

fn ended(tag: u64, result: CallResult) -> Call {
    Call::Ended { tag, result }
}

fn whole(status: u16, sent: u64, received: u64) -> CallResult {
    CallResult { request_bytes: Some(sent), response_bytes: Some(received), ..result_of(Some(status)) }
}

fn unseen(status: Option<u16>) -> CallResult {
    CallResult { unseen: true, ..result_of(status) }
}

fn play(http: &mut Http2, sent: bool, bytes: &[u8]) -> Calls {
    let mut calls = Calls::new();
    if sent {
        http.sent(Part::Bytes(bytes), true, &mut calls);
    } else {
        http.received(Part::Bytes(bytes), true, &mut calls);
    }
    calls.retain(|call| !matches!(call, Call::Answering { .. } | Call::Accepted { .. }));
    calls
}

const END: u8 = flag::END_HEADERS | flag::END_STREAM;

fn opened() -> Http2 {
    let mut http = Http2::opening();
    let opening = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[0; 6])].concat();
    assert_eq!(play(&mut http, true, &opening), []);
    http
}

#[test]
fn streams_are_answered_in_any_order() {
    let mut http = opened();
    let asks = [
        frame(kind::HEADERS, flag::END_HEADERS, 1, ASK),
        frame(kind::DATA, flag::END_STREAM, 1, b"hello"),
        frame(kind::HEADERS, END, 3, ASK),
    ]
    .concat();
    assert_eq!(play(&mut http, true, &asks), [began(1), began(3)]);
    let answers = [
        frame(kind::HEADERS, flag::END_HEADERS, 3, OK),
        frame(kind::HEADERS, flag::END_HEADERS, 1, NOT_FOUND),
        frame(kind::DATA, 0, 3, b"abc"),
        frame(kind::DATA, flag::END_STREAM | flag::PADDED, 1, b"\x02abcd\0\0"),
        frame(kind::DATA, flag::END_STREAM, 3, b"def"),
    ]
    .concat();
    let expected = [ended(1, whole(404, 5, 4)), ended(3, whole(200, 0, 6))];
    assert_eq!(play(&mut http, false, &answers), expected);
}

#[test]
fn a_status_is_known_before_the_answer_ends() {
    let mut http = opened();
    play(&mut http, true, &frame(kind::HEADERS, END, 1, ASK));
    let mut calls = Calls::new();
    // 103, then 200.
    let answers = [
        frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x08\x03103"),
        frame(kind::HEADERS, flag::END_HEADERS, 1, OK),
    ];
    for answer in &answers {
        http.received(Part::Bytes(answer), true, &mut calls);
    }
    let result = unseen(Some(200));
    let answering = Call::Answering { tag: 1 };
    assert_eq!(calls, [answering.clone(), answering, Call::Accepted { tag: 1, result: result.clone() }]);
    calls.clear();
    http.closed(&mut calls);
    assert_eq!(calls, [ended(1, result)]);
}

#[test]
fn a_block_in_several_frames() {
    let mut http = opened();
    let (start, rest) = ASK.split_at(5);
    let asks = [
        frame(kind::HEADERS, flag::END_STREAM, 1, start),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, rest),
    ]
    .concat();
    assert_eq!(play(&mut http, true, &asks), [began(1)]);
}

#[test]
fn streams_that_are_reset_or_refused() {
    let mut http = opened();
    for id in [1, 3, 5] {
        play(&mut http, true, &frame(kind::HEADERS, END, id, ASK));
    }
    let error = |error: &str| CallResult {
        error: Some(error.to_owned()),
        unanswered: true,
        request_bytes: Some(0),
        response_bytes: Some(0),
        ..CallResult::default()
    };
    assert_eq!(
        play(&mut http, false, &frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 7])),
        [ended(3, error("REFUSED_STREAM"))]
    );
    assert_eq!(
        play(&mut http, false, &frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])),
        [ended(5, error("GOAWAY"))]
    );
    assert_eq!(
        play(&mut http, true, &frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        [ended(1, error("CANCEL"))]
    );
}

#[test]
fn a_connection_that_is_older() {
    let mut http = Http2::in_the_middle();
    // `:method: GET`, and what is known by an entry that was never seen.
    let ask = frame(kind::HEADERS, END, 7, b"\x82\xbe");
    let unknown = Operation::Http { method: Some("GET".into()), path: None, host: None, position: None };
    let expected = [Call::Undecoded, Call::Began { tag: 7, operation: unknown }];
    assert_eq!(play(&mut http, true, &ask), expected);
    // Trailers of a request that was begun before.
    assert_eq!(play(&mut http, true, &frame(kind::HEADERS, END, 5, b"\x82\xbe")), []);
    assert_eq!(play(&mut http, true, &frame(kind::HEADERS, END, 9, b"\x0f\x0d\x013")), []);
    // The status is an entry, too; how it went is not known, that it has ended is.
    let result = CallResult { request_bytes: Some(0), response_bytes: Some(0), ..unseen(None) };
    assert_eq!(
        play(&mut http, false, &frame(kind::HEADERS, END, 7, b"\xbe")),
        [Call::Undecoded, ended(7, result)]
    );
}

#[test]
fn the_place_is_found_again_at_the_start_of_a_call() {
    let mut http = opened();
    play(&mut http, true, &frame(kind::HEADERS, END, 1, ASK));
    play(&mut http, true, &frame(kind::HEADERS, END, 3, ASK));
    let mut calls = Calls::new();
    http.received(Part::Lost(1000), true, &mut calls);
    assert_eq!(calls, [Call::Lost]);
    assert_eq!(play(&mut http, false, b"\0\0\x03 anything"), []);
    let answer =
        [frame(kind::HEADERS, flag::END_HEADERS, 3, OK), frame(kind::DATA, flag::END_STREAM, 3, b"def")]
            .concat();
    let result = CallResult { response_bytes: None, ..whole(200, 0, 0) };
    assert_eq!(play(&mut http, false, &answer), [ended(3, result)]);
    calls.clear();
    http.sent(Part::Lost(100), true, &mut calls);
    assert_eq!(calls, [Call::Lost]);
    assert_eq!(play(&mut http, true, &frame(kind::HEADERS, END, 9, ASK)), [began(9)]);
}

/// A body that nobody captured is stepped over, and counted.
#[test]
fn bodies_need_not_be_seen() {
    let mut http = opened();
    play(&mut http, true, &frame(kind::HEADERS, END, 1, ASK));
    let mut calls = Calls::new();
    let answer = [
        frame(kind::HEADERS, flag::END_HEADERS, 1, OK),
        frame(kind::DATA, flag::END_STREAM, 1, &[b'x'; 1000]),
    ]
    .concat();
    let (seen, rest) = answer.split_at(answer.len() - 990);
    http.received(Part::Bytes(seen), true, &mut calls);
    assert_eq!(http.wants().indifferent_received, 990);
    http.received(Part::Absent(rest.len() as u64), false, &mut calls);
    assert_eq!(calls.last(), Some(&ended(1, whole(200, 0, 1000))));
}
