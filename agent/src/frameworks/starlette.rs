//! Starlette and FastAPI: `app.router.routes`, a list of routes, mounts and included routers that are tried in order
//! (`starlette/routing.py` 0.13 to 1.10, `fastapi/routing.py`).

use super::pattern::Pattern;
use super::reader::{MAX_LIST, Reader, Routes};
use super::table::{Found, MAX_ROUTES};
use crate::python::ObjectError;

/// Mounts within each other.
const MAX_DEPTH: usize = 16;

pub(super) fn routes(reader: &Reader<'_>) -> Routes {
    let Some(class) = reader.in_module("starlette.applications", "Starlette")? else { return Ok(Vec::new()) };
    let mut applications = reader.instances(class)?;
    // Those that are mounted in another one are part of that one's routes.
    if applications.len() > 1 {
        let mounted: Vec<u64> =
            applications.iter().flat_map(|application| mounted(reader, *application)).collect();
        applications.retain(|application| !mounted.contains(application));
    }
    let &[application] = applications.as_slice() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    if let Some(list) = list_of(reader, application)? {
        below(reader, list, &Pattern::root(), MAX_DEPTH, &mut found)?;
    }
    Ok(found)
}

/// The list of routes of an application or a router.
fn list_of(reader: &Reader<'_>, object: u64) -> Result<Option<u64>, ObjectError> {
    let router = reader.objects.attribute(object, "router")?.unwrap_or(object);
    reader.objects.attribute(router, "routes")
}

/// Applications that an application has mounted itself.
fn mounted(reader: &Reader<'_>, application: u64) -> Vec<u64> {
    let Ok(Some(list)) = list_of(reader, application) else { return Vec::new() };
    let routes = reader.objects.list_items(list, MAX_LIST).unwrap_or_default();
    routes.into_iter().filter_map(|route| inner(reader, route).ok().flatten()).collect()
}

/// What is mounted: `_base_app` has it without the middleware that may be around it.
fn inner(reader: &Reader<'_>, mount: u64) -> Result<Option<u64>, ObjectError> {
    match reader.objects.attribute(mount, "_base_app")? {
        Some(inner) => Ok(Some(inner)),
        None => reader.objects.attribute(mount, "app"),
    }
}

fn below(
    reader: &Reader<'_>,
    list: u64,
    prefix: &Pattern,
    depth: usize,
    found: &mut Vec<Found>,
) -> Result<(), ObjectError> {
    let objects = &reader.objects;
    for route in objects.list_items(list, MAX_LIST)? {
        if found.len() >= MAX_ROUTES {
            return Ok(());
        }
        if let Some(router) = objects.attribute(route, "original_router")? {
            // FastAPI's `include_router`: the router's own prefix is in its routes, the other one is here.
            let context = objects.attribute(route, "include_context")?;
            let more = context.and_then(|context| reader.text(context, "prefix")).unwrap_or_default();
            let list = objects.attribute(router, "routes")?;
            match list {
                Some(list) if depth > 0 => {
                    below(reader, list, &prefix.clone().starlette(&more), depth - 1, found)?;
                }
                _ => found.push(opaque(prefix.clone())),
            }
            continue;
        }
        let (Some(path), Some(class)) = (reader.text(route, "path"), reader.class_name(route)) else {
            // A host, or a class that the application brought: what it takes is not known.
            found.push(opaque(prefix.clone()));
            continue;
        };
        let own = prefix.clone().starlette(&path);
        match objects.attribute(route, "endpoint")? {
            Some(_) if class.contains("WebSocket") => {}
            Some(endpoint) => {
                let methods = match objects.attribute(route, "methods")? {
                    Some(methods) => objects.set_strings(methods, 64).unwrap_or_default(),
                    None => Vec::new(),
                };
                let handler = reader.handler(endpoint, None);
                found.push(Found { pattern: own, methods, handler });
            }
            None => {
                let mounted = match inner(reader, route)? {
                    Some(mounted) => list_of(reader, mounted)?,
                    None => None,
                };
                match mounted {
                    Some(list) if depth > 0 => below(reader, list, &own, depth - 1, found)?,
                    // Static files, or another kind of application.
                    _ => found.push(Found {
                        pattern: own.literal("/").everything_below(),
                        methods: Vec::new(),
                        handler: None,
                    }),
                }
            }
        }
    }
    Ok(())
}

fn opaque(pattern: Pattern) -> Found {
    Found { pattern: pattern.unknown(), methods: Vec::new(), handler: None }
}
