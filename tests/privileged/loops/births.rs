//! Every context that an interpreter makes is seen, once, with what it is a copy of: on every build that is here.

use anyhow::{Context as _, Result};
use harness::interpreter::{Interpreter, Script};
use harness::wait;
use pyapm::host::{Btf, settings};
use pyapm::intake::{Body, Context, Reader};
use pyapm::probes::{OffCpu, Probes, Setup, UprobeSite};
use pyapm::python::{Births, Inspector, Switching, contexts};
use pyapm_wire::count;
use pyapm_wire::target::Target;
use std::collections::HashSet;
use std::path::Path;

/// What `contexts.py` does before it runs its loop.
const COPIES: usize = 2 * 1000 + 1;
const EMPTY: usize = 300;
/// What its task does on the loop.
const ON_THE_LOOP: usize = 200 + 100;

fn attach(probes: &mut Probes, image: &Path, births: &Births, empty: bool) -> Result<()> {
    births.file_offsets.iter().try_for_each(|file_offset| {
        let site = UprobeSite { path: image.to_owned(), file_offset: *file_offset };
        Ok(probes.attach_contexts(&site, empty)?)
    })
}

fn seen_under(interpreter: &Interpreter) -> Result<()> {
    let script = Script::start(interpreter, "contexts.py")?;
    let pid = script.pid();
    let mut probes = Probes::load(Setup {
        settings: settings(&Btf::running_kernel()?)?,
        ring_bytes: 8 << 20,
        native: false,
        off_cpu: OffCpu::None,
    })?;
    let mut tables = probes.tables()?;
    let mut reader = Reader::new(probes.ring()?);
    let found = Inspector::default().inspect(pid)?;
    let copies = found.contexts.copies.clone().context("no place for copies")?;
    let empty = found.contexts.empty.clone().context("no place for empty contexts")?;
    let switching = Switching { asyncio: true, ..Switching::default() };
    let contexts = contexts(&found.contexts, &found.offsets, found.version.minor, switching, None, None)
        .context("no layout")?;
    let target = Target { layout: found.layout, generation: 1, contexts, ..Target::default() };
    tables.watch(pid, target, false)?;
    attach(&mut probes, &found.contexts.image, &copies, false)?;
    attach(&mut probes, &found.contexts.image, &empty, true)?;

    let mut made: Vec<Context> = Vec::new();
    let mut until = |what: &str, file: &str| {
        wait::until(what, || {
            reader.drain(4096, |event| {
                if let Body::Context(context) = event.body {
                    assert_eq!(event.pid, pid);
                    made.push(context);
                }
            });
            Ok(script.folder().join(file).exists().then_some(()))
        })?;
        while reader.drain(4096, |event| {
            if let Body::Context(context) = event.body {
                made.push(context);
            }
        }) > 0
        {}
        Ok::<_, anyhow::Error>(std::mem::take(&mut made))
    };
    std::fs::write(script.folder().join("go"), "")?;
    let plain = until("the contexts to be made", "plain")?;
    std::fs::write(script.folder().join("loop"), "")?;
    let looped = until("the loop to have run", "looped")?;

    let (empties, copied): (Vec<_>, Vec<_>) = plain.into_iter().partition(|context| context.empty);
    assert_eq!(copied.len(), COPIES, "copies under {interpreter}");
    // The first copy of a thread without a context makes it one, which is empty too.
    let without_parent = empties.iter().filter(|context| context.parent == 0).count();
    assert!(without_parent <= 1, "{without_parent} under {interpreter}");
    assert_eq!(empties.len() - without_parent, EMPTY, "empty contexts under {interpreter}");
    // All are copies of the one that the main thread has, and those that lived at once are distinct.
    let parents: HashSet<u64> = copied.iter().map(|context| context.parent).collect();
    assert_eq!(parents.len(), 1, "under {interpreter}");
    assert!(!parents.contains(&0));
    let alive: HashSet<u64> = copied.iter().take(1000).map(|context| context.context).collect();
    assert_eq!(alive.len(), 1000, "under {interpreter}");
    let last = copied.last().context("no copy")?.context;
    assert!(script.log().contains(&format!("addresses {last}")), "under {interpreter}: {}", script.log());

    // What the task of `run_until_complete` made, all of it in that task's own context.
    let task = looped.iter().find(|context| parents.contains(&context.parent)).context("no task")?.context;
    let in_task = looped.iter().filter(|context| !context.empty && context.parent == task).count();
    assert_eq!(in_task, ON_THE_LOOP, "on the loop under {interpreter}");
    assert_eq!(tables.counts().get(count::CONTEXT_UNVERIFIED), 0, "under {interpreter}");
    assert_eq!(tables.counts().get(count::RING_FULL), 0);
    eprintln!(
        "{interpreter}: {} places for copies, {} for empty ones",
        copies.file_offsets.len(),
        empty.file_offsets.len(),
    );
    Ok(())
}

#[test]
fn every_context_is_seen_once_on_every_build() {
    for interpreter in Interpreter::all().unwrap() {
        seen_under(&interpreter).unwrap_or_else(|error| panic!("{interpreter}: {error:#}"));
    }
}
