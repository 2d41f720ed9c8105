//! ID tokens (OpenID Connect Core section 2), also invalid ones.

use super::{
    fault::OidcFault,
    provider::{Grant, Provider},
    signing_keys::{replace_claims, unsigned},
};
use anteroom_controller::unix_time::now_unix_ms;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io;

/// The lifetime of an ID token, seconds.
const LIFETIME_S: u64 = 3_600;
const DAY_S: u64 = 24 * 3_600;
/// How far the clock is ahead, and how old a recent authentication is, seconds.
const HALF_MINUTE_S: u64 = 30;

/// The claim `at_hash`: the left half of the access token's SHA-256.
pub(super) struct AccessTokenHash(String);

impl AccessTokenHash {
    pub(super) fn of(access_token: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16]))
    }
}

/// Issues the ID token of a grant, with the faults that are switched on.
pub(super) fn id_token(provider: &Provider, grant: &Grant, hash: &AccessTokenHash) -> io::Result<String> {
    let claims = claims(provider, grant, hash)?;
    let keys = &provider.keys;
    if provider.has(OidcFault::ForgedSignature) {
        return keys.forge(&claims);
    }
    if provider.has(OidcFault::UnknownKey) {
        return keys.sign_with_unpublished_key(&claims);
    }
    if provider.has(OidcFault::UnsignedIdToken) {
        return Ok(unsigned(&claims));
    }
    if provider.has(OidcFault::HmacOfClientSecret) {
        return Ok(keys.hmac_of_secret(&provider.client.secret, &claims));
    }
    if provider.has(OidcFault::HmacOfPublicKey) {
        return Ok(keys.hmac_of_public_key(&claims));
    }
    let token = keys.sign(&claims)?;
    if provider.has(OidcFault::ChangedClaims) {
        let mut changed = claims;
        changed["groups"] = json!(["operators", "users"]);
        return Ok(replace_claims(&token, &changed));
    }
    Ok(token)
}

fn claims(provider: &Provider, grant: &Grant, hash: &AccessTokenHash) -> io::Result<Value> {
    let person = provider.find_person(&grant.authentication.subject).ok_or(io::ErrorKind::NotFound)?;
    let ahead_s = if provider.has(OidcFault::ClockAhead) { HALF_MINUTE_S } else { 0 };
    let now_s = now_unix_ms() / 1000 + ahead_s;
    let auth_time_s = grant.authentication.auth_time_s + ahead_s;
    let mut claims = person.claims.clone();
    claims["iss"] = provider.url.clone().into();
    claims["sub"] = person.subject.clone().into();
    claims["aud"] = provider.client.id.clone().into();
    claims["exp"] = (now_s + LIFETIME_S).into();
    claims["iat"] = now_s.into();
    claims["auth_time"] = auth_time_s.into();
    claims["name"] = person.name.clone().into();
    claims["at_hash"] = hash.0.clone().into();
    if let Some(nonce) = &grant.nonce {
        claims["nonce"] = nonce.clone().into();
    }
    let replacements = [
        (OidcFault::NoNonce, "nonce", Value::Null),
        (OidcFault::NoAuthTime, "auth_time", Value::Null),
        (OidcFault::NoSubject, "sub", Value::Null),
        (OidcFault::AnotherNonce, "nonce", "another".into()),
        (OidcFault::AnotherAudience, "aud", "another-client".into()),
        (OidcFault::MoreAudiences, "aud", json!([provider.client.id, "another-client"])),
        (OidcFault::AnotherIssuer, "iss", "https://elsewhere.test".into()),
        (OidcFault::AnotherAccessTokenHash, "at_hash", AccessTokenHash::of("another").0.into()),
        (OidcFault::OldAuthTime, "auth_time", (now_s - DAY_S).into()),
        (OidcFault::RecentAuthTime, "auth_time", (auth_time_s - HALF_MINUTE_S).into()),
        (OidcFault::BackdatedIdToken, "iat", (now_s - 300).into()),
        (OidcFault::OldIdToken, "iat", (now_s - 10 * DAY_S).into()),
        (OidcFault::ExpiredIdToken, "exp", (now_s - LIFETIME_S).into()),
    ];
    for (_, claim, value) in replacements.into_iter().filter(|(fault, ..)| provider.has(*fault)) {
        claims[claim] = value;
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    Ok(claims)
}
