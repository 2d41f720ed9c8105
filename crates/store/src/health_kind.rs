//! The stored health of a credential.

use crate::text_enum::text_enum;

text_enum! {
    /// The stored health of a credential. It may have expired since it was stored: readers must also compare
    /// [`CredentialRow::expires_at_ms`](crate::CredentialRow::expires_at_ms).
    pub enum HealthKind {
        /// The tool accepted it at the last check; a sign-in counts as a check.
        Valid = "valid",
        /// Valid, but it expires soon; the webhook message for this was enqueued.
        Expiring = "expiring",
        /// The tool rejected it, or it has expired.
        NeedsAuth = "needs_auth",
    }
}
