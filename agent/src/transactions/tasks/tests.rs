//! What a worker of Celery 5.7 read and wrote (`recordings/prefork.txt`: direction, size of the call, its first bytes in
//! hex), however it is cut; and the same with damage.

use super::messages::{Delivery, Finished};
use super::pickle::{Value, outline};
use super::pool::{Deliveries, Results};
use crate::transactions::http::Part;
use crate::transactions::tests::Dice;
use pyapm_model::task::State;

/// One call: whether the worker wrote it, its bytes, and how many more it had.
pub(in crate::transactions) type Call = (bool, Vec<u8>, u64);

pub(in crate::transactions) fn recording() -> Vec<Call> {
    let text = include_str!("recordings/prefork.txt");
    let calls = text.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let digits = |at: usize| u8::from_str_radix(&words[2][at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..words[2].len()).step_by(2).map(digits).collect();
        let size: u64 = words[1].parse().unwrap();
        (words[0] == ">", size, bytes)
    });
    calls.map(|(written, size, bytes)| (written, bytes.clone(), size - bytes.len() as u64)).collect()
}

#[derive(Debug, Default, PartialEq)]
struct Told {
    tasks: Vec<(Delivery, u64)>,
    ends: Vec<Finished>,
}

/// Each call cut into runs of at most so many bytes.
fn play(calls: &[Call], most: usize) -> Told {
    let (mut deliveries, mut results, mut told) =
        (Deliveries::default(), Results::default(), Told::default());
    for (time, (written, bytes, more)) in calls.iter().enumerate() {
        let runs = bytes.chunks(most).map(Part::Bytes);
        let runs = runs.chain((*more > 0).then_some(Part::Absent(*more)));
        for (index, part) in runs.enumerate() {
            if *written {
                results.follow(part, index == 0, |end, _| told.ends.push(end));
            } else {
                let each = |task, started, _| told.tasks.push((task, started));
                deliveries.follow(time as u64, part, index == 0, each);
            }
        }
    }
    told
}

#[test]
fn a_worker_of_celery() {
    let told = play(&recording(), usize::MAX);
    let tasks: Vec<_> = told
        .tasks
        .iter()
        .map(|(task, started)| (task.job, task.name.as_str(), task.retries, task.queue.as_deref(), *started))
        .collect();
    let queue = Some("celery");
    let expected = [
        (0, "work.add", Some(0), queue, 0),
        (1, "work.fails", Some(0), queue, 4),
        (2, "work.retries", Some(0), queue, 9),
        (3, "work.retries", Some(1), queue, 14),
        (4, "work.retries", Some(2), queue, 19),
    ];
    assert_eq!(tasks, expected);
    assert!(told.tasks.iter().all(|(task, _)| task.id.len() == 36 && task.trace.is_none()));
    // A task keeps its number when it is tried again.
    assert_eq!(told.tasks[2].0.id, told.tasks[4].0.id);
    let end = |job, state, error: Option<&str>| Finished {
        job,
        state: Some(state),
        error: error.map(str::to_owned),
    };
    let expected = [
        end(0, State::Success, None),
        end(1, State::Failure, Some("ValueError")),
        end(2, State::Retry, None),
        end(3, State::Retry, None),
        end(4, State::Failure, Some("ZeroDivisionError")),
    ];
    assert_eq!(told.ends, expected);
}

#[test]
fn cut_anywhere() {
    let calls = recording();
    let expected = play(&calls, usize::MAX);
    for most in [1, 2, 3, 5, 7, 100, 1000] {
        assert_eq!(play(&calls, most), expected, "{most}");
    }
}

/// The beginning of a message is as much as it says, and never something else.
#[test]
fn a_message_that_is_cut_short() {
    let calls = recording();
    let (_, message, _) = &calls[1];
    let whole = Delivery::parse(message).unwrap();
    for end in 0..message.len() {
        if let Some(part) = Delivery::parse(&message[..end]) {
            assert_eq!((part.job, &part.name, &part.id), (whole.job, &whole.name, &whole.id));
            assert!(part.retries.is_none_or(|_| part.retries == whole.retries), "{end}");
            assert!(part.queue.is_none() || part.queue == whole.queue, "{end}");
        }
    }
    let (_, failure, _) = &calls[8];
    assert_eq!(Finished::parse(&failure[..1024]), Finished::parse(failure));
    for end in 0..failure.len() {
        let state = Finished::parse(&failure[..end]).and_then(|finished| finished.state);
        assert!(state.is_none_or(|state| state == State::Failure), "{end}");
    }
}

#[test]
fn a_pipe_goes_on_after_a_loss() {
    let mut calls = recording();
    // The first task's message was lost, and what became of the second.
    calls[1].1 = calls[2].1.clone();
    calls[1].2 = 0;
    calls.remove(8);
    let told = play(&calls, usize::MAX);
    let jobs: Vec<i64> = told.tasks.iter().map(|(task, _)| task.job).collect();
    assert!(jobs.ends_with(&[2, 3, 4]), "{jobs:?}");
    let ends: Vec<i64> = told.ends.iter().map(|end| end.job).collect();
    assert!(ends.starts_with(&[0]) && !ends.contains(&1), "{ends:?}");
}

#[test]
fn damage_and_noise() {
    let mut dice = Dice(0x000c_e1e5);
    for _ in 0..400 {
        let mut calls = recording();
        for _ in 0..1 + dice.below(8) {
            let at = dice.below(calls.len());
            let (_, bytes, more) = &mut calls[at];
            let place = dice.below(bytes.len().max(1));
            match dice.below(4) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, u8::try_from(dice.below(256)).unwrap()),
                2 => *more += dice.below(100_000) as u64,
                _ => {
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = u8::try_from(dice.below(256)).unwrap();
                    }
                }
            }
        }
        play(&calls, 1 + dice.below(2000));
    }
    for _ in 0..4_000 {
        let operations = b"(KMJNt\x85\x86\x87)]}aesu\x94hq\x93\x8cR\x81b01.\x8a\x97d\x8f\x90";
        let bytes: Vec<u8> = (0..dice.below(200)).map(|_| operations[dice.below(operations.len())]).collect();
        assert!(outline(&bytes).len() <= 200);
    }
}

/// Values that are built on themselves double with each step: nothing of it may be kept.
#[test]
fn growth_is_bounded() {
    let mut deep = b"\x80\x04)".to_vec();
    deep.extend(std::iter::repeat_n(0x85, 100_000));
    assert!(outline(&deep).len() <= 1);
    let many: Vec<u8> = std::iter::repeat_n(b'(', 100_000).collect();
    assert!(outline(&many).len() <= 1);
    let texts: Vec<u8> = std::iter::repeat_n(*b"\x8c\x01x\x94", 20_000).flatten().collect();
    assert!(outline(&texts).iter().all(|value| *value == Value::Text(b"x")));
}
