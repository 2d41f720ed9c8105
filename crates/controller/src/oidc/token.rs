//! Exchanges an authorization code for an ID token and verifies it.

use super::{
    CLOCK_AHEAD_MS_MAX, ISSUED_BEFORE_MS_MAX, Identity, Oidc, PROVIDER_TEXT_BYTES_MAX, provider::Known,
    provider::unavailable,
};
use crate::{
    api_error::{ApiError, chain},
    names::require_clear,
    unix_time,
};
use anteroom_store::{Person, UnixMs};
use anteroom_wire::{Problem, guest_text::clean_line};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError, Client,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdToken, IdTokenClaims, IdTokenFields,
    IdTokenVerifier, Nonce, OAuth2TokenResponse, PkceCodeVerifier, RequestTokenError, SignatureVerificationError,
    StandardErrorResponse, StandardTokenResponse, TokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
        CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Length of a subject identifier (OpenID Connect Core §2), bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Longest name of a person that is stored, bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// The accepted signature algorithms. With a shared secret (`HS256` and others) everyone who knows it could sign.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// The claims that OpenID Connect does not define.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OtherClaims {
    #[serde(flatten)]
    claims: BTreeMap<String, Value>,
}

impl AdditionalClaims for OtherClaims {}

type Token = IdToken<OtherClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Claims = IdTokenClaims<OtherClaims, CoreGenderClaim>;
type TokenFields = IdTokenFields<
    OtherClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type TokenError = StandardErrorResponse<CoreErrorResponseType>;
pub(super) type OidcClient = Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    TokenError,
    StandardTokenResponse<TokenFields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What the provider gave for a code.
pub(super) struct Exchanged {
    token: Token,
    access_token: AccessToken,
}

impl Oidc {
    /// The client of the library.
    pub(super) fn client(&self, known: &Known) -> OidcClient {
        let metadata = known.metadata.as_ref().clone();
        let methods = metadata.token_endpoint_auth_methods_supported();
        let lists = |method: &CoreClientAuthMethod| methods.is_some_and(|methods| methods.contains(method));
        let in_body =
            !lists(&CoreClientAuthMethod::ClientSecretBasic) && lists(&CoreClientAuthMethod::ClientSecretPost);
        let auth_type = if in_body { AuthType::RequestBody } else { AuthType::BasicAuth };
        OidcClient::from_provider_metadata(metadata, self.client_id.clone(), self.secret.clone())
            .set_auth_type(auth_type)
            .set_redirect_uri(self.redirect_uri.clone())
    }

    /// Exchanges the code for an ID token and the access token that it may name, which are not verified.
    pub(super) async fn exchange_code(
        &self,
        known: &Known,
        code: String,
        verifier: PkceCodeVerifier,
    ) -> Result<Exchanged, ApiError> {
        let client = self.client(known);
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(ApiError::internal)?;
        let answer = request.set_pkce_verifier(verifier).request_async(&self.provider.client()).await;
        let answer = answer.map_err(|error| exchange_error(&error))?;
        let token = answer.id_token().cloned().ok_or_else(|| invalid("the provider sent no ID token"))?;
        Ok(Exchanged { token, access_token: answer.access_token().clone() })
    }

    /// Verifies an ID token. If it is signed with an unknown key, the keys may be read again.
    pub(super) async fn verify(
        &self,
        known: Known,
        exchanged: &Exchanged,
        nonce: &Nonce,
        begun_at_ms: UnixMs,
    ) -> Result<Identity, ApiError> {
        let verified = self.verify_with(&known, exchanged, nonce, begun_at_ms);
        let is_key_unknown = matches!(
            verified,
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey))
        );
        let verified = match verified {
            Err(_) if is_key_unknown => match self.provider.get_newer_keys(&known).await? {
                Some(newer) => self.verify_with(&newer, exchanged, nonce, begun_at_ms),
                None => verified,
            },
            Ok(_) | Err(_) => verified,
        };
        self.identity(verified.map_err(|error| invalid(&reason(&error)))?)
    }

    fn verify_with<'t>(
        &self,
        known: &Known,
        exchanged: &'t Exchanged,
        nonce: &Nonce,
        begun_at_ms: UnixMs,
    ) -> Result<&'t Claims, ClaimsVerificationError> {
        let (client_id, issuer) = (self.client_id.clone(), self.provider.issuer.clone());
        let range = begun_at_ms.saturating_sub(ISSUED_BEFORE_MS_MAX)..=unix_time::now_unix_ms() + CLOCK_AHEAD_MS_MAX;
        let verifier = IdTokenVerifier::new_public_client(client_id, issuer, known.keys.as_ref().clone())
            .set_allowed_algs(ALGORITHMS)
            .set_issue_time_verifier_fn(move |at| {
                let is_in_range = u64::try_from(at.timestamp_millis()).is_ok_and(|at_ms| range.contains(&at_ms));
                if is_in_range { Ok(()) } else { Err(ISSUED_AT_ANOTHER_TIME.to_owned()) }
            });
        let Exchanged { token, access_token } = exchanged;
        let claims = token.claims(&verifier, nonce)?;
        if let Some(hash) = claims.access_token_hash() {
            let signature = ClaimsVerificationError::SignatureVerification;
            let (algorithm, key) =
                (token.signing_alg().map_err(signature)?, token.signing_key(&verifier).map_err(signature)?);
            let own = AccessTokenHash::from_token(access_token, algorithm, key);
            if own.ok().as_ref() != Some(hash) {
                return Err(ClaimsVerificationError::Other(OTHER_ACCESS_TOKEN.to_owned()));
            }
        }
        Ok(claims)
    }

    /// Who the claims name.
    fn identity(&self, claims: &Claims) -> Result<Identity, ApiError> {
        if claims.authorized_party().is_some_and(|party| *party != self.client_id) {
            return Err(invalid("its audience is another client (azp)"));
        }
        let subject = claims.subject().as_str();
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains(char::is_control) {
            return Err(invalid("its subject is empty, too long, or contains control characters"));
        }
        let name = claims.name().and_then(|name| name.get(None)).map(|name| name.as_str());
        let username = claims.preferred_username().map(|name| name.as_str());
        let email = claims.email().map(|email| email.as_str());
        let is_clear = |name: &String| require_clear("name", name, NAME_BYTES_MAX).is_ok();
        let names = [name, username, email].into_iter().flatten().map(|name| clean_line(name, NAME_BYTES_MAX));
        let name = names.into_iter().find(is_clear).unwrap_or_else(|| clean_line(subject, NAME_BYTES_MAX));
        let groups = claims.additional_claims().claims.get(&self.settings.groups_claim);
        let [issued_at, authenticated_at] = [Some(claims.issue_time()), claims.auth_time()]
            .map(|at| at.and_then(|at| u64::try_from(at.timestamp_millis()).ok()));
        // A clock that is ahead would make an earlier authentication look fresh.
        let ahead_ms = issued_at.unwrap_or(0).saturating_sub(unix_time::now_unix_ms());
        Ok(Identity {
            person: Person { issuer: self.issuer().to_owned(), subject: subject.to_owned() },
            name,
            role: self.settings.role_of(groups.into_iter().flat_map(texts)),
            authenticated_at_ms: authenticated_at.map(|at_ms| at_ms.saturating_sub(ahead_ms)),
        })
    }
}

/// The texts in a claim: a list of them, or one.
fn texts(claim: &Value) -> Vec<&str> {
    match claim {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => vec![text],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(Problem::IdTokenInvalid, detail)
}

const OTHER_ACCESS_TOKEN: &str = "it belongs to another access token (at_hash)";
const ISSUED_AT_ANOTHER_TIME: &str = "it was issued before this sign-in began, or in the future";

/// Why a token is not valid, without anything of its content.
fn reason(error: &ClaimsVerificationError) -> String {
    let text = match error {
        ClaimsVerificationError::Expired(text) if text == ISSUED_AT_ANOTHER_TIME => ISSUED_AT_ANOTHER_TIME,
        ClaimsVerificationError::Expired(_) => "it has expired",
        ClaimsVerificationError::InvalidAudience(_) => "its audience is not this server alone",
        ClaimsVerificationError::InvalidIssuer(_) => "its issuer is not the configured one",
        ClaimsVerificationError::InvalidNonce(_) => "its nonce is not that of this sign-in",
        ClaimsVerificationError::SignatureVerification(error) => match error {
            SignatureVerificationError::DisallowedAlg(_)
            | SignatureVerificationError::UnsupportedAlg(_)
            | SignatureVerificationError::NoSignature => "its signature algorithm is not accepted",
            SignatureVerificationError::NoMatchingKey => "its signature is by a key that the provider does not publish",
            SignatureVerificationError::AmbiguousKeyId(_)
            | SignatureVerificationError::CryptoError(_)
            | SignatureVerificationError::InvalidKey(_)
            | SignatureVerificationError::Other(_)
            | _ => "its signature is not valid",
        },
        ClaimsVerificationError::Other(text) if text == OTHER_ACCESS_TOKEN => OTHER_ACCESS_TOKEN,
        ClaimsVerificationError::InvalidAuthContext(_)
        | ClaimsVerificationError::InvalidAuthTime(_)
        | ClaimsVerificationError::InvalidSubject(_)
        | ClaimsVerificationError::Other(_)
        | ClaimsVerificationError::Unsupported(_)
        | _ => "it is of a form that is not supported",
    };
    text.to_owned()
}

/// The error of an exchange. Parts of the answer may be secret, so only error codes and descriptions are passed on.
fn exchange_error(error: &RequestTokenError<super::http::ExchangeError, TokenError>) -> ApiError {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            let (problem, code) = match answer.error() {
                CoreErrorResponseType::InvalidGrant => (Problem::CodeRejected, "invalid_grant"),
                CoreErrorResponseType::InvalidClient => (Problem::ClientRejected, "invalid_client"),
                CoreErrorResponseType::UnauthorizedClient => (Problem::ClientRejected, "unauthorized_client"),
                other @ (CoreErrorResponseType::InvalidRequest
                | CoreErrorResponseType::InvalidScope
                | CoreErrorResponseType::UnsupportedGrantType
                | CoreErrorResponseType::Extension(_)) => (Problem::IssuerError, other.as_ref()),
            };
            let description = answer.error_description().map(|text| clean_line(text, PROVIDER_TEXT_BYTES_MAX));
            let code = clean_line(code, PROVIDER_TEXT_BYTES_MAX);
            ApiError::new(problem, description.map_or(code.clone(), |description| format!("{code}: {description}")))
        }
        RequestTokenError::Request(error) => unavailable(&chain(error)),
        RequestTokenError::Parse(_, body) => {
            let answer: Option<Value> = serde_json::from_slice(body).ok();
            if answer.is_some_and(|answer| answer.get("id_token").is_some()) {
                invalid("it cannot be read: its form or its signature algorithm is not supported")
            } else {
                unavailable("its token endpoint did not answer with a token response")
            }
        }
        RequestTokenError::Other(_) => unavailable("its token endpoint did not answer with JSON"),
    }
}
