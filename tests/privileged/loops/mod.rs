//! Threads that serve many requests: what the kernel half says of contexts, and whose the work is.

mod births;
