//! Which program of a machine requests a host.

/// Which program requests a host: each has a loopback port of its own in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EgressBy {
    /// The machine's browser: a page, or the browser of its own accord.
    Browser,
    /// The tool, or another program.
    Tool,
}

impl EgressBy {
    /// The value of [`EGRESS_BY_HEADER`](super::EGRESS_BY_HEADER), and of `by` on the timeline.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Tool => "tool",
        }
    }

    /// The program of a header's value; `None`: another value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Browser, Self::Tool].into_iter().find(|by| by.as_str() == text)
    }
}
