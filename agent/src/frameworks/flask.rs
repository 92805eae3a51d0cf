//! Flask: `app.url_map` has the rules by endpoint, `app.view_functions` the functions (`flask/sansio/app.py`, and
//! `werkzeug/routing/map.py` 0.15 to 3.1).

use super::pattern::Pattern;
use super::reader::{MAX_LIST, MAX_TEXT, Reader, Routes};
use super::table::Found;
use crate::python::ObjectError;

pub(super) fn routes(reader: &Reader<'_>) -> Routes {
    let Some(class) = reader.in_module("flask.app", "Flask")? else { return Ok(Vec::new()) };
    let applications = reader.instances(class)?;
    // With several it is not known which one a request goes to.
    let &[application] = applications.as_slice() else { return Ok(Vec::new()) };
    let objects = &reader.objects;
    let Some(map) = objects.attribute(application, "url_map")? else { return Ok(Vec::new()) };
    let Some(by_endpoint) = objects.attribute(map, "_rules_by_endpoint")? else { return Ok(Vec::new()) };
    let views = objects.attribute(application, "view_functions")?;
    let mut found: Vec<(Vec<u8>, Found)> = Vec::new();
    for endpoint in objects.dict_items(by_endpoint)? {
        let name = objects.string(endpoint.key, MAX_TEXT).ok();
        let view = match (views, name) {
            (Some(views), Some(name)) => objects.dict_get(views, &name)?,
            _ => None,
        };
        for rule in objects.list_items(endpoint.value, MAX_LIST)? {
            found.extend(self::rule(reader, rule, view)?);
        }
    }
    // Werkzeug tries what is more exact first, whatever the order of the rules.
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

fn rule(reader: &Reader<'_>, rule: u64, view: Option<u64>) -> Result<Option<(Vec<u8>, Found)>, ObjectError> {
    let Some(text) = reader.text(rule, "rule") else { return Ok(None) };
    let methods = match reader.objects.attribute(rule, "methods")? {
        Some(methods) => reader.objects.set_strings(methods, 64).unwrap_or_default(),
        None => Vec::new(),
    };
    let first = methods.iter().find(|method| !matches!(method.as_str(), "OPTIONS" | "HEAD"));
    let handler =
        view.and_then(|view| reader.handler(view, first.map(|name| name.to_lowercase()).as_deref()));
    let found = Found { pattern: Pattern::root().rule_of_werkzeug(&text), methods, handler };
    Ok(Some((weight(&text), found)))
}

/// By part of the path: words before values, values of fewer characters before those of more, paths last; and longer
/// rules before shorter ones (`Rule.match_compare_key` up to 2.1, the order of states after that).
fn weight(rule: &str) -> Vec<u8> {
    let mut weight: Vec<u8> = rule
        .split('/')
        .map(|part| match part {
            part if !part.contains('<') => 0,
            part if part.contains("<path:") => 200,
            part if part.contains("<int") || part.contains("<float") => 50,
            _ => 100,
        })
        .collect();
    weight.push(u8::MAX);
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_exact_comes_first() {
        let mut rules =
            ["/<path:rest>", "/users/<name>", "/users/<int:id>", "/users/me", "/users/<int:id>/x"];
        rules.sort_by_key(|rule| weight(rule));
        assert_eq!(
            rules,
            ["/users/me", "/users/<int:id>/x", "/users/<int:id>", "/users/<name>", "/<path:rest>"]
        );
    }
}
