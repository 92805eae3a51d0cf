//! Which routes an application has, by its framework's own live objects, read from outside: Django's resolver, Flask's
//! map of rules, Starlette's and FastAPI's lists of routes. It reads once when it is asked, and says nothing of what
//! it could not understand: a path that may be such a route's has none. And by the same means: which other agents run
//! inside an application, and where a worker of Celery begins and ends its tasks.

mod agents;
mod celery;
mod django;
mod flask;
mod pattern;
mod reader;
mod starlette;
mod table;

pub use agents::{Agents, imported_modules, running_agents};
pub use celery::{TaskCode, task_code};
pub use reader::read_routes;
pub use table::{Route, RouteTable};
