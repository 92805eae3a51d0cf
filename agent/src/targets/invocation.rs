//! What a command line or a title says: which server it starts, and what the application is called. Pure:
//! arguments and the working directory in, names out. All of it is text that the process may have chosen.

use super::application::Server;
use std::path::Path;

/// Longest name that is made of a command line.
const MAX_NAME: usize = 120;

/// A command line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invocation<'a> {
    program: Program<'a>,
    arguments: &'a [String],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program<'a> {
    Script(&'a str),
    Module(&'a str),
    /// `-c`, or an interpreter that reads its standard input.
    Code(&'a str),
    /// Not an interpreter with a script: an executable that embeds one.
    Executable(&'a str),
    /// One string that the process wrote over its arguments.
    Title(&'a str),
}

/// Long options of the servers that take no value. `--no-...` never does.
const FLAGS: [&str; 25] = [
    "--access-log",
    "--call",
    "--capture-output",
    "--check-config",
    "--daemon",
    "--debug",
    "--enable-stdio-inheritance",
    "--expose-tracebacks",
    "--factory",
    "--initgroups",
    "--master",
    "--preload",
    "--print-config",
    "--proxy-headers",
    "--proxy-protocol",
    "--reload",
    "--reset-contextvars",
    "--respawn-failed-workers",
    "--reuse-port",
    "--server-header",
    "--spew",
    "--use-colors",
    "-D",
    "-R",
    "-q",
];

impl<'a> Invocation<'a> {
    /// `None` when there is no command line.
    #[must_use]
    pub fn parse(cmdline: &'a [String]) -> Option<Self> {
        let (first, rest) = cmdline.split_first()?;
        if rest.is_empty() && first.contains(' ') {
            return Some(Self { program: Program::Title(first), arguments: &[] });
        }
        if !is_interpreter_name(base_name(first)) {
            return Some(Self { program: Program::Executable(first), arguments: rest });
        }
        let mut at = 0;
        while let Some(argument) = rest.get(at) {
            let after = rest.get(at + 1..).unwrap_or_default();
            match argument.as_str() {
                "-m" => return after.split_first().map(|(name, arguments)| Self::module(name, arguments)),
                "-c" => {
                    let (code, arguments) = after.split_first()?;
                    return Some(Self { program: Program::Code(code), arguments });
                }
                "-X" | "-W" | "--check-hash-based-pycs" => at += 2,
                "--" => at += 1,
                "-" => break,
                flag if flag.starts_with('-') => {
                    // Single-letter flags may be run together: `-um pkg.mod`.
                    let letters = flag.trim_start_matches('-');
                    if !flag.starts_with("--") && letters.ends_with('m') {
                        return after.split_first().map(|(name, rest)| Self::module(name, rest));
                    }
                    if !flag.starts_with("--") && letters.ends_with('c') {
                        let (code, arguments) = after.split_first()?;
                        return Some(Self { program: Program::Code(code), arguments });
                    }
                    at += 1;
                }
                script => return Some(Self { program: Program::Script(script), arguments: after }),
            }
        }
        Some(Self { program: Program::Code(""), arguments: &[] })
    }

    fn module(name: &'a str, arguments: &'a [String]) -> Self {
        Self { program: Program::Module(name), arguments }
    }

    /// The last part of the program's name, without `.py`: what the servers are recognised by.
    fn program_name(&self) -> &'a str {
        match self.program {
            Program::Script(path) => {
                let name = base_name(path);
                // `python /opt/gunicorn/__main__.py` and zip applications.
                if name == "__main__.py" {
                    return Path::new(path)
                        .parent()
                        .and_then(Path::file_name)
                        .and_then(|name| name.to_str())
                        .unwrap_or(name);
                }
                name.strip_suffix(".py").unwrap_or(name)
            }
            Program::Executable(path) => base_name(path),
            Program::Module(name) => name.strip_suffix(".__main__").unwrap_or(name),
            Program::Code(_) | Program::Title(_) => "",
        }
    }

    #[must_use]
    pub fn server(&self) -> Option<Server> {
        if let Program::Title(title) = self.program {
            return title_server(title);
        }
        let name = self.program_name();
        match name {
            "http.server" => return Some(Server::HttpServer),
            "manage" | "django" | "django-admin" => {
                let runs = self.arguments.iter().any(|argument| argument == "runserver");
                return runs.then_some(Server::DjangoRunserver);
            }
            _ => {}
        }
        match name.split('.').next().unwrap_or_default() {
            "gunicorn" | "gunicorn3" | "gunicorn_django" | "gunicorn_paster" => Some(Server::Gunicorn),
            "uwsgi" | "uwsgi-core" | "pyuwsgi" => Some(Server::Uwsgi),
            "uvicorn" => Some(Server::Uvicorn),
            "hypercorn" => Some(Server::Hypercorn),
            "waitress" | "waitress-serve" => Some(Server::Waitress),
            "daphne" => Some(Server::Daphne),
            "granian" => Some(Server::Granian),
            "celery" => Some(Server::Celery),
            _ => None,
        }
    }

    /// What the application is called. `None` when the command line says nothing: the executable's name is
    /// then all there is.
    #[must_use]
    pub fn application_name(&self, cwd: Option<&Path>) -> Option<String> {
        let name = match (self.server(), self.program) {
            (server, Program::Title(title)) => {
                title_application(server, title).or_else(|| server.and_then(|_| here(cwd)))
            }
            (Some(Server::HttpServer), _) => Some("http.server".to_owned()),
            (_, Program::Script(path)) if base_name(path) == "manage.py" => project_directory(path, cwd),
            (Some(Server::DjangoRunserver), _) => cwd.and_then(directory_name),
            (Some(Server::Celery), _) => self.option(&["-A", "--app"]).map(package).or_else(|| here(cwd)),
            (Some(Server::Gunicorn), _) => self
                .option(&["-n", "--name"])
                .map(str::to_owned)
                .or_else(|| self.target().map(package))
                .or_else(|| here(cwd)),
            (Some(Server::Uwsgi), _) => self
                .option(&["-w", "--module", "--wsgi"])
                .map(package)
                .or_else(|| self.option(&["--wsgi-file", "--file", "--ini", "--yaml"]).and_then(stem))
                .or_else(|| here(cwd)),
            (Some(_), _) => self.target().map(package).or_else(|| here(cwd)),
            (None, Program::Module("flask")) => self.option(&["-A", "--app"]).map(package),
            (None, Program::Script(path)) if base_name(path) == "flask" => {
                self.option(&["-A", "--app"]).map(package).or_else(|| here(cwd))
            }
            (None, Program::Module(name)) => Some(name.to_owned()),
            (None, Program::Script(path)) if base_name(path) == "__main__.py" => project_directory(path, cwd),
            (None, Program::Script(path)) => stem(path),
            (None, Program::Executable(path)) => Some(base_name(path).to_owned()),
            (None, Program::Code(_)) => None,
        };
        name.map(|name| printable(&name)).filter(|name| !name.is_empty())
    }

    /// A process that `multiprocessing` or a library of the same design started by exec, on behalf of its
    /// parent: spawned workers, the fork server and the resource tracker. CPython
    /// Lib/multiprocessing/{spawn,forkserver,resource_tracker}.py run them as `python -c "from
    /// multiprocessing.spawn import spawn_main; ..."`; billiard (Celery) and loky (joblib) do alike.
    #[must_use]
    pub fn is_spawned_helper(&self) -> bool {
        const PACKAGES: [&str; 3] = ["multiprocessing", "billiard", "loky"];
        const ENTRIES: [&str; 5] =
            ["spawn", "forkserver", "resource_tracker", "semaphore_tracker", "popen_loky_posix"];
        let from = |text: &str| {
            // joblib carries its own copy: `joblib.externals.loky`.
            let text = text.strip_prefix("joblib.externals.").unwrap_or(text);
            let mut parts = text.split('.');
            parts.next().is_some_and(|package| PACKAGES.contains(&package))
                && parts.any(|part| ENTRIES.contains(&part))
        };
        match self.program {
            Program::Code(code) => {
                code.strip_prefix("from ").and_then(|code| code.split(' ').next()).is_some_and(from)
            }
            Program::Module(name) => from(name),
            _ => false,
        }
    }

    /// The server that wrote this title over its arguments.
    #[must_use]
    pub fn titled_server(&self) -> Option<Server> {
        match self.program {
            Program::Title(title) => title_server(title),
            _ => None,
        }
    }

    /// Whether a program is named at all, other than code given on the command line: two processes that
    /// share such a command line, one started by the other, are an auto-reloader and its child.
    #[must_use]
    pub fn names_program(&self) -> bool {
        matches!(self.program, Program::Script(_) | Program::Module(_))
    }

    /// The value of the first of these options that is there, as `--name value`, `--name=value` or `-nvalue`.
    fn option(&self, names: &[&str]) -> Option<&'a str> {
        self.arguments.iter().enumerate().find_map(|(at, argument)| {
            names.iter().find_map(|name| {
                let rest = argument.strip_prefix(name)?;
                if rest.is_empty() {
                    return self.arguments.get(at + 1).map(String::as_str);
                }
                if name.starts_with("--") { rest.strip_prefix('=') } else { Some(rest) }
            })
        })
    }

    /// `shop.wsgi:application` among the arguments: one that can only be that, else the first that stands
    /// where no option takes it.
    fn target(&self) -> Option<&'a str> {
        let sure = self.arguments.iter().find(|argument| is_target(argument));
        if let Some(sure) = sure {
            return Some(sure);
        }
        let mut taken = false;
        self.arguments.iter().map(String::as_str).find(|argument| {
            let was_taken = std::mem::take(&mut taken);
            if argument.starts_with('-') {
                taken = !argument.contains('=')
                    && !argument.starts_with("--no-")
                    && !FLAGS.contains(argument)
                    // `-w4`
                    && (argument.starts_with("--") || argument.len() == 2);
                return false;
            }
            !was_taken && is_module(argument)
        })
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A command line as it was given. When `setproctitle` is imported it joins all words by blanks, and so they stay until a
/// title is set, which may be never; a title does not begin with an interpreter's name.
pub(super) fn as_given(cmdline: Vec<String>) -> Vec<String> {
    match &cmdline[..] {
        [one]
            if one
                .split(' ')
                .next()
                .is_some_and(|first| first != one && is_interpreter_name(base_name(first))) =>
        {
            one.split_ascii_whitespace().map(str::to_owned).collect()
        }
        _ => cmdline,
    }
}

/// `python`, `python3`, `python3.11`, `python3.11-dbg`, `-python`.
fn is_interpreter_name(name: &str) -> bool {
    name.trim_start_matches('-').strip_prefix("python").is_some_and(|rest| {
        rest.trim_end_matches("-dbg").chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'd' | 't'))
    })
}

/// `module:name` or `module:name(...)`: nothing but what a server is to serve.
fn is_target(text: &str) -> bool {
    text.split_once(':').is_some_and(|(module, name)| {
        is_module(module) && is_module(name.split('(').next().unwrap_or_default())
    })
}

/// Dotted identifiers.
fn is_module(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|part| {
            let mut letters = part.chars();
            letters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
                && letters.all(|c| c.is_alphanumeric() || c == '_')
        })
}

/// `shop.wsgi:application` is `shop`; a path (`./shop/app.py`) is its stem.
fn package(target: &str) -> String {
    if target.contains('/') {
        return stem(target).unwrap_or_else(|| target.to_owned());
    }
    let module = target.split(':').next().unwrap_or(target);
    module.split('.').find(|part| !part.is_empty()).unwrap_or(module).to_owned()
}

fn stem(path: &str) -> Option<String> {
    Some(Path::new(path).file_stem()?.to_str()?.to_owned())
}

fn directory_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn here(cwd: Option<&Path>) -> Option<String> {
    cwd.and_then(directory_name)
}

/// Of the directory that a script lies in.
fn project_directory(script: &str, cwd: Option<&Path>) -> Option<String> {
    let path = cwd.unwrap_or(Path::new("")).join(script);
    let mut directory = path.parent()?;
    while directory.file_name().is_none() && directory.parent().is_some() {
        directory = directory.parent()?;
    }
    directory_name(directory).or_else(|| stem(script))
}

/// gunicorn writes `gunicorn: master [NAME]` (gunicorn/util.py, `_setproctitle`), Celery `[celeryd:
/// NODE:MainProcess] -active- (ARGUMENTS)` (celery/platforms.py), uWSGI `uWSGI master` (core/uwsgi.c), Granian
/// `granian wsgi HOST:PORT TARGET` (granian/server/common.py).
fn title_server(title: &str) -> Option<Server> {
    if title.starts_with("gunicorn: ") {
        Some(Server::Gunicorn)
    } else if title.starts_with("[celeryd: ") || title.starts_with("[celery") {
        Some(Server::Celery)
    } else if title.starts_with("uWSGI ") {
        Some(Server::Uwsgi)
    } else if title.starts_with("granian ") {
        Some(Server::Granian)
    } else {
        None
    }
}

fn title_application(server: Option<Server>, title: &str) -> Option<String> {
    match server {
        Some(Server::Gunicorn) => {
            let (_, rest) = title.split_once('[')?;
            Some(package(rest.split(']').next()?))
        }
        Some(Server::Celery) => {
            let mut words = title.split([' ', '(', ')']);
            let value = words.find_map(|word| {
                word.strip_prefix("--app=").or_else(|| word.strip_prefix("-A")).map(str::to_owned)
            })?;
            let value = if value.is_empty() { words.next()?.to_owned() } else { value };
            Some(package(&value))
        }
        Some(_) => title.split(' ').find(|word| is_target(word)).map(package),
        None => title.split(' ').next().map(|word| word.trim_end_matches(':').to_owned()),
    }
}

/// Nothing that a terminal would act on, and not endless.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
