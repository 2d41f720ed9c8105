//! On which host a session starts.
