//! Where the probes of a TLS library go: at the start of its reads and writes, and where their results are
//! known. For each function the cheapest place that misses nothing: in front of its own `ret`, else behind
//! every call of it in the files that call it, else on the `ret`, which the kernel has to single-step.

use super::exit_site::{at_returns, behind_call};
use super::site::{ARGUMENTS, Site, find_in};
use crate::binaries::{Callee, Calls, Image, ImageError, calls};
use iced_x86::Register;

/// A function by which plaintext goes into or comes out of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFunction {
    Read,
    Write,
    ReadEx,
    WriteEx,
}

impl TlsFunction {
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::ReadEx, Self::WriteEx];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "SSL_read",
            Self::Write => "SSL_write",
            Self::ReadEx => "SSL_read_ex",
            Self::WriteEx => "SSL_write_ex",
        }
    }

    /// Registers of the arguments that its program reads. (`SSL_write_ex` may have moved the count's address
    /// on to the fifth argument, see `ebpf/src/tls.rs`.)
    fn kept(self) -> &'static [Register] {
        match self {
            Self::ReadEx => &ARGUMENTS[..4],
            Self::Read | Self::Write | Self::WriteEx => &ARGUMENTS[..3],
        }
    }
}

/// The function that ends a session.
const FREE: &str = "SSL_free";

/// One file that holds a TLS library, or calls one.
#[derive(Clone, Debug)]
pub struct TlsFile {
    functions: Vec<Places>,
    /// Where sessions end.
    free: Option<Site>,
    /// Whether and where it calls the functions, in the order of [`TlsFunction::ALL`].
    callers: [Caller; 4],
}

/// Where one function of a file is probed.
#[derive(Clone, Debug)]
struct Places {
    function: TlsFunction,
    exported: bool,
    start: Site,
    /// Before its `ret`s; empty when it leaves in another way.
    returns: Vec<Site>,
}

/// What a file has of calls of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    None,
    /// All calls have a cheap place behind them.
    Cheap(Vec<Site>),
    /// Some calls have none, or some may not have been found.
    Unclear,
}

/// One probe: in a file, by its position among those that were planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsProbe {
    pub file: usize,
    pub program: TlsProgram,
    pub site: Site,
}

/// The programs of the kernel half, see `ebpf/src/tls.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsProgram {
    Start(TlsFunction),
    Result,
    Free,
}

/// How the results of one function of one file are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsWay {
    /// At a cheap instruction in the function, or behind every call of it.
    Cheap,
    /// On its `ret`s, which the kernel single-steps.
    Stepped,
    /// Not at all.
    Unseen,
}

/// Probes for the files of one process.
#[derive(Clone, Debug, Default)]
pub struct TlsPlan {
    pub probes: Vec<TlsProbe>,
    /// What came of each function that somebody calls: file, function, way.
    pub ways: Vec<(usize, TlsFunction, TlsWay)>,
}

impl TlsFile {
    /// # Errors
    /// When the file can no longer be read.
    pub fn inspect(image: &Image) -> Result<Self, ImageError> {
        let symbol = |name: &str| image.exported(name).or_else(|| image.local(name));
        let own = TlsFunction::ALL.map(|function| symbol(function.name()));
        let functions = TlsFunction::ALL
            .into_iter()
            .zip(own)
            .filter_map(|(function, symbol)| {
                let start = find_in(image, function.name(), symbol?, function.kept()).ok()?;
                let exported = image.exported(function.name()).is_some();
                Some(Places { function, exported, start, returns: at_returns(image, symbol?) })
            })
            .collect();
        let free = symbol(FREE).and_then(|symbol| find_in(image, FREE, symbol, &ARGUMENTS[..1]).ok());
        let callees: Vec<Callee<'_>> = TlsFunction::ALL
            .into_iter()
            .zip(own)
            .map(|(function, symbol)| Callee {
                name: function.name(),
                address: symbol.map(|symbol| symbol.address),
            })
            .collect();
        let mut callers = [const { Caller::None }; 4];
        for (caller, calls) in callers.iter_mut().zip(calls(image, &callees)?) {
            *caller = behind_calls(image, &calls);
        }
        Ok(Self { functions, free, callers })
    }

    /// Whether it has any of the functions itself.
    #[must_use]
    pub fn holds_library(&self) -> bool {
        !self.functions.is_empty()
    }

    fn caller(&self, function: TlsFunction) -> &Caller {
        let position = TlsFunction::ALL.iter().position(|other| *other == function);
        position.and_then(|position| self.callers.get(position)).unwrap_or(&Caller::None)
    }
}

fn behind_calls(image: &Image, calls: &Calls) -> Caller {
    if calls.is_empty() {
        return Caller::None;
    }
    if calls.escapes || !calls.jumps.is_empty() {
        return Caller::Unclear;
    }
    let sites = calls.returns.iter().map(|address| behind_call(image, *address)).collect();
    Option::map_or(sites, Caller::Unclear, Caller::Cheap)
}

/// Which probes the files of one process need. A function that no file calls gets none.
#[must_use]
pub fn tls_plan(files: &[&TlsFile]) -> TlsPlan {
    let mut plan = TlsPlan::default();
    for (holder, file) in files.iter().enumerate() {
        for places in &file.functions {
            plan.function(files, holder, places);
        }
        if let Some(site) = file.free {
            plan.probes.push(TlsProbe { file: holder, program: TlsProgram::Free, site });
        }
    }
    plan
}

impl TlsPlan {
    fn function(&mut self, files: &[&TlsFile], holder: usize, places: &Places) {
        let function = places.function;
        // A library's own use of what it exports is no caller's.
        let is_caller = |index: usize| index != holder || !places.exported;
        let callers: Vec<(usize, &Caller)> = files
            .iter()
            .map(|file| file.caller(function))
            .enumerate()
            .filter(|(index, caller)| is_caller(*index) && **caller != Caller::None)
            .collect();
        if callers.is_empty() {
            return;
        }
        let own =
            |sites: &[Site]| -> Vec<(usize, Site)> { sites.iter().map(|site| (holder, *site)).collect() };
        let is_cheap = !places.returns.is_empty() && places.returns.iter().all(|site| site.emulated);
        let (way, results) = if is_cheap {
            (TlsWay::Cheap, own(&places.returns))
        } else if callers.iter().all(|(_, caller)| matches!(caller, Caller::Cheap(_))) {
            let sites = callers.iter().flat_map(|(index, caller)| match caller {
                Caller::Cheap(sites) => sites.iter().map(|site| (*index, *site)).collect(),
                _ => Vec::new(),
            });
            (TlsWay::Cheap, sites.collect())
        } else if places.returns.is_empty() {
            (TlsWay::Unseen, Vec::new())
        } else {
            (TlsWay::Stepped, own(&places.returns))
        };
        self.ways.push((holder, function, way));
        if way == TlsWay::Unseen {
            return;
        }
        let program = TlsProgram::Start(function);
        self.probes.push(TlsProbe { file: holder, program, site: places.start });
        let results =
            results.into_iter().map(|(file, site)| TlsProbe { file, program: TlsProgram::Result, site });
        self.probes.extend(results);
    }
}

impl TlsProgram {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start(TlsFunction::Read) => "tls_read",
            Self::Start(TlsFunction::Write) => "tls_write",
            Self::Start(TlsFunction::ReadEx) => "tls_read_ex",
            Self::Start(TlsFunction::WriteEx) => "tls_write_ex",
            Self::Result => "tls_result",
            Self::Free => "tls_free",
        }
    }

    pub(super) const ALL: [Self; 6] = [
        Self::Start(TlsFunction::Read),
        Self::Start(TlsFunction::Write),
        Self::Start(TlsFunction::ReadEx),
        Self::Start(TlsFunction::WriteEx),
        Self::Result,
        Self::Free,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(file_offset: u64, emulated: bool) -> Site {
        Site { file_offset, emulated }
    }

    fn holder(exported: bool, returns: Vec<Site>) -> TlsFile {
        let places = Places { function: TlsFunction::Read, exported, start: site(1, true), returns };
        TlsFile { functions: vec![places], free: Some(site(2, true)), callers: [const { Caller::None }; 4] }
    }

    fn caller(caller: Caller) -> TlsFile {
        let callers = [caller, Caller::None, Caller::None, Caller::None];
        TlsFile { functions: Vec::new(), free: None, callers }
    }

    fn results(plan: &TlsPlan) -> Vec<(usize, Site)> {
        let is_result = |probe: &&TlsProbe| probe.program == TlsProgram::Result;
        plan.probes.iter().filter(is_result).map(|probe| (probe.file, probe.site)).collect()
    }

    #[test]
    fn what_nobody_calls_is_left_alone() {
        let plan = tls_plan(&[&holder(true, vec![site(3, true)])]);
        assert_eq!(plan.ways, []);
        assert_eq!(plan.probes, [TlsProbe { file: 0, program: TlsProgram::Free, site: site(2, true) }]);
    }

    #[test]
    fn the_cheapest_place_that_misses_nothing() {
        let cheap = caller(Caller::Cheap(vec![site(7, true), site(8, true)]));
        let unclear = caller(Caller::Unclear);
        let own = holder(true, vec![site(3, true), site(4, true)]);
        let stepped = holder(true, vec![site(3, true), site(5, false)]);
        let away = holder(true, Vec::new());
        let way = |files: &[&TlsFile]| {
            let plan = tls_plan(files);
            (plan.ways.first().map(|(_, _, way)| *way), results(&plan))
        };
        assert_eq!(
            way(&[&own, &unclear]),
            (Some(TlsWay::Cheap), vec![(0, site(3, true)), (0, site(4, true))])
        );
        assert_eq!(
            way(&[&stepped, &cheap]),
            (Some(TlsWay::Cheap), vec![(1, site(7, true)), (1, site(8, true))])
        );
        assert_eq!(
            way(&[&stepped, &cheap, &unclear]),
            (Some(TlsWay::Stepped), vec![(0, site(3, true)), (0, site(5, false))])
        );
        assert_eq!(way(&[&away, &unclear]), (Some(TlsWay::Unseen), vec![]));
    }

    /// A library inside an extension module is called by nobody else.
    #[test]
    fn its_own_calls_count_where_it_exports_nothing() {
        let mut inside = holder(false, vec![site(3, false)]);
        inside.callers[0] = Caller::Cheap(vec![site(9, true)]);
        assert_eq!(results(&tls_plan(&[&inside])), [(0, site(9, true))]);
    }
}
