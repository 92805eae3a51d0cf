//! The probe of code objects that are given up, one for each interpreter's file, however many processes map it. Where it is
//! on, the kernel half knows stacks again without a look at each code object (`decisions/0037-stacks-that-are-known.md`).

use crate::probes::Probes;
use crate::python::Interpreter;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;

#[derive(Debug)]
pub(in crate::pipeline) struct CodeDeaths {
    /// This kernel runs each probe at each hit.
    always_run: bool,
    /// By device and inode: whether the file is probed.
    files: HashMap<(u64, u64), bool>,
}

impl CodeDeaths {
    pub(in crate::pipeline) fn new(always_run: bool) -> Self {
        Self { always_run, files: HashMap::new() }
    }

    /// Probes the interpreter of a process, unless its file has been: whether each code object that it gives up is told
    /// from now on.
    pub(in crate::pipeline) fn follow(&mut self, probes: &mut Probes, interpreter: &Interpreter) -> bool {
        let Some(site) = interpreter.code_deaths.as_ref().filter(|_| self.always_run) else { return false };
        let Ok(status) = std::fs::metadata(&site.path) else { return false };
        let file = (status.dev(), status.ino());
        if let Some(known) = self.files.get(&file) {
            return *known;
        }
        let attached = probes.attach_code_deaths(site);
        if let Err(error) = &attached {
            let file = interpreter.file.display();
            tracing::info!("every stack of processes that run `{file}` is looked at in full: {error}");
        }
        self.files.insert(file, attached.is_ok());
        attached.is_ok()
    }
}
