//! A table of routes, and which of them a path takes. Pure: no process is known here.

use super::pattern::Pattern;
use pyapm_model::line::Frame;
use regex::{RegexSet, RegexSetBuilder};
use std::borrow::Cow;
use std::sync::Arc;

/// Routes of one application that are kept.
pub(super) const MAX_ROUTES: usize = 4096;
/// Bytes that the compiled patterns may take.
const MAX_COMPILED: usize = 16 << 20;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `/users/{number}`
    pub pattern: String,
    /// The function behind it; `None` when it could not be told.
    pub handler: Option<Frame>,
}

/// A route as it was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub pattern: Pattern,
    /// Empty: any.
    pub methods: Vec<String>,
    pub handler: Option<Frame>,
}

/// The routes of one application, in the order in which its framework tries them.
#[derive(Clone, Debug)]
pub struct RouteTable {
    set: RegexSet,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: what is tried here cannot be known, only how paths that come here begin.
    route: Option<Arc<Route>>,
    methods: Vec<String>,
}

impl RouteTable {
    /// `None` when there is nothing, or it is too much.
    pub(super) fn new(found: Vec<Found>) -> Option<Self> {
        if found.is_empty() || found.len() > MAX_ROUTES {
            return None;
        }
        let set = RegexSetBuilder::new(found.iter().map(|found| found.pattern.expression()))
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .ok()?;
        let entries = found.into_iter().map(|found| Entry {
            methods: found.methods,
            route: found.pattern.shown().map(|pattern| Arc::new(Route { pattern, handler: found.handler })),
        });
        Some(Self { set, entries: entries.collect() })
    }

    /// The route of a request, by its path as it was sent, without the query.
    #[must_use]
    pub fn find(&self, method: &str, path: &str) -> Option<Arc<Route>> {
        let path = decoded(path);
        for index in &self.set.matches(&path) {
            let entry = self.entries.get(index)?;
            let asked = |allowed: &String| allowed == method || (method == "HEAD" && allowed == "GET");
            if entry.methods.is_empty() || entry.methods.iter().any(asked) {
                return entry.route.clone();
            }
        }
        None
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none: never so, for a table that was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// `%41` is `A` (RFC 3986 section 2.1); what is no text then is replaced.
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[(&str, &[&str])]) -> RouteTable {
        let found = patterns.iter().map(|(path, methods)| Found {
            pattern: Pattern::root().starlette(path),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            handler: None,
        });
        RouteTable::new(found.collect()).unwrap()
    }

    #[test]
    fn the_first_that_takes_path_and_method() {
        let table = table(&[
            ("/users/me", &[]),
            ("/users/{id:int}", &["GET"]),
            ("/users/{name}", &["DELETE"]),
            ("/odd/{x:unknown}/y", &[]),
            ("/odd/{rest:path}", &[]),
        ]);
        let find = |method, path| table.find(method, path).map(|route| route.pattern.clone());
        assert_eq!(find("GET", "/users/me").as_deref(), Some("/users/me"));
        assert_eq!(find("GET", "/users/7").as_deref(), Some("/users/{id}"));
        assert_eq!(find("HEAD", "/users/7").as_deref(), Some("/users/{id}"));
        assert_eq!(find("DELETE", "/users/7").as_deref(), Some("/users/{name}"));
        assert_eq!(find("DELETE", "/users/a%20b%2").as_deref(), Some("/users/{name}"));
        assert_eq!(find("POST", "/users/7"), None);
        assert_eq!(find("GET", "/users/7/"), None);
        // Behind one that is not understood nothing is known.
        assert_eq!(find("GET", "/odd/1/2"), None);
        assert_eq!(find("GET", "/"), None);
    }

    #[test]
    fn nothing_and_too_much() {
        assert!(RouteTable::new(Vec::new()).is_none());
        let many = vec![
            Found { pattern: Pattern::root().literal("x"), methods: Vec::new(), handler: None };
            MAX_ROUTES + 1
        ];
        assert!(RouteTable::new(many).is_none());
        let long = "(a{500}){500}".to_owned();
        let hostile = Found {
            pattern: Pattern::root().expression_of_django(&format!("^{long}$")),
            methods: Vec::new(),
            handler: None,
        };
        // Too much to compile: it takes whatever begins like it, and names nothing.
        let table = RouteTable::new(vec![hostile]).unwrap();
        assert_eq!(table.find("GET", "aaaa"), None);
    }
}
