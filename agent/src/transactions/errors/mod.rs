//! Exceptions on their way: their tracebacks as they grow, what they were raised from, the transaction that they
//! belong to, and whether the application caught them. An exception is done when it has reached no frame for a
//! second: nobody says that it was caught.

mod catcher;
mod noise;
mod open;

pub use open::{Errors, Raised};

#[cfg(test)]
mod tests;
