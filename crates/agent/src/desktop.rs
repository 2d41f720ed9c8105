//! The machine's desktop: the display server and its programs, the browser, and a viewer connection that is prepared in advance.

pub(crate) mod browser;
pub(crate) mod devtools;
pub(crate) mod display;
pub(crate) mod preconnected_rfb;
pub(crate) mod programs;
pub(crate) mod rfb;
pub(crate) mod user_namespaces;
