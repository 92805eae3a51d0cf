//! Command lines as they are seen in the field, and what is made of them.

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Name and server of a command line, run in `/srv/project`.
fn told(text: &str) -> (Option<String>, Option<Server>) {
    of(&words(text))
}

fn of(cmdline: &[String]) -> (Option<String>, Option<Server>) {
    let invocation = Invocation::parse(cmdline).unwrap();
    (invocation.application_name(Some(Path::new("/srv/project"))), invocation.server())
}

#[test]
fn servers_and_names() {
    use Server::*;
    for (line, name, server) in [
        ("/usr/bin/python3 /usr/local/bin/gunicorn shop.wsgi:application", "shop", Some(Gunicorn)),
        ("/venv/bin/python /venv/bin/gunicorn -w 4 -k gevent shop.wsgi", "shop", Some(Gunicorn)),
        ("gunicorn --reload -b 127.0.0.1:8000 --workers 4 shop", "shop", Some(Gunicorn)),
        ("python -m gunicorn -b localhost:8000 shop.wsgi:app(debug=1)", "shop", Some(Gunicorn)),
        ("python3.11 /v/bin/gunicorn -c conf.py", "project", Some(Gunicorn)),
        ("python3.11 /v/bin/gunicorn -c conf.py -n till shop.wsgi", "till", Some(Gunicorn)),
        ("python3 /v/bin/gunicorn -w4 --bind=unix:/run/x.sock shop.wsgi", "shop", Some(Gunicorn)),
        ("python3 /v/bin/uvicorn app.main:app --workers 4", "app", Some(Uvicorn)),
        ("python3 -m uvicorn --port 80 --factory site.api:create", "site", Some(Uvicorn)),
        ("python -m hypercorn -k uvloop shop.asgi:application", "shop", Some(Hypercorn)),
        ("python /v/bin/waitress-serve --listen=*:80 --call shop:create", "shop", Some(Waitress)),
        ("python /v/bin/daphne -b 0.0.0.0 -p 80 chat.asgi:application", "chat", Some(Daphne)),
        ("/v/bin/python /v/bin/granian --interface asgi main:app", "main", Some(Granian)),
        ("python -m celery -A proj worker -l info", "proj", Some(Celery)),
        ("/v/bin/python3 /v/bin/celery --app=proj.celery:app worker", "proj", Some(Celery)),
        ("celery -Aproj beat", "proj", Some(Celery)),
        ("celery worker", "project", Some(Celery)),
        ("python manage.py runserver 0:8000", "project", Some(DjangoRunserver)),
        ("python -u ./manage.py runserver", "project", Some(DjangoRunserver)),
        ("python /srv/till/manage.py runserver", "till", Some(DjangoRunserver)),
        ("python /srv/till/manage.py qcluster", "till", None),
        ("python -m django runserver", "project", Some(DjangoRunserver)),
        ("python -m http.server 8080", "http.server", Some(HttpServer)),
        ("/usr/bin/uwsgi --http :80 --module shop.wsgi --master", "shop", Some(Uwsgi)),
        ("uwsgi --ini /etc/uwsgi/till.ini", "till", Some(Uwsgi)),
        ("uwsgi -w shop.wsgi:application", "shop", Some(Uwsgi)),
        ("python -m flask --app shop run", "shop", None),
        ("python -m pkg.mod", "pkg.mod", None),
        ("python -um pkg.mod -c x", "pkg.mod", None),
        ("python -X dev -W error -u script.py --port 80", "script", None),
        ("python3.13t script.py", "script", None),
        ("/opt/app/bin/embedding --option", "embedding", None),
        ("python /srv/tool/__main__.py", "tool", None),
    ] {
        assert_eq!(told(line), (Some(name.to_owned()), server), "{line}");
    }
}

#[test]
fn titles() {
    for (title, name, server) in [
        ("gunicorn: master [shop]", Some("shop"), Some(Server::Gunicorn)),
        ("gunicorn: worker [shop.wsgi:application]", Some("shop"), Some(Server::Gunicorn)),
        ("gunicorn: master", Some("project"), Some(Server::Gunicorn)),
        ("granian wsgi 127.0.0.1:80 shop.wsgi:app worker-1", Some("shop"), Some(Server::Granian)),
        (
            "[celeryd: celery@host:MainProcess] -active- (--app=proj worker)",
            Some("proj"),
            Some(Server::Celery),
        ),
        (
            "[celeryd: celery@host:MainProcess] -active- (worker -A proj -l info)",
            Some("proj"),
            Some(Server::Celery),
        ),
        ("[celeryd: celery@host:ForkPoolWorker-1]", Some("project"), Some(Server::Celery)),
        ("uWSGI worker 1", Some("project"), Some(Server::Uwsgi)),
        ("my daemon: idle", Some("my"), None),
    ] {
        let (found, by) = of(&[title.to_owned()]);
        assert_eq!((found.as_deref(), by), (name, server), "{title}");
    }
}

#[test]
fn nothing_to_tell() {
    assert_eq!(Invocation::parse(&[]), None);
    assert_eq!(told("python3"), (None, None));
    assert_eq!(of(&["python3".to_owned(), "-c".to_owned(), "import x".to_owned()]), (None, None));
    assert_eq!(Invocation::parse(&words("python3 -m")), None);
    assert_eq!(Invocation::parse(&words("python3 -c")), None);
    assert_eq!(of(&[String::new()]), (None, None));
}

#[test]
fn spawned_helpers() {
    for code in [
        "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)",
        "from multiprocessing.resource_tracker import main;main(4)",
        "from multiprocessing.forkserver import main; main(6, 7, ['__main__'], **{})",
        "from multiprocessing.semaphore_tracker import main;main(4)",
        "from billiard.spawn import spawn_main; spawn_main()",
    ] {
        let cmdline = ["/usr/bin/python3", "-c", code, "--multiprocessing-fork"].map(str::to_owned);
        assert!(Invocation::parse(&cmdline).unwrap().is_spawned_helper(), "{code}");
    }
    for module in ["loky.backend.popen_loky_posix", "joblib.externals.loky.backend.popen_loky_posix"] {
        let cmdline = words(&format!("python -m {module} --process-name LokyProcess-1 --pipe 9"));
        assert!(Invocation::parse(&cmdline).unwrap().is_spawned_helper(), "{module}");
    }
    for code in ["import multiprocessing.spawn", "from shop import spawn", ""] {
        let cmdline = ["python3", "-c", code].map(str::to_owned);
        assert!(!Invocation::parse(&cmdline).unwrap().is_spawned_helper(), "{code}");
    }
}

#[test]
fn hostile_names_are_tamed() {
    assert_eq!(printable("\u{1b}[31mred\n\u{7}"), "[31mred");
    assert_eq!(printable(&"x".repeat(1000)).len(), 120);
    let (name, _) = of(&["python3".to_owned(), "a\u{1b}[2Jb.py".to_owned()]);
    assert_eq!(name.as_deref(), Some("a[2Jb"));
}

#[test]
fn words_that_were_joined_for_a_title_are_told_from_a_title() {
    let given = |line: &[&str]| as_given(line.iter().map(|word| (*word).to_owned()).collect());
    let joined = given(&["/srv/venv/bin/python /srv/venv/bin/gunicorn shop.wsgi -b :80"]);
    assert_eq!(joined, ["/srv/venv/bin/python", "/srv/venv/bin/gunicorn", "shop.wsgi", "-b", ":80"]);
    assert_eq!(Invocation::parse(&joined).unwrap().application_name(None).as_deref(), Some("shop"));
    for title in ["gunicorn: master [shop]", "/usr/sbin/uwsgi worker", "python"] {
        assert_eq!(given(&[title]), [title]);
    }
    assert_eq!(given(&["python3", "a b"]), ["python3", "a b"]);
    assert!(given(&[]).is_empty());
}
