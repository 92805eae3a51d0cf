//! What a transaction is called: by its framework's own route where that is known, else by its path, with what is learned of the
//! application's paths on the way. Bounded in any case: a visitor can invent paths, but not names.

use super::name::{self, Names};
use crate::frameworks::{Route, RouteTable};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Different words in one place of a path, below the same beginning, that are taken for the application's own. With more
/// of them the place holds a value.
const MOST_WORDS: usize = 100;
/// The same for the first place, where large applications have many words of their own.
const MOST_FIRST_WORDS: usize = 300;
/// Beginnings of paths that are remembered.
const MOST_PLACES: usize = 4096;
/// Bytes of a beginning that is remembered.
const LONGEST_PLACE: usize = 256;
/// What stands for a word that was one of too many.
const VALUE: &str = "{value}";

/// Name and route of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub route: Option<Arc<Route>>,
}

#[derive(Debug)]
pub struct Naming {
    routes: Option<RouteTable>,
    learned: Learned,
    names: Names,
    /// Requests that were answered, and by no route that is known.
    missed: u64,
}

impl Naming {
    #[must_use]
    pub fn new(most_names: usize) -> Self {
        Self { routes: None, learned: Learned::default(), names: Names::new(most_names), missed: 0 }
    }

    pub fn set_routes(&mut self, routes: Option<RouteTable>) {
        self.routes = routes;
    }

    /// Requests since the start that a better table of routes might have named.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Names a request that has been answered.
    pub fn name(&mut self, method: &str, path: Option<&str>, status: Option<u16>) -> Named {
        if let Some(route) = self.route(method, path) {
            let name = self.names.admit(format!("{method} {}", route.pattern));
            return Named { name, route: Some(route) };
        }
        let path = path.map(name::of_path);
        if status != Some(404) && path.is_some() {
            self.missed += 1;
        }
        let path = match (path, status) {
            (Some(path), Some(404)) => Some(path),
            (Some(path), _) => Some(self.learned.collapse(&path)),
            (None, _) => None,
        };
        Named { name: self.names.admit(name::of_request(method, path.as_deref(), status)), route: None }
    }

    /// Names a task, which the application has done already.
    pub fn task(&mut self, name: &str) -> Named {
        Named { name: self.names.admit(name.to_owned()), route: None }
    }

    /// The name of a request that has not been answered yet.
    #[must_use]
    pub fn provisional(&self, method: &str, path: Option<&str>) -> String {
        match self.route(method, path) {
            Some(route) => format!("{method} {}", route.pattern),
            None => name::of_request(method, path.map(name::of_path).as_deref(), None),
        }
    }

    fn route(&self, method: &str, path: Option<&str>) -> Option<Arc<Route>> {
        self.routes.as_ref()?.find(method, path?)
    }
}

/// Which words the places of paths have had.
#[derive(Debug, Default)]
struct Learned {
    /// By the beginning of the path, with its own values collapsed; `None` once there were too many.
    places: HashMap<String, Option<HashSet<String>>>,
}

impl Learned {
    fn collapse(&mut self, path: &str) -> String {
        let Some(rest) = path.strip_prefix('/') else { return path.to_owned() };
        let mut name = String::with_capacity(path.len());
        for (index, segment) in rest.split('/').enumerate() {
            let is_word = !segment.is_empty() && !segment.starts_with('{');
            let most = if index == 0 { MOST_FIRST_WORDS } else { MOST_WORDS };
            let keep = !is_word || self.is_kept(&name, segment, most);
            name.push('/');
            name.push_str(if keep { segment } else { VALUE });
        }
        name
    }

    fn is_kept(&mut self, before: &str, word: &str, most: usize) -> bool {
        if before.len() > LONGEST_PLACE
            || (self.places.len() >= MOST_PLACES && !self.places.contains_key(before))
        {
            return false;
        }
        let place = self.places.entry(before.to_owned()).or_insert_with(|| Some(HashSet::new()));
        let Some(words) = place else { return false };
        if words.contains(word) {
            return true;
        }
        if words.len() >= most {
            *place = None;
            return false;
        }
        words.insert(word.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transactions::name::OTHER;

    #[test]
    fn words_that_are_values_collapse() {
        let mut naming = Naming::new(500);
        let mut names = HashSet::new();
        for index in 0..5_000 {
            // Words without digits, which the path alone does not give away.
            let word: String =
                format!("{index:05}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            names.insert(naming.name("GET", Some(&format!("/blog/{word}")), Some(200)).name);
        }
        assert!(names.len() <= MOST_WORDS + 1, "{}", names.len());
        assert_eq!(naming.name("GET", Some("/blog/aaaaa"), Some(200)).name, "GET /blog/{value}");
        assert_eq!(naming.name("GET", Some("/about"), Some(200)).name, "GET /about");
        assert_eq!(naming.missed(), 5_002);
    }

    #[test]
    fn a_scanner_makes_one_name() {
        let mut naming = Naming::new(500);
        let names: HashSet<String> = (0..10_000)
            .map(|index| naming.name("GET", Some(&format!("/x{index}/y/{index}.php")), Some(404)).name)
            .collect();
        assert_eq!(names.len(), 1);
        assert!(naming.learned.places.is_empty());
    }

    /// An application that answers everything, and whose routes cannot be read.
    #[test]
    fn a_scanner_that_is_answered_makes_few_names() {
        let mut naming = Naming::new(500);
        let mut state = 1_u64;
        let mut word = || -> String {
            (0..6)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    char::from(b'a' + (state >> 40) as u8 % 26)
                })
                .collect()
        };
        let names: HashSet<String> = (0..10_000)
            .map(|_| naming.name("GET", Some(&format!("/{}/{}/{}", word(), word(), word())), Some(200)).name)
            .collect();
        // Those in the overflow's name included.
        assert!(names.len() <= 501, "{}", names.len());
        assert!(naming.learned.places.len() <= MOST_PLACES);
        assert_eq!(naming.name("GET", Some("/never/seen/before"), Some(200)).name, OTHER);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut naming = Naming::new(500);
        for a in 0..200_u32 {
            for b in 0..60_u32 {
                let letters = |number: u32| -> String {
                    format!("{number:03}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
                };
                let path = format!("/{}/{}/{}", letters(a), letters(b), letters(a ^ b));
                let _named = naming.name("GET", Some(&path), Some(200));
            }
        }
        assert!(naming.learned.places.len() <= MOST_PLACES);
        assert!(naming.learned.places.values().flatten().all(|words| words.len() <= MOST_FIRST_WORDS));
    }
}
