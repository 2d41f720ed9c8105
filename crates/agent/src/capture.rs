//! Capture of the credential: finds the file that the tool writes, checks it, and delivers it to the controller.

pub(crate) mod capture_loop;
pub(crate) mod credential_file;
pub(crate) mod deliver;
mod file_watch;
mod rejection;
pub(crate) mod status_command;
mod written_files;
