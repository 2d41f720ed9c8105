//! The keys of a provider and the ID tokens that it signs with them: JWS (RFC 7515) with RS256.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair, PublicKeyComponents},
    signature::RSA_PKCS1_SHA256,
};
use serde_json::{Value, json};
use std::io;

/// Two RSA keys with 2048 bits, as PKCS #1. They sign the tokens of tests and nothing else; creating one takes seconds.
const KEYS: [&[u8]; 2] =
    [include_bytes!("../../fixtures/oidc_issuer/first.der"), include_bytes!("../../fixtures/oidc_issuer/second.der")];

/// The keys of a provider: one is published and signs.
pub(super) struct SigningKeys {
    keys: [KeyPair; 2],
    current: usize,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys").field("current", &self.current).finish_non_exhaustive()
    }
}

impl SigningKeys {
    pub(super) fn load() -> io::Result<Self> {
        let load = |key: &[u8]| KeyPair::from_der(key).map_err(|error| io::Error::other(error.to_string()));
        Ok(Self { keys: [load(KEYS[0])?, load(KEYS[1])?], current: 0 })
    }

    /// Publishes the other key instead of the current one.
    pub(super) fn rotate(&mut self) {
        self.current = self.other();
    }

    fn other(&self) -> usize {
        1 - self.current
    }

    /// The published key as a JWK set (RFC 7517).
    pub(super) fn jwk_set(&self) -> Value {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.keys[self.current].public());
        json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id(self.current),
            "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e),
        }] })
    }

    /// Signs with the published key.
    pub(super) fn sign(&self, claims: &Value) -> io::Result<String> {
        self.sign_with(self.current, &key_id(self.current), claims)
    }

    /// Signs with the key that is not published, which the token names.
    pub(super) fn sign_with_unpublished_key(&self, claims: &Value) -> io::Result<String> {
        self.sign_with(self.other(), &key_id(self.other()), claims)
    }

    /// Signs with the key that is not published, while the token names the published one.
    pub(super) fn forge(&self, claims: &Value) -> io::Result<String> {
        self.sign_with(self.other(), &key_id(self.current), claims)
    }

    fn sign_with(&self, key: usize, kid: &str, claims: &Value) -> io::Result<String> {
        let signed = signing_input(&json!({ "alg": "RS256", "typ": "JWT", "kid": kid }), claims);
        let mut signature = vec![0; self.keys[key].public().modulus_len()];
        self.keys[key]
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| io::Error::other("the ID token cannot be signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// An HMAC with the modulus of the published key.
    pub(super) fn hmac_of_public_key(&self, claims: &Value) -> String {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.keys[self.current].public());
        hmac_with(&public.n, &key_id(self.current), claims)
    }

    /// An HMAC with the client secret.
    pub(super) fn hmac_of_secret(&self, secret: &str, claims: &Value) -> String {
        hmac_with(secret.as_bytes(), &key_id(self.current), claims)
    }
}

/// The algorithm `none`.
pub(super) fn unsigned(claims: &Value) -> String {
    format!("{}.", signing_input(&json!({ "alg": "none", "typ": "JWT" }), claims))
}

/// Replaces the claims of a signed token.
pub(super) fn replace_claims(token: &str, claims: &Value) -> String {
    let (header, signature) = (token.split('.').next(), token.rsplit('.').next());
    [header.unwrap_or_default(), &encode(claims), signature.unwrap_or_default()].join(".")
}

fn hmac_with(key: &[u8], kid: &str, claims: &Value) -> String {
    let signed = signing_input(&json!({ "alg": "HS256", "typ": "JWT", "kid": kid }), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn key_id(key: usize) -> String {
    format!("key-{}", key + 1)
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header), encode(claims))
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}
