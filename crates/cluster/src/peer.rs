//! The channel between hosts: certificates and TLS. What is sent on it is HTTP, which the server does.
//!
//! ```text
//!  Authority ──issues──▶ certificate with the URI SAN `host:<id>` ──▶ PeerTls: TLS 1.3, both sides
//!     └─────invites──▶ Invitation (15 minutes, once) ──▶ JoinTls: a machine without a certificate, which knows the authority's fingerprint
//! ```

mod authority;
mod identity;
mod invitation;
mod join;
mod key;
mod tls;

pub use authority::{Authority, AuthorityError, CERTIFICATE_LIFETIME_S, Fingerprint, certificate_validity, host_of};
pub use identity::{IdentityError, IdentityFiles, PeerIdentity};
pub use invitation::{INVITATION_S_MAX, Invitation, InvitationSecret, MalformedInvitation};
pub use join::{JoinAnswer, JoinRequest};
pub use key::{PeerKey, new_peer_key};
pub use tls::{ALPN_HTTP1, ALPN_HTTP2, ALPN_JOIN, JoinTls, PeerTls};

#[cfg(test)]
mod tests;
