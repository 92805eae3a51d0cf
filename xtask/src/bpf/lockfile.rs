//! Reads `Cargo.lock` far enough to tell which versions a package is built with: the packages reachable from
//! it. Not a TOML parser: cargo writes this file itself, in one layout.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    checksum: String,
    /// `name`, or `name version` where the lock file holds several versions of it.
    dependencies: Vec<String>,
}

/// `name version checksum`, one for each package reachable from `start` (itself included), sorted.
#[must_use]
pub fn closure(lock: &str, start: &str) -> Vec<String> {
    let packages = parse(lock);
    let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &packages {
        by_name.entry(&package.name).or_default().push(package);
    }
    let mut open = vec![start.to_owned()];
    let mut seen = BTreeSet::new();
    let mut lines = BTreeSet::new();
    while let Some(wanted) = open.pop() {
        if !seen.insert(wanted.clone()) {
            continue;
        }
        let mut words = wanted.split(' ');
        let name = words.next().unwrap_or_default();
        let version = words.next();
        for package in by_name.get(name).into_iter().flatten() {
            if version.is_some_and(|version| version != package.version) {
                continue;
            }
            lines.insert(format!("{} {} {}", package.name, package.version, package.checksum));
            open.extend(package.dependencies.iter().cloned());
        }
    }
    lines.into_iter().collect()
}

fn parse(lock: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in lock.lines() {
        if line == "[[package]]" {
            packages.push(Package::default());
            continue;
        }
        let Some(package) = packages.last_mut() else { continue };
        if let Some(item) = line.strip_prefix(" \"") {
            package.dependencies.push(item.trim_end_matches(',').trim_end_matches('"').to_owned());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.trim_matches('"').to_owned();
            match key {
                "name" => package.name = value,
                "version" => package.version = value,
                "checksum" => package.checksum = value,
                _ => {}
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "kernel"
version = "0.1.0"
dependencies = [
 "aya-ebpf",
 "syn 2.0.0",
]

[[package]]
name = "aya-ebpf"
version = "0.2.1"
checksum = "aa"

[[package]]
name = "syn"
version = "1.0.0"
checksum = "bb"

[[package]]
name = "syn"
version = "2.0.0"
checksum = "cc"

[[package]]
name = "tokio"
version = "1.0.0"
checksum = "dd"
"#;

    #[test]
    fn only_what_is_reachable_in_the_version_that_is_meant() {
        assert_eq!(closure(LOCK, "kernel"), ["aya-ebpf 0.2.1 aa", "kernel 0.1.0 ", "syn 2.0.0 cc"]);
    }

    #[test]
    fn a_package_that_is_not_there_has_no_closure() {
        assert!(closure(LOCK, "nothing").is_empty());
    }
}
