//! `[discovery]`: which applications are watched.

use super::patterns::Patterns;
use super::section::{Checked, Wrong, section};
use std::collections::BTreeMap;

section! {
    /// Which applications are watched: of the Python applications that are servers, or of all that an `include` table names,
    /// those that no `exclude` table names. A table names an application when each of its keys fits the master, or any
    /// process that it started; where a key has a list, one of its entries must. `*` and `?` stand for any characters.
    pub struct Discovery {
        /// Without any `include` table: watch every Python process that listens on a TCP port or a unix socket, or whose
        /// command line is that of a known server or worker (gunicorn, uvicorn, uwsgi, celery, ...).
        every_server: bool = true,
        /// Applications that are watched at one time; more are left out, and counted.
        max_applications: u32 = 256,
        /// How long an application that has ended stays listed, in seconds. When it starts again before that, it goes
        /// on as the same one.
        keep_ended_seconds: u32 = 600,
        /// Watch these. The first table that fits gives the name.
        include: Vec<Rule> = Vec::new(); of Rule,
        /// Do not watch these, whatever `include` says.
        exclude: Vec<Rule> = Vec::new(); of Rule,
    }
}

section! {
    /// One table of `include` or `exclude`.
    pub struct Rule {
        /// What the application is called; else the name is made of `OTEL_SERVICE_NAME` or of the command line.
        name: Option<String> = None => "\"shop\"",
        /// The path of the executable.
        executable: Patterns = Patterns::default() => "\"/srv/shop/venv/bin/*\"",
        /// The command line, its words joined by blanks.
        command: Patterns = Patterns::default() => "\"*gunicorn*shop.wsgi*\"",
        /// The control group, as in `/proc/PID/cgroup`.
        cgroup: Patterns = Patterns::default() => "\"/system.slice/*\"",
        /// The container, as its runtime numbers it: a prefix with `*` will do.
        container: Patterns = Patterns::default() => "\"3f2a9c*\"",
        /// The systemd unit.
        unit: Patterns = Patterns::default() => "[\"shop.service\", \"shop@*.service\"]",
        /// The user that it runs as: a name, or a number.
        user: Patterns = Patterns::default() => "\"www-data\"",
        /// A TCP port that it listens on.
        port: Vec<u16> = Vec::new() => "[8000, 8001]",
        /// Variables of the environment that it was started with.
        environment: BTreeMap<String, Patterns> = BTreeMap::new() => "{ DEPLOYMENT = \"production\" }",
    }
}

impl Rule {
    /// The patterns by key, for whoever compiles them.
    #[must_use]
    pub fn patterns(&self) -> [(&'static str, &Patterns); 6] {
        [
            ("executable", &self.executable),
            ("command", &self.command),
            ("cgroup", &self.cgroup),
            ("container", &self.container),
            ("unit", &self.unit),
            ("user", &self.user),
        ]
    }

    fn check(&self) -> Vec<Wrong> {
        let mut wrong: Vec<Wrong> = self
            .patterns()
            .into_iter()
            .filter_map(|(key, patterns)| Some(Wrong::key(key, patterns.wrong()?)))
            .chain(self.environment.iter().filter_map(|(name, patterns)| {
                let path = vec!["environment".to_owned(), name.clone()];
                Some(Wrong { path, message: patterns.wrong()? })
            }))
            .collect();
        let names_nothing = Self { name: None, ..self.clone() } == Self::default();
        if names_nothing {
            wrong.push(Wrong { path: Vec::new(), message: "a table that fits everything".to_owned() });
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 120) {
            wrong.push(Wrong::key("name", "not a name of 1 to 120 bytes"));
        }
        wrong
    }
}

impl Checked for Discovery {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !(1..=65_536).contains(&self.max_applications) {
            wrong.push(Wrong::key("max_applications", "not from 1 to 65536"));
        }
        for (list, rules) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (place, rule) in rules.iter().enumerate() {
                wrong.extend(rule.check().into_iter().map(|mut one| {
                    one.path.splice(0..0, [list.to_owned(), place.to_string()]);
                    one
                }));
            }
        }
        wrong
    }
}
