//! Who is recorded: from what the user named to pids.

use crate::cli::Advice;
use crate::targets::{Discovery, ProcFs, Survey, printable};
use std::collections::{BTreeSet, HashMap};

/// Applications of this name; their pids.
pub(super) fn application(discovery: &mut Discovery, name: &str) -> anyhow::Result<Vec<u32>> {
    let survey = discovery.all()?;
    let pids: Vec<u32> = survey
        .applications
        .iter()
        .filter(|application| application.name == name)
        .flat_map(crate::targets::Application::pids)
        .collect();
    if pids.is_empty() { Err(unknown(name, &survey).into()) } else { Ok(pids) }
}

fn unknown(name: &str, survey: &Survey) -> Advice {
    let names: BTreeSet<&str> =
        survey.applications.iter().map(|application| application.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    Advice {
        what: format!("no Python application is called `{name}`"),
        hint: if names.is_empty() {
            "no Python application runs on this host".to_owned()
        } else {
            format!("these run: {}", names.join(", "))
        },
    }
}

/// All processes that these started, directly or through others, themselves left out. None if processes cannot be
/// listed.
pub(super) fn descendants(procfs: &ProcFs, roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for stat in procfs.pids().unwrap_or_default().into_iter().filter_map(|pid| procfs.stat(pid).ok()) {
        if !stat.is_zombie() {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let mut seen: BTreeSet<u32> = roots.iter().copied().collect();
    let mut queue = roots.to_vec();
    let mut found = Vec::new();
    while let Some(pid) = queue.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if seen.insert(child) {
                found.push(child);
                queue.push(child);
            }
        }
    }
    found
}

/// A process as a profile calls it.
pub(super) fn title(procfs: &ProcFs, pid: u32) -> Option<String> {
    let title = command(&procfs.cmdline(pid).ok()?);
    (!title.is_empty()).then_some(title)
}

/// A command line on one line and not endless; of the program only its name.
pub(super) fn command(words: &[String]) -> String {
    let mut line = String::new();
    if let Some((program, rest)) = words.split_first() {
        // A title that a server wrote over its command line is one word, with blanks.
        let is_path = program.starts_with(['/', '.']) && !program.contains(' ');
        let name = if is_path { program.rsplit('/').next() } else { None };
        line.push_str(name.unwrap_or(program));
        for word in rest {
            line.push(' ');
            line.push_str(word);
        }
    }
    let spaced: String = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    printable(&spaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_are_found() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let procfs = ProcFs::new();
        let found = descendants(&procfs, &[std::process::id()]);
        let title = title(&procfs, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()));
        assert!(!found.contains(&std::process::id()));
        // Before exec it has its parent's.
        assert!(title.is_some());
    }

    #[test]
    fn commands() {
        let command =
            |words: &[&str]| command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(command(&["/usr/bin/python3", "/srv/app.py", "-v"]), "python3 /srv/app.py -v");
        assert_eq!(command(&["gunicorn: master [shop/a]"]), "gunicorn: master [shop/a]");
        assert_eq!(command(&["python", "-c", "import a\nimport b"]), "python -c import a import b");
        assert_eq!(command(&[]), "");
    }

    #[test]
    fn unknown_name() {
        assert_eq!(unknown("shop", &Survey::default()).to_string(), "no Python application is called `shop`");
    }
}
