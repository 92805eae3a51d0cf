//! The view on canned figures that change twice a second: to look at it in a real terminal without
//! watching anything. `cargo run -p pyapm-tui --example view`, optionally with the file of a snapshot.
//!
//! `PYAPM_VIEW_PANIC=1` panics after two seconds and `PYAPM_VIEW_STALL=1` stops the figures after two: the
//! terminal must come back, and the view must say that nothing arrives.

use pyapm_model::snapshot::Snapshot;
use pyapm_tui::{Local, ViewOptions, run};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let canned = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => include_str!("../fixtures/shop.json").to_owned(),
    };
    let mut snapshot: Snapshot = serde_json::from_str(&canned)?;
    let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
    let panic = std::env::var_os("PYAPM_VIEW_PANIC").is_some();
    let stall = std::env::var_os("PYAPM_VIEW_STALL").is_some();
    let figures = async move {
        for turn in 0_u64.. {
            if sender.send(Arc::new(snapshot.clone())).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!(panic && turn == 4), "asked for");
            if stall && turn == 4 {
                std::future::pending::<()>().await;
            }
            change(&mut snapshot, turn);
        }
    };
    let shutdown = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    // In one task, so that a panic in the figures unwinds through the view as it would in the agent.
    let exit = tokio::select! {
        exit = run(Local::new(receiver), ViewOptions::from_environment(), shutdown) => exit?,
        () = figures => anyhow::bail!("the figures ended"),
    };
    #[expect(clippy::print_stdout, reason = "tells whoever drives this by hand why the view ended")]
    {
        println!("{exit:?}");
    }
    Ok(())
}

/// Plausible, and the same on every run.
fn change(snapshot: &mut Snapshot, turn: u64) {
    const STEP_NS: u64 = 500_000_000;
    snapshot.taken_ns += STEP_NS;
    snapshot.elapsed_ns += STEP_NS;
    snapshot.losses.seen += 913;
    snapshot.losses.delivered += 913;
    for (index, route) in snapshot.routes.iter_mut().enumerate() {
        let wave = (turn + index as u64) % 7;
        route.count += wave;
        route.per_second = route.count as f64 / 60.0;
        route.p95_ns += route.p95_ns * wave / 200;
    }
    for active in &mut snapshot.active {
        active.elapsed_ns += STEP_NS;
    }
    if turn % 5 == 4 {
        snapshot.active.rotate_left(1);
        if let Some(last) = snapshot.active.last_mut() {
            last.elapsed_ns = STEP_NS;
        }
        snapshot.active.sort_by_key(|active| std::cmp::Reverse(active.elapsed_ns));
    }
    snapshot.totals.per_second += if turn.is_multiple_of(2) { 3.1 } else { -2.9 };
}
