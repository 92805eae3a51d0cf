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
    pub recent: RecentLimits,
}

/// Of the latest transactions, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentLimits {
    pub points: usize,
    /// Seconds with points.
    pub seconds: usize,
    pub points_per_second: u64,
    /// Transactions that are kept whole while somebody watches.
    pub whole: usize,
    pub whole_per_second: u64,
    /// Calls, samples and the like in all of them; a quarter of it while nobody watches.
    pub whole_weight: usize,
    /// While nobody does.
    pub whole_unwatched: usize,
    pub whole_per_second_unwatched: u64,
}

impl Default for RecentLimits {
    fn default() -> Self {
        Self {
            points: 65_536,
            seconds: 600,
            points_per_second: 500,
            whole: 2_000,
            whole_per_second: 100,
            whole_weight: 40_000,
            whole_unwatched: 300,
            whole_per_second_unwatched: 10,
        }
    }
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
            recent: RecentLimits::default(),
        }
    }
}
