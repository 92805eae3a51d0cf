//! A statement's low-cardinality name: its operation and its main table.

use super::lexeme::Lexeme;

/// Characters of a table's name that are kept.
const LONGEST_TABLE: usize = 80;
/// Nested subqueries that are looked into.
const DEEPEST: usize = 8;

/// Operations by which statements are named; anything else is `OTHER`.
const OPERATIONS: [&str; 62] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "CALL",
    "SET",
    "SHOW",
    "COMMIT",
    "ROLLBACK",
    "BEGIN",
    "START",
    "SAVEPOINT",
    "RELEASE",
    "CREATE",
    "ALTER",
    "DROP",
    "TRUNCATE",
    "RENAME",
    "USE",
    "LOAD",
    "LOCK",
    "UNLOCK",
    "EXPLAIN",
    "DESCRIBE",
    "DESC",
    "ANALYZE",
    "OPTIMIZE",
    "CHECK",
    "REPAIR",
    "FLUSH",
    "KILL",
    "GRANT",
    "REVOKE",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "HANDLER",
    "DO",
    "XA",
    "TABLE",
    "VALUES",
    "COPY",
    "FETCH",
    "MOVE",
    "DECLARE",
    "CLOSE",
    "LISTEN",
    "UNLISTEN",
    "NOTIFY",
    "VACUUM",
    "PRAGMA",
    "ATTACH",
    "DETACH",
    "DISCARD",
    "RESET",
    "MERGE",
    "REINDEX",
    "ABORT",
    "END",
    "CLUSTER",
    "COMMENT",
];

/// `SELECT users`, `COMMIT`, `SET autocommit`.
pub fn summary(list: &[Lexeme<'_>]) -> String {
    let start = list.iter().position(|lexeme| !lexeme.is_symbol("(")).unwrap_or(list.len());
    let mut rest = &list[start..];
    if rest.first().is_some_and(|first| first.is_word("WITH")) {
        rest = after_with(rest);
    }
    let Some(Lexeme::Word(first)) = rest.first() else { return "OTHER".to_owned() };
    let Some(operation) = OPERATIONS.iter().find(|known| first.eq_ignore_ascii_case(known)) else {
        return "OTHER".to_owned();
    };
    match object(operation, &rest[1..]) {
        Some(object) => format!("{operation} {object}"),
        None => (*operation).to_owned(),
    }
}

/// From the statement behind common table expressions: the first of its words outside parentheses.
fn after_with<'a, 'b>(list: &'a [Lexeme<'b>]) -> &'a [Lexeme<'b>] {
    let mut depth = 0usize;
    for (index, lexeme) in list.iter().enumerate() {
        if lexeme.is_symbol("(") {
            depth += 1;
        } else if lexeme.is_symbol(")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0
            && ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE"].iter().any(|word| lexeme.is_word(word))
        {
            return &list[index..];
        }
    }
    &[]
}

fn object(operation: &str, list: &[Lexeme<'_>]) -> Option<String> {
    match operation {
        "SELECT" | "DELETE" => {
            let from = outer_from(list)?;
            table(list.get(from + 1..)?)
        }
        "INSERT" | "REPLACE" => {
            let skipped = [
                "LOW_PRIORITY",
                "DELAYED",
                "HIGH_PRIORITY",
                "IGNORE",
                "INTO",
                "OR",
                "ROLLBACK",
                "ABORT",
                "FAIL",
                "REPLACE",
            ];
            table(without(list, &skipped))
        }
        "UPDATE" => table(without(list, &["LOW_PRIORITY", "IGNORE", "ONLY"])),
        "CALL" | "USE" | "DESCRIBE" | "DESC" | "COPY" | "LISTEN" | "NOTIFY" | "PRAGMA" => table(list),
        "MERGE" => table(without(list, &["INTO", "ONLY"])),
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" => {
            let kinds = ["TABLE", "INDEX", "VIEW", "DATABASE", "SCHEMA"];
            let kind = list.iter().take(6).position(|lexeme| kinds.iter().any(|kind| lexeme.is_word(kind)));
            let behind = kind.map_or(list, |kind| &list[kind + 1..]);
            let table = table(without(behind, &["IF", "NOT", "EXISTS"]));
            match kind.and_then(|kind| list[kind].identifier()) {
                Some(kind) => {
                    let kind = kind.to_ascii_uppercase();
                    Some(table.map_or(kind.clone(), |table| format!("{kind} {table}")))
                }
                None => table,
            }
        }
        "SET" => {
            let list = without(list, &["SESSION", "GLOBAL", "LOCAL"]);
            match list {
                [Lexeme::Symbol(at), rest @ ..] if at == "@@" => {
                    let rest = without(rest, &["SESSION", "GLOBAL", "LOCAL"]);
                    let rest = rest.strip_prefix(&[Lexeme::Symbol(".".into())][..]).unwrap_or(rest);
                    word(rest)
                }
                _ => word(list),
            }
        }
        "SHOW" | "START" | "LOCK" | "UNLOCK" | "FLUSH" | "RELEASE" | "LOAD" | "XA" => {
            word(list).map(|word| word.to_ascii_uppercase())
        }
        "ROLLBACK" => list.first().filter(|to| to.is_word("TO")).map(|_| "TO SAVEPOINT".to_owned()),
        _ => None,
    }
}

/// The first `FROM` outside of parentheses, else the first at all. `EXTRACT(YEAR FROM x)` has one too.
fn outer_from(list: &[Lexeme<'_>]) -> Option<usize> {
    let mut depth = 0usize;
    for (index, lexeme) in list.iter().enumerate() {
        if lexeme.is_symbol("(") {
            depth += 1;
        } else if lexeme.is_symbol(")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && lexeme.is_word("FROM") {
            return Some(index);
        }
    }
    list.iter().position(|lexeme| lexeme.is_word("FROM"))
}

/// The list without leading words of these.
fn without<'a, 'b>(list: &'a [Lexeme<'b>], skipped: &[&str]) -> &'a [Lexeme<'b>] {
    let count = list.iter().take_while(|lexeme| skipped.iter().any(|word| lexeme.is_word(word))).count();
    &list[count..]
}

/// A table's name at the start of `list`, or the one that a subquery there reads.
fn table(mut list: &[Lexeme<'_>]) -> Option<String> {
    for _ in 0..DEEPEST {
        let start = list.iter().take_while(|lexeme| lexeme.is_symbol("(")).count();
        list = list.get(start..)?;
        if !list.first()?.is_word("SELECT") {
            break;
        }
        list = list.get(outer_from(list)? + 1..)?;
    }
    let mut name = list.first()?.identifier()?.to_owned();
    if let [_, dot, second, ..] = list
        && dot.is_symbol(".")
        && let Some(second) = second.identifier()
    {
        name.push('.');
        name.push_str(second);
    }
    Some(name.chars().take(LONGEST_TABLE).collect())
}

fn word(list: &[Lexeme<'_>]) -> Option<String> {
    match list.first()? {
        Lexeme::Word(word) => Some(word.chars().take(LONGEST_TABLE).collect()),
        _ => None,
    }
}
