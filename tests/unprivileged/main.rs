//! Unprivileged tests.

