//! What the other modules run on: paths and users, child processes and their supervision, readiness, memory.

pub(crate) mod async_fd;
pub(crate) mod backoff;
pub(crate) mod child_output;
pub(crate) mod crash_loop;
pub(crate) mod environment;
pub(crate) mod fd_stream;
pub(crate) mod home_files;
pub(crate) mod local_socket;
pub(crate) mod memory_pressure;
pub(crate) mod process;
pub(crate) mod process_mode_config;
pub(crate) mod process_table;
pub(crate) mod program_supervisor;
pub(crate) mod readiness;
