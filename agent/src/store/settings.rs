//! Bounds of the store.

/// Distinct things that are told apart. The rest share one entry, `{other}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds that the window reaches back.
    pub window_seconds: u32,
    pub routes: usize,
    pub statements: usize,
    /// Warnings of different kinds, routes and places in one second.
    pub warnings: usize,
    pub functions: usize,
    /// Groups of exceptions.
    pub errors: usize,
    /// Workers whose transactions are counted apart.
    pub workers: usize,
    /// Series of metrics, over all families.
    pub series: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_seconds: 60,
            routes: 512,
            statements: 1_024,
            warnings: 200,
            functions: 4_096,
            errors: 1_000,
            workers: 4_096,
            series: 2_000,
        }
    }
}
