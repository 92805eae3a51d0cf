//! An application as its owner sees it: a master and its workers under one name. Plain data; how it is
//! found is [`discover`](super::discover)'s matter, how its name is told [`invocation`](super::invocation)'s.

use super::process::ProcessKey;

/// What serves the application, where its command line or title tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    Gunicorn,
    Uwsgi,
    Uvicorn,
    Hypercorn,
    Waitress,
    Daphne,
    Granian,
    Celery,
    DjangoRunserver,
    HttpServer,
}

impl Server {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gunicorn => "gunicorn",
            Self::Uwsgi => "uwsgi",
            Self::Uvicorn => "uvicorn",
            Self::Hypercorn => "hypercorn",
            Self::Waitress => "waitress",
            Self::Daphne => "daphne",
            Self::Granian => "granian",
            Self::Celery => "celery",
            Self::DjangoRunserver => "django runserver",
            Self::HttpServer => "http.server",
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// One process of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub key: ProcessKey,
    pub is_master: bool,
    /// As the process shows it: text that it may have written itself.
    pub cmdline: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Printable, at most 120 characters.
    pub name: String,
    pub server: Option<Server>,
    pub master: ProcessKey,
    /// The master first, then in ascending order of pid.
    pub members: Vec<Member>,
}

impl Application {
    /// The master's first, then ascending.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.key.pid).collect()
    }
}
