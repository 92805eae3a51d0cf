//! Unprivileged tests.
