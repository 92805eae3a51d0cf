//! Which applications are watched: the rules of the configuration, ready to be asked. They decide on what was read, and read
//! nothing themselves.

use super::application::Application;
use super::listening::Listening;
use super::residence::Residence;
use crate::config;
use globset::GlobSet;

/// What rules go by: the traits of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Each process: its executable and its command line.
    pub processes: Vec<(String, String)>,
    /// The master's.
    pub residence: Residence,
    /// All processes' together.
    pub listening: Listening,
    /// The master's variables that rules ask for, as name and value.
    pub environment: Vec<(String, String)>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Watch {
        /// By the rule; `None` when it says none.
        name: Option<String>,
    },
    Leave,
}

/// Compiled rules.
#[derive(Debug, Default)]
pub struct Rules {
    every_server: bool,
    include: Vec<Rule>,
    exclude: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    name: Option<String>,
    /// `None`: whatever it is.
    executable: Option<GlobSet>,
    command: Option<GlobSet>,
    cgroup: Option<GlobSet>,
    container: Option<GlobSet>,
    unit: Option<GlobSet>,
    user: Option<GlobSet>,
    ports: Vec<u16>,
    environment: Vec<(String, GlobSet)>,
}

impl Rules {
    /// # Errors
    /// When a pattern is none, which the check of the configuration has ruled out.
    pub fn new(settings: &config::Discovery) -> Result<Self, globset::Error> {
        let all = |rules: &[config::Rule]| rules.iter().map(Rule::new).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            every_server: settings.every_server,
            include: all(&settings.include)?,
            exclude: all(&settings.exclude)?,
        })
    }

    /// Variables that some rule asks for.
    #[must_use]
    pub fn variables(&self) -> Vec<&str> {
        let rules = self.include.iter().chain(&self.exclude);
        rules.flat_map(|rule| rule.environment.iter().map(|(name, _)| name.as_str())).collect()
    }

    /// Whether a process that neither listens nor is known for a server by its command line may be watched at all:
    /// without, nobody need read the rest of it.
    #[must_use]
    pub fn may_watch_others(&self) -> bool {
        !self.include.is_empty()
    }

    #[must_use]
    pub fn verdict(&self, application: &Application, traits: &Traits) -> Verdict {
        if self.exclude.iter().any(|rule| rule.fits(traits)) {
            return Verdict::Leave;
        }
        if self.include.is_empty() {
            let is_server = application.server.is_some() || traits.listening.is_any();
            return if self.every_server && is_server {
                Verdict::Watch { name: None }
            } else {
                Verdict::Leave
            };
        }
        match self.include.iter().find(|rule| rule.fits(traits)) {
            Some(rule) => Verdict::Watch { name: rule.name.clone() },
            None => Verdict::Leave,
        }
    }
}

impl Rule {
    fn new(rule: &config::Rule) -> Result<Self, globset::Error> {
        let set = |patterns: &config::Patterns| {
            if patterns.is_empty() { Ok(None) } else { patterns.compiled().map(Some) }
        };
        let environment =
            rule.environment.iter().map(|(name, patterns)| Ok((name.clone(), patterns.compiled()?)));
        Ok(Self {
            name: rule.name.clone(),
            executable: set(&rule.executable)?,
            command: set(&rule.command)?,
            cgroup: set(&rule.cgroup)?,
            container: set(&rule.container)?,
            unit: set(&rule.unit)?,
            user: set(&rule.user)?,
            ports: rule.port.clone(),
            environment: environment.collect::<Result<_, globset::Error>>()?,
        })
    }

    fn fits(&self, traits: &Traits) -> bool {
        let one = |set: &Option<GlobSet>, value: Option<&String>| {
            set.as_ref().is_none_or(|set| value.is_some_and(|value| set.is_match(value)))
        };
        let residence = &traits.residence;
        one(&self.cgroup, residence.cgroup.as_ref())
            && one(&self.container, residence.container.as_ref())
            && one(&self.unit, residence.unit.as_ref())
            && self.user.as_ref().is_none_or(|set| residence.users.iter().any(|user| set.is_match(user)))
            && (self.ports.is_empty() || self.ports.iter().any(|port| traits.listening.ports.contains(port)))
            && self.environment.iter().all(|(name, set)| {
                traits.environment.iter().any(|(known, value)| known == name && set.is_match(value))
            })
            && traits.processes.iter().any(|(executable, command)| {
                one(&self.executable, Some(executable)) && one(&self.command, Some(command))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::{ProcessKey, Server};

    fn rules(text: &str) -> Rules {
        Rules::new(&config::parse(text).unwrap().discovery).unwrap()
    }

    fn shop(server: Option<Server>) -> Application {
        let master = ProcessKey { pid: 7, start_time: 1 };
        Application { name: "shop".to_owned(), server, master, members: Vec::new() }
    }

    fn traits() -> Traits {
        let process = |command: &str| ("/srv/shop/venv/bin/python3.11".to_owned(), command.to_owned());
        Traits {
            processes: vec![process("gunicorn: master [shop]"), process("gunicorn: worker [shop]")],
            residence: Residence {
                cgroup: Some("/system.slice/shop.service".to_owned()),
                unit: Some("shop.service".to_owned()),
                container: None,
                pod: None,
                users: vec!["33".to_owned(), "www-data".to_owned()],
            },
            listening: Listening { ports: [8000].into(), unix: false },
            environment: vec![("STAGE".to_owned(), "production-3".to_owned())],
        }
    }

    fn watched(text: &str) -> bool {
        rules(text).verdict(&shop(None), &traits()) != Verdict::Leave
    }

    #[test]
    fn by_default_servers_are_watched_and_nothing_else() {
        let rules = rules("");
        let watch = Verdict::Watch { name: None };
        assert_eq!(rules.verdict(&shop(None), &traits()), watch);
        assert_eq!(rules.verdict(&shop(None), &Traits::default()), Verdict::Leave);
        assert_eq!(rules.verdict(&shop(Some(Server::Celery)), &Traits::default()), watch);
        assert!(!rules.may_watch_others());
        assert!(!watched("[discovery]\nevery_server = false\n"));
    }

    #[test]
    fn every_key_decides() {
        for (key, yes, no) in [
            ("executable", "'/srv/shop/*'", "'/usr/bin/python3*'"),
            ("command", "'*worker [[]shop]'", "'*celery*'"),
            ("cgroup", "'/system.slice/*'", "'/user.slice/*'"),
            ("unit", "['x.service', 'shop.service']", "'x.service'"),
            ("user", "'www-data'", "'root'"),
            ("user", "'33'", "'0'"),
            ("port", "[1, 8000]", "[1]"),
            ("environment", "{ STAGE = 'production*' }", "{ STAGE = 'test' }"),
            ("environment", "{ STAGE = 'production*' }", "{ STAGE = 'production*', B = '*' }"),
        ] {
            assert!(watched(&format!("[[discovery.include]]\n{key} = {yes}\n")), "{key} = {yes}");
            assert!(!watched(&format!("[[discovery.include]]\n{key} = {no}\n")), "{key} = {no}");
            assert!(!watched(&format!("[[discovery.exclude]]\n{key} = {yes}\n")), "{key} = {yes}");
            assert!(watched(&format!("[[discovery.exclude]]\n{key} = {no}\n")), "{key} = {no}");
        }
        assert!(!watched("[[discovery.include]]\ncontainer = '*'\n"), "unknown fits nothing");
        assert!(!watched("[[discovery.include]]\nuser = 'www-data'\nport = [1]\n"), "all keys must fit");
    }

    #[test]
    fn the_first_table_that_fits_gives_the_name() {
        let text =
            "[[discovery.include]]\nuser = 'x'\nname = 'a'\n[[discovery.include]]\nuser = '*'\nname = 'b'\n";
        let verdict = rules(text).verdict(&shop(None), &traits());
        assert_eq!(verdict, Verdict::Watch { name: Some("b".to_owned()) });
        assert_eq!(rules("[[discovery.exclude]]\nenvironment = { A = 'b' }\n").variables(), ["A"]);
    }
}
