//! The wiring: every task, channel, bound and shutdown step, nothing else.
