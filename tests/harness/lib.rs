//! What the tests, the demo and the benches stand on: servers that are started, awaited and always ended, a load
//! generator with its own exact counts, and a look at a process from outside. It measures pyapm; it never does
//! pyapm's work, so nothing here comes from the agent but the vocabulary of its JSON lines.

pub mod bpf;
pub mod certificate;
pub mod drivers;
pub mod echo;
pub mod framework;
pub mod guard;
pub mod gunicorn;
pub mod http2;
pub mod inspect;
pub mod interpreter;
pub mod load;
pub mod loops;
pub mod mariadb;
pub mod place;
pub mod prometheus;
pub mod pyapm;
pub mod queues;
pub mod rabbitmq;
pub mod receiver;
pub mod record;
pub mod server;
pub mod servers;
pub mod service;
pub mod source;
pub mod stores;
pub mod tmux;
pub mod traceback;
pub mod wait;
pub mod workload;
pub mod wsgi;
