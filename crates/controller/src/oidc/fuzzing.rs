//! Properties of the parsers of what a provider answers.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use super::token::{ALGORITHMS, Claims, Token, texts};
use openidconnect::{
    ClientId, IdTokenVerifier, IssuerUrl, Nonce, ProviderMetadataWithLogout,
    core::{CoreJsonWebKey, CoreJsonWebKeySet},
};

const ISSUER: &str = "https://issuer.example";

/// A provider's metadata, its keys or the claims of a token, or in two lines its keys and a token (as JSON).
pub(crate) fn check_answers(data: &[u8]) {
    // None may panic; what they contain is the library's business.
    drop(serde_json::from_slice::<ProviderMetadataWithLogout>(data));
    if let Ok(claims) = serde_json::from_slice::<Claims>(data) {
        for at in [Some(claims.issue_time()), Some(claims.expiration()), claims.auth_time()].into_iter().flatten() {
            let _ = at.timestamp_millis();
        }
        let groups = claims.additional_claims().claims.values().flat_map(texts);
        assert!(groups.map(str::len).sum::<usize>() <= data.len());
    }
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (keys, token) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let keys: CoreJsonWebKeySet = serde_json::from_slice(keys).unwrap_or_default();
    let Ok(token) = serde_json::from_slice::<Token>(token) else { return };
    let issuer = IssuerUrl::new(ISSUER.to_owned()).expect("it is a URL");
    let verifier: IdTokenVerifier<'_, CoreJsonWebKey> =
        IdTokenVerifier::new_public_client(ClientId::new("client".to_owned()), issuer, keys)
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(Default::default);
    if token.claims(&verifier, &Nonce::new("nonce".to_owned())).is_ok() {
        assert!(token.signing_alg().is_ok_and(|algorithm| ALGORITHMS.contains(algorithm)));
    }
}
