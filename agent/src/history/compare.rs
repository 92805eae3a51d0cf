//! One window against another: what got slower, what is new.

use pyapm_model::report::{
    Application, Change, Changes, Comparison, Figures, Function, FunctionChange, Route, Statement,
};
use std::collections::{BTreeMap, BTreeSet};

/// Fewer of a kind than this in either window say nothing about its speed.
const FEW: u64 = 5;
/// By so much must the median or the 95th percentile differ: less is what the same load gives twice.
const DIFFERENT: f64 = 0.1;
/// Functions whose share changed by less are left out.
const SHARE: f64 = 0.005;

/// `before` is the other window.
pub(super) fn compare(now: &Application, before: &Application) -> Comparison {
    let kinds = |application: &Application| -> BTreeSet<String> {
        application
            .errors
            .iter()
            .map(|group| format!("{} {:?} {:?}", group.kind, group.module, group.frame))
            .collect()
    };
    let (kinds_now, kinds_before) = (kinds(now), kinds(before));
    let only = |application: &Application, other: &BTreeSet<String>| {
        let groups = application.errors.iter();
        groups
            .filter(|group| !other.contains(&format!("{} {:?} {:?}", group.kind, group.module, group.frame)))
            .cloned()
            .collect()
    };
    Comparison {
        totals: Change {
            name: now.application.clone(),
            before: Some(before.totals).filter(|figures| figures.count > 0),
            now: Some(now.totals).filter(|figures| figures.count > 0),
        },
        routes: changes(&routes(&now.routes), &routes(&before.routes)),
        statements: changes(&statements(&now.statements), &statements(&before.statements)),
        new_errors: only(now, &kinds_before),
        gone_errors: only(before, &kinds_now),
        functions: functions(now, before),
    }
}

fn routes(routes: &[Route]) -> BTreeMap<&str, Figures> {
    routes.iter().map(|route| (route.name.as_str(), route.figures)).collect()
}

fn statements(statements: &[Statement]) -> BTreeMap<&str, Figures> {
    statements.iter().map(|statement| (statement.text.as_str(), statement.figures)).collect()
}

fn changes(now: &BTreeMap<&str, Figures>, before: &BTreeMap<&str, Figures>) -> Changes {
    let mut changes = Changes::default();
    for (name, figures) in now {
        let change =
            Change { name: (*name).to_owned(), before: before.get(name).copied(), now: Some(*figures) };
        let Some(old) = &change.before else {
            changes.new.push(change);
            continue;
        };
        if figures.count < FEW || old.count < FEW {
            continue;
        }
        let ratio = |now: u64, before: u64| now as f64 / before.max(1) as f64;
        let ratios = [ratio(figures.p50_ns, old.p50_ns), ratio(figures.p95_ns, old.p95_ns)];
        let is_slower = ratios.iter().any(|ratio| *ratio > 1.0 + DIFFERENT);
        let is_faster = ratios.iter().any(|ratio| *ratio < 1.0 - DIFFERENT);
        // Where the two disagree, the mean decides.
        match (is_slower, is_faster, figures.mean_ns >= old.mean_ns) {
            (true, false, _) | (true, true, true) => changes.slower.push(change),
            (false, true, _) | (true, true, false) => changes.faster.push(change),
            (false, false, _) => {}
        }
    }
    for (name, figures) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
        changes.gone.push(Change { name: (*name).to_owned(), before: Some(*figures), now: None });
    }
    let total = |figures: &Option<Figures>| figures.map_or(0, |figures| figures.total_ns);
    changes.slower.sort_by_key(|change| std::cmp::Reverse(added_ns(change)));
    changes.faster.sort_by_key(added_ns);
    changes.new.sort_by_key(|change| std::cmp::Reverse(total(&change.now)));
    changes.gone.sort_by_key(|change| std::cmp::Reverse(total(&change.before)));
    changes
}

/// The time that what happened now would have taken less at the speed of before.
fn added_ns(change: &Change) -> i128 {
    let (Some(now), Some(before)) = (&change.now, &change.before) else { return 0 };
    (i128::from(now.mean_ns) - i128::from(before.mean_ns)) * i128::from(now.count)
}

fn functions(now: &Application, before: &Application) -> Vec<FunctionChange> {
    // Without samples on both sides there are no shares.
    if now.samples == 0 || before.samples == 0 {
        return Vec::new();
    }
    fn shares(functions: &[Function]) -> BTreeMap<(&str, &str), f64> {
        functions.iter().map(|one| ((one.function.as_str(), one.file.as_str()), one.self_share)).collect()
    }
    let (shares_now, shares_before) = (shares(&now.functions), shares(&before.functions));
    let names: BTreeSet<_> = shares_now.keys().chain(shares_before.keys()).copied().collect();
    let share = |shares: &BTreeMap<(&str, &str), f64>, name| shares.get(&name).copied().unwrap_or(0.0);
    let mut changes: Vec<FunctionChange> = names
        .into_iter()
        .map(|name| FunctionChange {
            function: name.0.to_owned(),
            file: name.1.to_owned(),
            before_share: share(&shares_before, name),
            now_share: share(&shares_now, name),
        })
        .filter(|change| (change.now_share - change.before_share).abs() >= SHARE)
        .collect();
    changes.sort_by(|a, b| (b.now_share - b.before_share).total_cmp(&(a.now_share - a.before_share)));
    changes
}
