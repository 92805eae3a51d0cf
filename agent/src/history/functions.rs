//! From folded stacks to functions: how often each was innermost, and how often anywhere on a stack.

use pyapm_model::report::Function;
use std::collections::{HashMap, HashSet};

/// Most samples innermost first.
pub(super) fn functions(stacks: &[(String, u64)]) -> (Vec<Function>, u64) {
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut all = 0;
    for (stack, samples) in stacks {
        all += samples;
        // A function that calls itself is on the stack once.
        let met: HashSet<&str> = stack.split(';').collect();
        for frame in met {
            sums.entry(frame).or_default().1 += samples;
        }
        if let Some(innermost) = stack.rsplit(';').next() {
            sums.entry(innermost).or_default().0 += samples;
        }
    }
    let share = |samples: u64| if all == 0 { 0.0 } else { samples as f64 / all as f64 };
    let mut functions: Vec<Function> = sums
        .into_iter()
        .map(|(frame, (innermost, anywhere))| {
            let (function, file) = parts(frame);
            Function {
                function: function.to_owned(),
                file: file.to_owned(),
                self_samples: innermost,
                total_samples: anywhere,
                self_share: share(innermost),
                total_share: share(anywhere),
            }
        })
        .collect();
    functions.sort_by(|a, b| {
        let by_samples = (b.self_samples, b.total_samples).cmp(&(a.self_samples, a.total_samples));
        by_samples.then_with(|| (&a.function, &a.file).cmp(&(&b.function, &b.file)))
    });
    (functions, all)
}

/// Function and file of `function (file)`.
fn parts(frame: &str) -> (&str, &str) {
    let split = frame.strip_suffix(')').and_then(|frame| frame.rsplit_once(" ("));
    split.unwrap_or((frame, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursion_counts_once() {
        let stacks = [("main (a.py);f (a.py);f (a.py)".to_owned(), 3), ("main (a.py)".to_owned(), 1)];
        let (functions, samples) = functions(&stacks);
        let found: Vec<(&str, &str, u64, u64)> = functions
            .iter()
            .map(|one| (one.function.as_str(), one.file.as_str(), one.self_samples, one.total_samples))
            .collect();
        assert_eq!((found, samples), (vec![("f", "a.py", 3, 3), ("main", "a.py", 1, 4)], 4));
        assert_eq!(parts("{other}"), ("{other}", ""));
    }
}
