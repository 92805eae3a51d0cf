//! Normal forms, and that no value ever survives.

use super::dialect::Dialect;
use super::statements::Mode;
use super::{Normalised, Statements, normalise, render, scan, tokens};
use std::collections::HashSet;

fn normal(text: &str) -> Normalised {
    normalise(text.as_bytes(), u32::try_from(text.len()).unwrap(), Dialect::Mysql)
}

/// As if so many more bytes had not been captured.
fn cut(text: &str) -> Normalised {
    normalise(text.as_bytes(), u32::try_from(text.len()).unwrap() + 1_000, Dialect::Mysql)
}

/// Statement, normal form, name.
const TABLE: &[(&str, &str, &str)] = &[
    ("SELECT 1", "SELECT ?", "SELECT"),
    ("select * from users where id=5", "select * from users where id = ?", "SELECT users"),
    (
        "SELECT `u`.`id`, COUNT(*) FROM `shop`.`users` `u` WHERE `u`.`name` = 'it\\'s' AND x = \"q\"",
        "SELECT `u`.`id`, COUNT(*) FROM `shop`.`users` `u` WHERE `u`.`name` = ? AND x = ?",
        "SELECT shop.users",
    ),
    ("SELECT a FROM t WHERE b IN (1, 2, 'x', NULL)", "SELECT a FROM t WHERE b IN (?)", "SELECT t"),
    ("SELECT a FROM t WHERE b in ((1,2),(3,-4))", "SELECT a FROM t WHERE b in (?)", "SELECT t"),
    ("SELECT a FROM t WHERE b IN (c, 1)", "SELECT a FROM t WHERE b IN (c, ?)", "SELECT t"),
    (
        "SELECT a FROM t WHERE b IN (SELECT c FROM d)",
        "SELECT a FROM t WHERE b IN (SELECT c FROM d)",
        "SELECT t",
    ),
    (
        "INSERT INTO orders (a, b) VALUES (1, 'x'), (2, NOW()), (-3, 0x1F)",
        "INSERT INTO orders (a, b) VALUES (?, ?)",
        "INSERT orders",
    ),
    (
        "INSERT IGNORE INTO t VALUES (1,2),(3,4) ON DUPLICATE KEY UPDATE a = VALUES(a)",
        "INSERT IGNORE INTO t VALUES (?, ?) ON DUPLICATE KEY UPDATE a = VALUES (a)",
        "INSERT t",
    ),
    ("REPLACE INTO t SET a=1", "REPLACE INTO t SET a = ?", "REPLACE t"),
    (
        "UPDATE  t\n SET a = a - 1, b = -1 WHERE c BETWEEN -5 AND +6",
        "UPDATE t SET a = a - ?, b = ? WHERE c BETWEEN ? AND ?",
        "UPDATE t",
    ),
    ("DELETE FROM t WHERE a = 1.5e-10 AND b = .5", "DELETE FROM t WHERE a = ? AND b = ?", "DELETE t"),
    ("SELECT /* who: bob */ a -- trailing\n FROM t # more\n", "SELECT a FROM t", "SELECT t"),
    ("SELECT /*!40001 SQL_NO_CACHE */ a FROM t", "SELECT SQL_NO_CACHE a FROM t", "SELECT t"),
    ("SELECT _utf8'x', _binary 'y', x'41', N'z', b'101', 0b11", "SELECT ?, ?, ?, ?, ?, ?", "SELECT"),
    ("SET autocommit=0", "SET autocommit = ?", "SET autocommit"),
    (
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET TRANSACTION",
    ),
    ("SET @@session.sql_mode = 'STRICT'", "SET @@session.sql_mode = ?", "SET sql_mode"),
    ("SET NAMES utf8mb4", "SET NAMES utf8mb4", "SET NAMES"),
    ("COMMIT", "COMMIT", "COMMIT"),
    ("SAVEPOINT `s140_x1`", "SAVEPOINT ?", "SAVEPOINT"),
    ("RELEASE SAVEPOINT `s140_x1`", "RELEASE SAVEPOINT ?", "RELEASE SAVEPOINT"),
    ("ROLLBACK TO SAVEPOINT `s140_x1`", "ROLLBACK TO SAVEPOINT ?", "ROLLBACK TO SAVEPOINT"),
    ("CREATE TABLE IF NOT EXISTS x (a INT)", "CREATE TABLE IF NOT EXISTS x (a INT)", "CREATE TABLE x"),
    (
        "WITH r AS (SELECT 1 FROM q) SELECT * FROM r WHERE a = 2",
        "WITH r AS (SELECT ? FROM q) SELECT * FROM r WHERE a = ?",
        "SELECT r",
    ),
    ("(SELECT a FROM t) UNION (SELECT b FROM u)", "(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t"),
    ("SELECT EXTRACT(YEAR FROM d) FROM t", "SELECT EXTRACT(YEAR FROM d) FROM t", "SELECT t"),
    ("SELECT x FROM (SELECT y FROM inner_t) z", "SELECT x FROM (SELECT y FROM inner_t) z", "SELECT inner_t"),
    ("CALL pay(1, 'x')", "CALL pay(?, ?)", "CALL pay"),
    ("SHOW TABLES LIKE 'a%'", "SHOW TABLES LIKE ?", "SHOW TABLES"),
    ("SELECT @@autocommit, @v := 5", "SELECT @@autocommit, @v := ?", "SELECT"),
    ("SELECT a FROM t LIMIT 10 OFFSET 20;", "SELECT a FROM t LIMIT ? OFFSET ?;", "SELECT t"),
    ("SELECT a->>'$.b' FROM t", "SELECT a ->> ? FROM t", "SELECT t"),
    ("FROBNICATE now", "FROBNICATE now", "OTHER"),
    ("", "", "OTHER"),
    ("   ", "", "OTHER"),
];

#[test]
fn table() {
    for (text, expected, name) in TABLE {
        let got = normal(text);
        assert_eq!((got.text.as_str(), got.name.as_str()), (*expected, *name), "{text}");
    }
}

/// The scanner alone gives the same normal form as the tokenizer.
#[test]
fn both_readings_agree() {
    for (text, expected, _) in TABLE {
        let mut lexemes = scan::lexemes(text, true, Dialect::Mysql);
        render::simplify(&mut lexemes);
        assert_eq!(render::render(&lexemes), *expected, "scanned: {text}");
        let mut lexemes =
            tokens::lexemes(text, Dialect::Mysql).unwrap_or_else(|| panic!("tokenizer refuses {text}"));
        render::simplify(&mut lexemes);
        assert_eq!(render::render(&lexemes), *expected, "tokenized: {text}");
    }
}

#[test]
fn spacing_does_not_change_the_digest() {
    let forms = [
        "SELECT a,b FROM t WHERE c=1 AND d IN (1,2)",
        "SELECT  a ,\tb\nFROM t WHERE c = 22 AND d IN(  1 )",
        "SELECT a, b FROM t /* x */ WHERE c = 'y' AND d IN ('a', 'b', 'c')",
    ];
    let texts: HashSet<_> = forms.iter().map(|form| normal(form).text).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[test]
fn broken_and_misread_statements_hold_nothing_back_but_values() {
    for (text, secrets) in [
        ("SELECT * FROM t WHERE a = 'it's secret'", &["secret"][..]),
        ("SELECT * FROM t WHERE a = 'O' secret'", &["secret"]),
        ("SELECT * FROM t WHERE a = 'secret", &["secret"]),
        ("SELECT * FROM t WHERE a = \"secret", &["secret"]),
        // With NO_BACKSLASH_ESCAPES these are whole strings that end in a backslash.
        (r"SELECT * FROM t WHERE a = 'x\' AND b = 'secret'", &["secret"]),
        (r"SELECT * FROM t WHERE a = 'x\' AND b = ' secret'", &["secret"]),
        (r"SELECT * FROM t WHERE a = 'x\' AND b = ' secret\' AND c = 'hush'", &["secret", "hush"]),
        (r"SELECT * FROM t WHERE a = 'x\' AND b = ' secret' AND c = ' hush'", &["secret", "hush"]),
        ("SELECT * FROM t WHERE a = 'x'secret'y'", &["secret"]),
        ("SELECT * FROM t WHERE a = `unclosed secret", &["secret"]),
        ("SELECT /* secret", &["secret"]),
        ("SELECT 1 -- secret", &["secret"]),
        ("SELECT $$secret$$, $tag$secret$tag$", &["secret$$"]),
    ] {
        let got = normal(text);
        for secret in secrets {
            assert!(!got.text.contains(secret), "{text} -> {}", got.text);
        }
        assert!(got.text.starts_with("SELECT"), "{text} -> {}", got.text);
    }
}

/// Every cut of a statement: a value cut in the middle must not show.
#[test]
fn cut_anywhere() {
    let text = r#"INSERT INTO people (a, b, c) VALUES ('secret one', "secret two", 98765), ('it\'s secret', 'x''secret', 0xsecret)"#;
    for end in 0..text.len() {
        let got = cut(&text[..end]);
        assert!(!got.text.contains("secret") && !got.text.contains("987"), "{end}: {}", got.text);
        assert!(got.text.ends_with("..."), "{end}: {}", got.text);
    }
    let text = "SELECT a FROM t WHERE b IN (11, 22, 33, 44)";
    for end in text.find("22").unwrap()..text.len() - 1 {
        assert_eq!(cut(&text[..end]).text, "SELECT a FROM t WHERE b IN (?...", "{end}");
    }
}

/// Statements built at random, with values that are easy to find again.
#[test]
fn random_values_never_survive() {
    let mut dice = crate::transactions::tests::Dice(0xbad_5eed);
    for round in 0..3_000 {
        let mut text = String::from("SELECT a FROM t WHERE c0 = 0");
        for column in 0..1 + dice.below(6) {
            let marker = format!("zq{}zq", dice.next() % 1_000_000);
            let value = match dice.below(9) {
                0 => format!("'{marker}'"),
                1 => format!("\"{marker}\""),
                2 => format!("'a''{marker}'"),
                3 => format!(r"'\\\'{marker} \' x'"),
                4 => format!("_utf8mb4'{marker}'"),
                5 => format!("'-- {marker} /* # `'"),
                6 => format!("-{}", 7_000_000 + dice.next() % 1_000_000),
                7 => format!("('{marker}', {marker:?}, 77777)"),
                _ => format!("\"it's {marker}\" /* {marker} */"),
            };
            let operator = ["=", "IN", "<>", "LIKE", "+"][dice.below(5)];
            text.push_str(&format!(" AND c{column} {operator} {value}"));
        }
        let whole = normal(&text);
        assert!(
            !whole.text.contains("zq") && !whole.text.contains("77777"),
            "{round}: {text}\n{}",
            whole.text
        );
        let end = dice.below(text.len());
        let part = cut(&text[..end]);
        assert!(!part.text.contains("zq"), "{round}: {}\n{}", &text[..end], part.text);
    }
}

#[test]
fn noise_never_panics() {
    let mut dice = crate::transactions::tests::Dice(77);
    let parts: [&[u8]; 50] = [
        b"'",
        b"\"",
        b"`",
        b"\\",
        b"--",
        b"/*",
        b"*/",
        b"#",
        b"\n",
        b"(",
        b")",
        b",",
        b"IN",
        b"VALUES",
        b"1",
        b".",
        b"@@",
        b"\xff\xfe",
        "é".as_bytes(),
        b"FROM (SELECT ",
        b"$",
        b"$$",
        b"$a$",
        b":",
        b"::",
        b"0x",
        b"0b1",
        b"1e",
        b"1e-",
        b"E'",
        b"U&'",
        b"U&'\\00",
        b"Q'{",
        b"nq'[",
        b"N'",
        b"x'",
        b"_utf8",
        b"?",
        b"/*!40001 ",
        b"\0",
        b"\x1b",
        b"->>",
        b"<=>",
        b"@",
        b"{",
        b"}",
        b"~*",
        b"1_",
        "\u{1f600}".as_bytes(),
        b"LIKE",
    ];
    for _ in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..dice.below(40) {
            text.extend_from_slice(parts[dice.below(parts.len())]);
            if dice.below(3) == 0 {
                text.push(b' ');
            }
        }
        let length = u32::try_from(text.len()).unwrap();
        for dialect in [Dialect::Mysql, Dialect::Postgresql, Dialect::Sqlite] {
            let _ = normalise(&text, length, dialect);
            let _ = normalise(&text, length + 1, dialect);
            let _ = normalise(&text, 0, dialect);
        }
    }
    let _ =
        normalise(format!("SELECT {}", "a FROM (SELECT ".repeat(4_000)).as_bytes(), 60_007, Dialect::Mysql);
    let _ = normalise("SELECT a FROM ".repeat(5_000).as_bytes(), 70_000, Dialect::Mysql);
    let _ = normalise("(".repeat(60_000).as_bytes(), 60_000, Dialect::Mysql);
}

#[test]
fn control_characters_do_not_reach_a_terminal() {
    let got = normal("SELECT `a\x1b[31m` FROM t\x07 WHERE b\x1b = 1");
    assert!(!got.text.contains(char::is_control), "{:?}", got.text);
}

#[test]
fn long_texts_are_bounded() {
    let text = format!("SELECT {} FROM t", "abcdefgh, ".repeat(10_000));
    assert!(normal(&text).text.len() <= 8 * 1024 + 3);
}

#[test]
fn remembered_up_to_a_bound() {
    let mut statements = Statements::new(100, Mode::Digest);
    for id in 0..10_000u32 {
        let text = format!("SELECT {id}");
        let length = u32::try_from(text.len()).unwrap();
        let key = statements.key(text.as_bytes(), length, Dialect::Mysql);
        let (normalised, _) = statements.get(key, text.as_bytes(), length, Dialect::Mysql);
        assert_eq!(normalised.text, "SELECT ?");
        assert!(statements.len() <= 101);
        let (_, fresh) = statements.get(key, text.as_bytes(), length, Dialect::Mysql);
        assert!(!fresh);
    }
}

/// PostgreSQL's and SQLite's: statement, normal form, name.
const OTHERS: &[(Dialect, &str, &str, &str)] = &[
    (
        Dialect::Postgresql,
        r#"SELECT "u"."id" FROM "shop_user" "u" WHERE "u"."name" = 'secret' AND a = $1 AND b = E'it\'s secret'"#,
        r#"SELECT "u"."id" FROM "shop_user" "u" WHERE "u"."name" = ? AND a = ? AND b = ?"#,
        "SELECT shop_user",
    ),
    (
        Dialect::Postgresql,
        "SELECT 'x\\' FROM t WHERE a = 'secret'",
        "SELECT ? FROM t WHERE a = ?",
        "SELECT t",
    ),
    (Dialect::Postgresql, "SELECT '1'::int, b::text FROM t", "SELECT ?::int, b::text FROM t", "SELECT t"),
    (Dialect::Postgresql, "SELECT $tag$secret$tag$, $$secret$$ FROM t", "SELECT ?, ? FROM t", "SELECT t"),
    (
        Dialect::Postgresql,
        "SELECT a->>'secret', b @> '{}' FROM t",
        "SELECT a ->> ?, b @> ? FROM t",
        "SELECT t",
    ),
    (Dialect::Postgresql, "COPY t (a) FROM STDIN", "COPY t (a) FROM STDIN", "COPY t"),
    (
        Dialect::Postgresql,
        r#"DECLARE "_django_curs_140_sync_1" NO SCROLL CURSOR WITH HOLD FOR SELECT a FROM t"#,
        "DECLARE ? NO SCROLL CURSOR WITH HOLD FOR SELECT a FROM t",
        "DECLARE",
    ),
    (Dialect::Postgresql, r#"FETCH FORWARD 2 FROM "srv_7""#, "FETCH FORWARD ? FROM ?", "FETCH"),
    (
        Dialect::Postgresql,
        "INSERT INTO t VALUES ($1, $2), ($3, $4)",
        "INSERT INTO t VALUES (?, ?)",
        "INSERT t",
    ),
    (
        Dialect::Sqlite,
        r#"INSERT OR REPLACE INTO "t" ("a") VALUES (?1), (:name), (@other)"#,
        r#"INSERT OR REPLACE INTO "t" ("a") VALUES (?)"#,
        "INSERT t",
    ),
    (Dialect::Sqlite, "PRAGMA table_info(users)", "PRAGMA table_info(users)", "PRAGMA table_info"),
];

#[test]
fn other_dialects() {
    for (dialect, text, expected, name) in OTHERS {
        let got = normalise(text.as_bytes(), u32::try_from(text.len()).unwrap(), *dialect);
        assert_eq!((got.text.as_str(), got.name.as_str()), (*expected, *name), "{text}");
        // Cut anywhere, by the scanner then, no value comes through.
        for end in 0..text.len() {
            let part = normalise(&text.as_bytes()[..end], u32::try_from(text.len()).unwrap(), *dialect);
            assert!(!part.text.contains("secret"), "{}: {}", &text[..end], part.text);
        }
    }
}

#[test]
fn one_digest_in_all_dialects() {
    let digest =
        |text: &str, dialect| normalise(text.as_bytes(), u32::try_from(text.len()).unwrap(), dialect).digest;
    let expected = digest("SELECT `u`.`id` FROM `u` WHERE `u`.`id` IN (1, 2)", Dialect::Mysql);
    for (text, dialect) in [
        (r#"SELECT "u"."id" FROM "u" WHERE "u"."id" IN ($1)"#, Dialect::Postgresql),
        (r#"select "u"."id" from "u" where "u"."id" in (?, ?, ?)"#, Dialect::Sqlite),
        ("select u.id\nfrom u where u.id in (%s)".replace("%s", "7").as_str(), Dialect::Postgresql),
    ] {
        assert_eq!(digest(text, dialect), expected, "{text}");
    }
    assert_ne!(digest("SELECT `u`.`no` FROM `u` WHERE `u`.`id` IN (1)", Dialect::Mysql), expected);
}

#[test]
fn modes() {
    let text = b"SELECT a FROM t WHERE b = 'secret\x1b'";
    let length = u32::try_from(text.len()).unwrap();
    let of = |mode| {
        let mut statements = Statements::new(10, mode);
        let key = statements.key(text, length, Dialect::Mysql);
        let normalised = statements.get(key, text, length, Dialect::Mysql).0;
        (normalised.text.clone(), normalised.name.clone(), normalised.shown)
    };
    assert_eq!(of(Mode::Off), ("SQL".into(), "SQL".into(), false));
    assert_eq!(of(Mode::Operation), ("SELECT t".into(), "SELECT t".into(), false));
    assert_eq!(of(Mode::Digest), ("SELECT a FROM t WHERE b = ?".into(), "SELECT t".into(), true));
    assert_eq!(of(Mode::Verbatim), ("SELECT a FROM t WHERE b = 'secret '".into(), "SELECT t".into(), true));
}
