//! The ways in which frameworks write down paths, each turned into an expression for matching and a name for people:
//! `/users/<int:number>` is `^/users/([0-9]+)$` and `/users/{number}`. What is not understood makes the pattern opaque
//! from there on: it then matches every path that begins so, and has no name.

/// Bytes of one pattern's name.
const MAX_SHOWN: usize = 512;

/// A path, put together from its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    expression: String,
    shown: String,
    opaque: bool,
    /// It matches whatever begins so.
    open: bool,
}

impl Pattern {
    pub(super) fn root() -> Self {
        Self { expression: String::new(), shown: String::new(), opaque: false, open: false }
    }

    /// For `regex`, anchored.
    pub(super) fn expression(&self) -> String {
        let end = if self.opaque || self.open { "" } else { "$" };
        // Dots of Python's `.` do not match line ends either.
        format!("^(?:{}){end}", self.expression)
    }

    /// `None` for an opaque one.
    pub(super) fn shown(&self) -> Option<String> {
        (!self.opaque && self.shown.len() <= MAX_SHOWN).then(|| self.shown.clone())
    }

    pub(super) fn literal(mut self, text: &str) -> Self {
        if !self.opaque {
            self.expression.push_str(&regex::escape(text));
            self.shown.push_str(text);
        }
        self
    }

    fn value(mut self, name: &str, expression: &str) -> Self {
        if !self.opaque {
            self.expression.push_str("(?:");
            self.expression.push_str(expression);
            self.expression.push(')');
            self.shown.push('{');
            self.shown.push_str(name);
            self.shown.push('}');
        }
        self
    }

    pub(super) fn unknown(mut self) -> Self {
        self.opaque = true;
        self
    }

    /// Everything below this, too: a mount of something that is no framework of ours.
    pub(super) fn everything_below(self) -> Self {
        self.value("path", ".*")
    }

    /// `shops/<str:shop>/<int:order>` of Django's `path()` (`django/urls/resolvers.py`, `_route_to_regex`). `converter` gives
    /// the expression of a converter that is not Django's own.
    pub(super) fn route_of_django(mut self, route: &str, converter: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut rest = route;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((inside, behind)) = after.split_once('>') else { return self.unknown() };
            let (kind, name) = inside.split_once(':').unwrap_or(("str", inside));
            self = self.literal(before);
            self = match (known_converter(kind), kind) {
                (Some(expression), _) => self.value(name, expression),
                (None, "path") => self.value(name, ".+"),
                (None, _) => match converter(name).filter(|found| is_expression(found)) {
                    Some(found) => self.value(name, &found),
                    None => return self.unknown(),
                },
            };
            rest = behind;
        }
        self.literal(rest)
    }

    /// `^articles/(?P<year>[0-9]{4})/$` of Django's `re_path()`.
    pub(super) fn expression_of_django(mut self, expression: &str) -> Self {
        // Searched for, not matched: without an anchor it may begin anywhere.
        let Some(anchored) = expression.strip_prefix('^') else { return self.unknown() };
        if self.opaque {
            return self;
        }
        let (body, closed) = match anchored.strip_suffix('$').or_else(|| anchored.strip_suffix("\\Z")) {
            Some(body) if !body.ends_with('\\') => (body, true),
            _ => (anchored, false),
        };
        if !is_expression(body) {
            return self.unknown();
        }
        self.expression.push_str(body);
        self.shown.push_str(&shown(body));
        self.open = !closed;
        self
    }

    /// A pattern below one that was included: what was open is so no more.
    pub(super) fn below(mut self) -> Self {
        self.open = false;
        self
    }

    /// `/users/<int:number>` of Werkzeug (`werkzeug/routing/rules.py`, `_part_re`).
    pub(super) fn rule_of_werkzeug(mut self, rule: &str) -> Self {
        let mut rest = rule;
        while let Some((before, after)) = rest.split_once('<') {
            // Arguments of a converter are in parentheses, and may hold anything but these brackets.
            let Some((inside, behind)) = after.split_once('>') else { return self.unknown() };
            let (converter, name) = inside.rsplit_once(':').unwrap_or(("default", inside));
            let (kind, arguments) = converter.split_once('(').unwrap_or((converter, ""));
            let arguments = arguments.trim_end_matches(')');
            self = self.literal(before);
            self = match kind {
                "default" | "string" => self.value(name, "[^/]+"),
                "int" => self.value(name, "-?[0-9]+"),
                "float" => self.value(name, r"-?[0-9]+\.[0-9]+"),
                "path" => self.value(name, "[^/].*?"),
                "uuid" => self.value(name, UUID_OF_WERKZEUG),
                "any" => {
                    let words = arguments.split(',').map(|word| word.trim().trim_matches(['"', '\'']));
                    let words: Vec<String> = words.map(regex::escape).collect();
                    self.value(name, &words.join("|"))
                }
                _ => return self.unknown(),
            };
            rest = behind;
        }
        self.literal(rest)
    }

    /// `/users/{number:int}` of Starlette (`starlette/routing.py`, `compile_path`).
    pub(super) fn starlette(mut self, path: &str) -> Self {
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((inside, behind)) = after.split_once('}') else { return self.unknown() };
            let (name, kind) = inside.split_once(':').unwrap_or((inside, "str"));
            self = self.literal(before);
            self = match kind {
                "str" => self.value(name, "[^/]+"),
                "int" => self.value(name, "[0-9]+"),
                "float" => self.value(name, r"[0-9]+(?:\.[0-9]+)?"),
                "path" => self.value(name, ".*"),
                "uuid" => self.value(name, UUID_OF_STARLETTE),
                _ => return self.unknown(),
            };
            rest = behind;
        }
        self.literal(rest)
    }
}

const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
const UUID_OF_WERKZEUG: &str = "[A-Fa-f0-9]{8}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{12}";
const UUID_OF_STARLETTE: &str =
    "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}";

/// `django/urls/converters.py`.
fn known_converter(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "str" => "[^/]+",
        "int" => "[0-9]+",
        "slug" => "[-a-zA-Z0-9_]+",
        "uuid" => UUID,
        _ => return None,
    })
}

/// Whether Python's expression is one here too. Look-around and back references are not.
fn is_expression(expression: &str) -> bool {
    expression.len() <= 4096 && regex::RegexBuilder::new(expression).size_limit(1 << 20).build().is_ok()
}

/// An expression for people: groups by name, escapes undone.
fn shown(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression;
    let mut number = 0;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        match character {
            '(' => {
                let (inside, behind) = group(after);
                if let Some(name) = inside.strip_prefix("?P<").and_then(|named| named.split_once('>')) {
                    out.push_str(&format!("{{{}}}", name.0));
                } else if inside.starts_with('?') {
                    out.push_str(&rest[..rest.len() - behind.len()]);
                } else {
                    number += 1;
                    out.push_str(&format!("{{{number}}}"));
                }
                rest = behind;
            }
            '\\' => {
                let escaped = after.chars().next();
                match escaped {
                    Some(plain) if !plain.is_alphanumeric() => out.push(plain),
                    _ => out.extend(['\\'].into_iter().chain(escaped)),
                }
                rest = &after[escaped.map_or(0, char::len_utf8)..];
            }
            _ => {
                out.push(character);
                rest = after;
            }
        }
    }
    out
}

/// What is in a group that has just been opened, and what comes behind it.
fn group(text: &str) -> (&str, &str) {
    let (mut depth, mut escaped, mut in_class) = (1, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => {
                depth -= 1;
                if depth == 0 {
                    return (&text[..at], &text[at + 1..]);
                }
            }
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn django(route: &str) -> Pattern {
        Pattern::root().literal("/").route_of_django(route, &|_| None)
    }

    fn takes(pattern: &Pattern, path: &str) -> bool {
        regex::Regex::new(&pattern.expression()).unwrap().is_match(path)
    }

    #[test]
    fn routes_of_django() {
        let pattern = django("shops/<str:shop>/<int:order>");
        assert_eq!(pattern.shown().as_deref(), Some("/shops/{shop}/{order}"));
        assert!(takes(&pattern, "/shops/a-b/7") && !takes(&pattern, "/shops/a/b/7"));
        assert!(!takes(&pattern, "/shops/a/7/") && !takes(&pattern, "/shops/a/x"));
        let opaque = django("a/<roman:year>/b");
        assert_eq!(opaque.shown(), None);
        assert!(takes(&opaque, "/a/MMX") && !takes(&opaque, "/b"));
        let custom = Pattern::root()
            .route_of_django("/a/<roman:year>", &|name| (name == "year").then(|| "[IVX]+".to_owned()));
        assert_eq!(custom.shown().as_deref(), Some("/a/{year}"));
        assert!(takes(&custom, "/a/XIV") && !takes(&custom, "/a/14"));
    }

    #[test]
    fn expressions_of_django() {
        let of = |expression: &str| Pattern::root().literal("/").expression_of_django(expression);
        let pattern = of(r"^articles/(?P<year>[0-9]{4})/([\w-]+)\.html$");
        assert_eq!(pattern.shown().as_deref(), Some("/articles/{year}/{1}.html"));
        assert!(takes(&pattern, "/articles/2024/a-b.html") && !takes(&pattern, "/articles/2024/a-bxhtml"));
        // An open end takes more, until something is below it.
        assert!(takes(&of("^old/"), "/old/x") && !takes(&of("^old/").below().literal("y"), "/old/x"));
        assert_eq!(of("(?=x)y").shown(), None);
        assert_eq!(of("^(?!x)y$").shown(), None);
        assert_eq!(of("^(((").shown(), None);
    }

    #[test]
    fn rules_of_werkzeug() {
        let of = |rule: &str| Pattern::root().rule_of_werkzeug(rule);
        let pattern = of("/shops/<shop>/lines/<string(length=2):line>");
        assert_eq!(pattern.shown().as_deref(), Some("/shops/{shop}/lines/{line}"));
        assert!(takes(&of("/<any(en, \"de\"):language>/about"), "/de/about"));
        assert!(!takes(&of("/<any(en, de):language>/about"), "/fr/about"));
        assert!(takes(&of("/files/<path:name>"), "/files/a/b"));
        assert_eq!(of("/<regex('x'):a>/b").shown(), None);
        assert_eq!(of("/<broken").shown(), None);
    }

    #[test]
    fn garbage_is_opaque_or_literal() {
        for text in
            ["{", "}", "<", ">", "<>", "{}", "(", ")", "\\", "^\\", "^(?P<", "<a:b:c>", "{:}", "é<é:é>"]
        {
            for pattern in [
                django(text),
                Pattern::root().rule_of_werkzeug(text),
                Pattern::root().starlette(text),
                Pattern::root().expression_of_django(text),
            ] {
                let _compiles_or_not = regex::Regex::new(&pattern.expression());
                let _shown = pattern.shown();
            }
        }
    }
}
