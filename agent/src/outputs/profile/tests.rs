//! Each format on one small recording, read back by other means than it was written.
