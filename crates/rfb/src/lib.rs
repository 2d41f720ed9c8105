//! The RFB protocol 3.8 (RFC 6143).
//!
//! | module | content | used by |
//! |---|---|---|
//! | [`handshake`] | the messages up to ServerInit, as bytes | the client, the agent, the view-only filter, the fake server |
//! | [`client_messages`] | the messages of a client: built and parsed, as bytes | the same |
//! | `client` | a client over any byte stream, and a viewer's WebSocket as a byte stream | `anteroom bench`, external desktops, tests |
//!
//! The first two modules do no I/O and need no other crate. The feature `client` adds the third.

#[cfg(feature = "client")]
pub mod client;
pub mod client_messages;
pub mod handshake;
