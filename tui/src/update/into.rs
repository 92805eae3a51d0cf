//! Down into what a row, a dot or a line stands for, and what follows it from one snapshot to the next.

use super::{descend, details, go, list, picture, select};
use crate::state::{Asked, InFlight, Opened, Panel, Screen, State};
use crate::view;
use pyapm_model::service::Ask;
use pyapm_model::snapshot::Active;
use std::sync::Arc;

pub(super) fn enter(state: &mut State) {
    match state.screen {
        Screen::XView => picture::choose(state),
        Screen::Flame => state.flame.zoom(),
        screen if screen.is_document() => unfold(state),
        _ => row(state),
    }
}

/// The selected row; the first one, when none is selected yet.
fn row(state: &mut State) {
    if state.overlay.take().is_some() {
        return;
    }
    let panel = state.panel();
    if state.table(panel).selection.is_none() {
        select(state, |_, _| 0);
    }
    let Some(index) = state.selected(panel) else { return };
    let shown = state.shown();
    match panel {
        Panel::Routes => {
            let Some(route) = shown.routes.get(index) else { return };
            let points = state.dots.named(&route.name);
            list(state, points, route.name.clone());
        }
        Panel::Active => {
            let Some(active) = shown.active.get(index) else { return };
            state.in_flight = Some(InFlight { active: active.clone(), has_ended: false });
            descend(state, Screen::InFlight);
        }
        Panel::Errors => {
            let Some(group) = shown.errors.get(index) else { return };
            state.failure = Some(group.clone());
            descend(state, Screen::Failure);
        }
        Panel::Transactions => {
            let Some(point) = shown.chosen.get(index) else { return };
            let (application, number) = (state.application, point.number);
            // Asked for in any case: what was kept may have given way, and what was not is answered quickly.
            state.asks.push(Ask::Transaction { application, number });
            state.opened = Some(Opened { application, point: point.clone(), whole: Asked::Waiting });
            descend(state, Screen::Transaction);
        }
        Panel::Applications => {
            let Some(one) = shown.applications.get(index) else { return };
            choose_application(state, one.info.id);
        }
        Panel::Workers => {
            let Some(worker) = shown.workers.get(index) else { return };
            state.worker = Some(worker.pid);
            descend(state, Screen::Worker);
        }
        Panel::Functions | Panel::Statements => details(state),
    }
}

fn choose_application(state: &mut State, id: u32) {
    if state.snapshot.is_none() || state.wanted != Some(id) {
        state.asks.push(Ask::Choose { application: id });
        state.wanted = Some(id);
        (state.snapshot, state.held) = (None, None);
        state.paused = false;
        state.dots.clear();
        state.xview.release();
        state.flame = Default::default();
        state.chosen = Arc::default();
        for panel in Panel::ALL {
            if panel != Panel::Applications {
                state.table_mut(panel).selection = None;
            }
        }
    }
    state.filter.clear();
    go(state, Screen::Overview);
}

/// The call in the line of the cursor, in full or in one line.
fn unfold(state: &mut State) {
    let Some(call) = view::call_at(state, state.reading.line) else { return };
    if !state.reading.unfolded.remove(&call) {
        state.reading.unfolded.insert(call);
    }
}

/// All calls, unless all are.
pub(super) fn unfold_all(state: &mut State) {
    let Some(Opened { whole: Asked::Here(transaction), .. }) = &state.opened else { return };
    let all = transaction.spans.len();
    let unfolded = &mut state.reading.unfolded;
    if unfolded.len() < all {
        unfolded.extend(0..all);
    } else {
        unfolded.clear();
    }
}

/// What is looked into is looked for in the new snapshot.
pub(super) fn follow(state: &mut State) {
    let Some(snapshot) = &state.snapshot else { return };
    if let Some(in_flight) = &mut state.in_flight
        && !in_flight.has_ended
    {
        match snapshot.active.iter().find(|active| is_same(&in_flight.active, active)) {
            Some(active) => in_flight.active = active.clone(),
            None => in_flight.has_ended = true,
        }
    }
    if let Some(failure) = &mut state.failure
        && let Some(group) = snapshot.errors.iter().find(|group| {
            (&group.kind, &group.module, &group.frame) == (&failure.kind, &failure.module, &failure.frame)
        })
    {
        failure.clone_from(group);
    }
}

/// Nothing numbers them while they run; what began later has not run for longer.
fn is_same(before: &Active, now: &Active) -> bool {
    (before.pid, &before.path, &before.name) == (now.pid, &now.path, &now.name)
        && (before.tid == now.tid || before.tid == 0)
        && now.elapsed_ns >= before.elapsed_ns
}
