//! What differs between the dialects of SQL as far as values are concerned: which quotes hold values and which
//! names, and whether a backslash escapes.

/// By whose rules a statement is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    #[default]
    Mysql,
    Postgresql,
    Sqlite,
}

impl Dialect {
    /// Of a `db.system.name`; MySQL's for what is not known, because it takes most things for values.
    #[must_use]
    pub fn of(system: &str) -> Self {
        match system {
            "postgresql" => Self::Postgresql,
            "sqlite" => Self::Sqlite,
            _ => Self::Mysql,
        }
    }

    /// Whether double quotes hold a name. MySQL's hold a value, unless its `sql_mode` says otherwise.
    #[must_use]
    pub fn quotes_names(self) -> bool {
        self != Self::Mysql
    }

    /// Whether a backslash in a plain string escapes what follows it. PostgreSQL's do only where the server
    /// does not conform to the standard, off since version 9.1; `E'...'` always does.
    #[must_use]
    pub fn escapes(self) -> bool {
        self == Self::Mysql
    }
}
