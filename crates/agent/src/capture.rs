//! Capture of the credential: finds the file that the tool writes, checks it, and delivers it to the controller.

mod changes;
pub(crate) mod credential_file;
pub(crate) mod deliver;
pub(crate) mod status;
pub(crate) mod watch;
