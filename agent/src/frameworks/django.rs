//! Django: `settings.ROOT_URLCONF` names a module whose `urlpatterns` are a tree of patterns and resolvers
//! (`django/urls/resolvers.py`, 2.0 to 5.2).

use super::pattern::Pattern;
use super::reader::{MAX_LIST, MAX_TEXT, Reader, Routes};
use super::table::{Found, MAX_ROUTES};
use crate::python::ObjectError;

/// Resolvers within each other.
const MAX_DEPTH: usize = 16;

pub(super) fn routes(reader: &Reader<'_>) -> Routes {
    let Some(settings) = reader.in_module("django.conf", "settings")? else { return Ok(Vec::new()) };
    let Some(name) = setting(reader, settings, "ROOT_URLCONF") else { return Ok(Vec::new()) };
    let Some(patterns) = reader.in_module(&name, "urlpatterns")? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    below(reader, patterns, &Pattern::root().literal("/"), MAX_DEPTH, &mut found)?;
    Ok(found)
}

/// Settings are lazy: they are kept in the object itself once they were asked for, and in `_wrapped`.
fn setting(reader: &Reader<'_>, settings: u64, name: &str) -> Option<String> {
    reader.text(settings, name).or_else(|| {
        let wrapped = reader.objects.attribute(settings, "_wrapped").ok()??;
        reader.text(wrapped, name)
    })
}

fn below(
    reader: &Reader<'_>,
    patterns: u64,
    prefix: &Pattern,
    depth: usize,
    found: &mut Vec<Found>,
) -> Result<(), ObjectError> {
    let objects = &reader.objects;
    let members =
        objects.list_items(patterns, MAX_LIST).or_else(|_| objects.tuple_items(patterns, MAX_LIST))?;
    for member in members {
        if found.len() >= MAX_ROUTES {
            return Ok(());
        }
        let own = match objects.attribute(member, "pattern")? {
            Some(pattern) => part(reader, pattern, prefix.clone()),
            None => prefix.clone().unknown(),
        };
        let callback = objects.attribute(member, "callback")?;
        let inner = objects.attribute(member, "urlconf_name")?;
        match inner {
            Some(inner) if depth > 0 => {
                let patterns = included(reader, inner)?;
                match patterns {
                    Some(patterns) => below(reader, patterns, &own.below(), depth - 1, found)?,
                    None => found.push(opaque(own)),
                }
            }
            Some(_) => found.push(opaque(own)),
            None => {
                let handler = callback.and_then(|view| reader.handler(view, None));
                found.push(Found { pattern: own, methods: Vec::new(), handler });
            }
        }
    }
    Ok(())
}

fn opaque(pattern: Pattern) -> Found {
    Found { pattern: pattern.unknown(), methods: Vec::new(), handler: None }
}

/// What `include()` was given: a module, the name of one, or a list.
fn included(reader: &Reader<'_>, inner: u64) -> Result<Option<u64>, ObjectError> {
    match reader.class_name(inner).as_deref() {
        Some("module") => reader.objects.dict_get(reader.objects.namespace(inner)?, "urlpatterns"),
        Some("str") => {
            let name = reader.objects.string(inner, MAX_TEXT)?;
            reader.in_module(&name, "urlpatterns")
        }
        Some("list" | "tuple") => Ok(Some(inner)),
        _ => Ok(None),
    }
}

fn part(reader: &Reader<'_>, pattern: u64, prefix: Pattern) -> Pattern {
    match reader.class_name(pattern).as_deref() {
        Some("RoutePattern") => match reader.text(pattern, "_route") {
            Some(route) => prefix.route_of_django(&route, &|name| converter(reader, pattern, name)),
            // Translated ones are objects that are asked for their text.
            None => prefix.unknown(),
        },
        Some("RegexPattern") => match reader.text(pattern, "_regex") {
            Some(expression) => prefix.expression_of_django(&expression),
            None => prefix.unknown(),
        },
        _ => prefix.unknown(),
    }
}

/// The expression of a converter that the application brought: an attribute of its class.
fn converter(reader: &Reader<'_>, pattern: u64, name: &str) -> Option<String> {
    let converters = reader.objects.attribute(pattern, "converters").ok()??;
    let converter = reader.objects.dict_get(converters, name).ok()??;
    let class = reader.objects.class_of(converter).ok()?;
    let expression = reader.objects.class_attribute(class, "regex").ok()??;
    reader.objects.string(expression, MAX_TEXT).ok()
}
