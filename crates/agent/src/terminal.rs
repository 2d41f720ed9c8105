//! The tool's terminal: a tmux server with one session, to which the desktop's xterm and every web terminal attach, and the process in
//! its pane that runs the tool. tmux answers the tool's cursor queries and keeps the screen as a model.

pub(crate) mod attach;
pub(crate) mod handle;
pub(crate) mod pane;
pub(crate) mod server;
pub(crate) mod tmux;
