//! Reading a framework's objects: what each framework's file needs, in its own words, and the order in which they are
//! asked. All or nothing for each application: half a table would give wrong names.

use super::table::{Found, RouteTable};
use super::{django, flask, starlette};
use crate::python::{BoundedMemory, Collector, Interpreter, Item, Memory, ObjectError, Objects, read_code};
use pyapm_model::line::Frame;
use smol_str::SmolStr;
use std::cell::RefCell;
use std::collections::HashMap;

/// Reads that all of it may take.
const MAX_READS: u64 = 700_000;
/// Characters of a path or a name.
pub(super) const MAX_TEXT: usize = 1024;
/// Members of a list of routes.
pub(super) const MAX_LIST: usize = 4096;
/// Decorators around a handler.
const MAX_WRAPPED: usize = 16;
/// `PyTypeObject.tp_base`.
const TP_BASE: u64 = 256;
/// Applications without a name that are looked for.
const MAX_APPLICATIONS: usize = 64;
/// Classes above a class.
const MAX_BASES: usize = 32;

/// The routes of the application that runs in this process; `None` when no framework is found, or its table is not
/// understood. It changes while it is read only if the application adds routes just then.
#[must_use]
pub fn read_routes(memory: &dyn Memory, interpreter: &Interpreter) -> Option<RouteTable> {
    let bounded = BoundedMemory::new(memory, MAX_READS);
    let objects = Objects::new(&bounded, &interpreter.offsets, interpreter.version.minor)?;
    let main = objects.main_interpreter(interpreter.runtime_address).ok()?;
    let reader = Reader { objects, main, collector: interpreter.collector, bases: RefCell::default() };
    for read in [django::routes, flask::routes, starlette::routes] {
        match read(&reader) {
            Ok(found) if !found.is_empty() => return RouteTable::new(found),
            Ok(_) => {}
            Err(error) => tracing::debug!("routes are not read: {error}"),
        }
    }
    None
}

pub(super) type Routes = Result<Vec<Found>, ObjectError>;

pub(super) struct Reader<'a> {
    pub objects: Objects<'a>,
    pub main: u64,
    pub collector: Option<Collector>,
    /// Of a class: its address and those of its bases.
    pub(super) bases: RefCell<HashMap<u64, Vec<u64>>>,
}

impl Reader<'_> {
    /// A member of a module that was imported.
    pub(super) fn in_module(&self, module: &str, name: &str) -> Result<Option<u64>, ObjectError> {
        match self.objects.module_dict(self.main, module)? {
            Some(dict) => self.objects.dict_get(dict, name),
            None => Ok(None),
        }
    }

    /// The text of an attribute that is a string; `None` when it is absent or something else.
    pub(super) fn text(&self, object: u64, name: &str) -> Option<String> {
        let address = self.objects.attribute(object, name).ok()??;
        self.objects.string(address, MAX_TEXT).ok()
    }

    pub(super) fn class_name(&self, object: u64) -> Option<String> {
        Some(self.objects.type_of(object).ok()?.name)
    }

    /// The objects in modules' namespaces whose class is this one or derives from it, each once; where there are none, those
    /// that no module names.
    pub(super) fn instances(&self, class: u64) -> Result<Vec<u64>, ObjectError> {
        let modules = self.objects.all_modules(self.main)?;
        let mut found = Vec::new();
        for Item { value: module, .. } in modules {
            let Ok(dict) = self.objects.namespace(module) else { continue };
            // A module that is imported just now may change under us: another one holds the same object, or the next look.
            for item in self.objects.dict_items(dict).unwrap_or_default() {
                let Ok(own) = self.objects.class_of(item.value) else { continue };
                if own != 0 && self.derives(own, class) && !found.contains(&item.value) {
                    found.push(item.value);
                }
            }
        }
        if found.is_empty() {
            // A factory made it, and only the server holds it.
            let derives = |own| self.derives(own, class);
            found = self.objects.tracked(self.main, self.collector, MAX_APPLICATIONS, derives)?;
            found.retain(|object| self.objects.class_of(*object).is_ok_and(|own| self.derives(own, class)));
        }
        Ok(found)
    }

    fn derives(&self, own: u64, class: u64) -> bool {
        if let Some(bases) = self.bases.borrow().get(&own) {
            return bases.contains(&class);
        }
        let mut bases = vec![own];
        let mut next = own;
        while bases.len() < MAX_BASES {
            match self.objects.memory.read_u64(self.objects.part(next, TP_BASE)) {
                Ok(base) if base != 0 => bases.push(base),
                _ => break,
            }
            next = *bases.last().unwrap_or(&0);
        }
        let derives = bases.contains(&class);
        self.bases.borrow_mut().insert(own, bases);
        derives
    }

    /// The function that a view is written as, without what is wrapped around it; `None` for what is not understood.
    pub(super) fn handler(&self, view: u64, method: Option<&str>) -> Option<Frame> {
        let mut view = view;
        for _ in 0..MAX_WRAPPED {
            match self.class_name(view)?.as_str() {
                "function" => {
                    if let Some(wrapped) = self.objects.function_attribute(view, "__wrapped__").ok()? {
                        view = wrapped;
                        continue;
                    }
                    // Views that are classes (Django's and Flask's `as_view`) say so.
                    let class = ["view_class", "cls"]
                        .into_iter()
                        .find_map(|name| self.objects.function_attribute(view, name).ok()?);
                    return match class {
                        Some(class) => {
                            let names = [method.unwrap_or("get"), "get", "dispatch_request", "dispatch"];
                            names.into_iter().find_map(|name| {
                                self.function(self.objects.class_attribute(class, name).ok()??)
                            })
                        }
                        None => self.function(view),
                    };
                }
                "method" => view = self.objects.method_function(view).ok()?,
                "partial" => view = self.objects.partial_function(view).ok()?,
                // An object that can be called.
                _ => {
                    let class = self.objects.class_of(view).ok()?;
                    return self.function(self.objects.class_attribute(class, "__call__").ok()??);
                }
            }
        }
        None
    }

    fn function(&self, function: u64) -> Option<Frame> {
        if self.class_name(function)? != "function" {
            return None;
        }
        let code = self.objects.function_code(function).ok()?;
        let code = read_code(self.objects.memory, self.objects.offsets, code).ok()?;
        Some(Frame {
            function: SmolStr::from(code.function),
            file: SmolStr::from(code.file),
            line: Some(code.firstlineno),
        })
    }
}
