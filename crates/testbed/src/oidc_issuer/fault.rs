//! What a provider does wrong.

/// A fault of the provider, which a test switches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OidcFault {
    /// Every request is answered with 503.
    Unavailable,
    /// The discovery document is answered with 503.
    DiscoveryUnavailable,
    /// The discovery document names another issuer.
    DiscoveryOfAnotherIssuer,
    /// The body of the discovery document has no end.
    DiscoveryEndless,
    /// The provider does not know `response_mode=fragment`, as many: the code is in the query of the redirect URI.
    QueryResponsesOnly,
    /// The signing keys are answered with 503.
    KeysUnavailable,
    /// The provider redirects with another state than the requested one.
    AnotherState,
    /// The provider redirects with another issuer in `iss` (RFC 9207).
    AnotherResponseIssuer,
    /// Codes have expired when they are exchanged.
    ExpiredCode,
    /// The token endpoint does not answer.
    TokenSilent,
    /// The token endpoint answers with 500 and a page.
    TokenServerError,
    /// The body of the token endpoint's answer has no end.
    TokenEndless,
    /// The token endpoint redirects to another path, which is recorded as a request.
    TokenRedirect,
    /// The answer of the token endpoint is not JSON.
    TokenMalformed,
    /// The answer of the token endpoint has no ID token.
    NoIdToken,
    /// The ID token has another nonce.
    AnotherNonce,
    /// The ID token has no nonce.
    NoNonce,
    /// The ID token is for another client.
    AnotherAudience,
    /// The ID token is for this client and for another one.
    MoreAudiences,
    /// The ID token names another issuer.
    AnotherIssuer,
    /// The ID token expired an hour ago.
    ExpiredIdToken,
    /// The ID token was issued ten days ago, with an end in the future.
    OldIdToken,
    /// The ID token's signature was made with another key than the one that it names.
    ForgedSignature,
    /// The ID token's claims were changed after it was signed.
    ChangedClaims,
    /// The ID token has the algorithm `none` and no signature.
    UnsignedIdToken,
    /// The ID token's signature is an HMAC with the client secret.
    HmacOfClientSecret,
    /// The ID token's signature is an HMAC with the public key.
    HmacOfPublicKey,
    /// The ID token is signed with a key that is not published.
    UnknownKey,
    /// The ID token's hash of the access token is another one's.
    AnotherAccessTokenHash,
    /// The person authenticated a day ago, whatever was requested.
    OldAuthTime,
    /// The person authenticated half a minute before the request for it.
    RecentAuthTime,
    /// The provider's clock is half a minute ahead.
    ClockAhead,
    /// The ID token is dated back by five minutes, as Entra ID does.
    BackdatedIdToken,
    /// The ID token does not contain when the person authenticated.
    NoAuthTime,
    /// The ID token has no subject.
    NoSubject,
}
