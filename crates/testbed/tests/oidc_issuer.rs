//! The OpenID provider with an HTTP client: what it accepts, refuses and signs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{
    OidcIssuer,
    oidc_issuer::{Decision, OidcFault, Person},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Client, Url, header};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const BACK: &str = "http://127.0.0.1:1/sign-in/callback";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";

async fn start() -> OidcIssuer {
    let issuer = OidcIssuer::start([Person::in_groups("ada", "Ada <Example>", &["users"])]).await.unwrap();
    issuer.register_redirect_uri(BACK);
    issuer
}

/// The query of an authorization request, with replaced parameters; an empty value removes one.
fn authorization_url(issuer: &OidcIssuer, replaced: &[(&str, &str)]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let valid = [
        ("response_type", "code"),
        ("client_id", issuer.client_id()),
        ("redirect_uri", BACK),
        ("scope", "openid profile"),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("response_mode", ""),
        ("prompt", ""),
    ];
    let value = |key: &str, valid| replaced.iter().find(|(other, _)| *other == key).map_or(valid, |(_, value)| *value);
    let parameters = valid.iter().map(|(key, valid)| (*key, value(key, *valid))).filter(|(_, value)| !value.is_empty());
    Url::parse_with_params(&format!("{}/authorize", issuer.url()), parameters).unwrap().into()
}

fn parameter(url: &Url, key: &str) -> Option<String> {
    url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

async fn code(issuer: &OidcIssuer) -> String {
    let back = issuer.decide(&authorization_url(issuer, &[]), Decision::SignIn("ada")).await.unwrap();
    parameter(&back, "code").unwrap()
}

async fn exchange(issuer: &OidcIssuer, replaced: &[(&str, &str)], basic: Option<(&str, &str)>) -> (u16, Value) {
    let secret = issuer.client_secret();
    let valid = [
        ("grant_type", "authorization_code"),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
        ("client_id", issuer.client_id()),
        ("client_secret", if basic.is_some() { "" } else { &secret }),
        ("code", ""),
    ];
    let value = |key: &str, valid| replaced.iter().find(|(other, _)| *other == key).map_or(valid, |(_, value)| *value);
    let parameters = valid.iter().map(|(key, valid)| (*key, value(key, *valid))).filter(|(_, value)| !value.is_empty());
    let form = Url::parse_with_params("http://form.invalid/", parameters).unwrap().query().unwrap().to_owned();
    let request = Client::builder().no_proxy().build().unwrap().post(format!("{}/token", issuer.url())).body(form);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = match basic {
        Some((id, secret)) => request.basic_auth(id, Some(secret)),
        None => request,
    };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

async fn get_json(url: &str) -> Value {
    let response = Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The claims of an ID token with a valid signature by the published key.
async fn verified_claims(issuer: &OidcIssuer, token: &str) -> Option<Value> {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    let keys = get_json(&format!("{}/keys", issuer.url())).await;
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"])?;
    let [n, e] = ["n", "e"].map(|part| decode(key[part].as_str().unwrap()));
    let key = RsaPublicKeyComponents { n, e };
    key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &decode(signature)).ok()?;
    (header["alg"] == "RS256").then(|| serde_json::from_slice(&decode(claims)).unwrap())
}

#[tokio::test]
async fn discovery_names_the_issuer_and_its_endpoints() {
    let issuer = start().await;
    let document = get_json(&format!("{}/.well-known/openid-configuration", issuer.url())).await;
    assert_eq!(document["issuer"], issuer.url());
    for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"] {
        assert!(document[endpoint].as_str().unwrap().starts_with(issuer.url()), "{endpoint}");
    }
    assert_eq!(issuer.count_requests("GET /.well-known/openid-configuration"), 1);
}

#[tokio::test]
async fn code_is_exchanged_once_for_a_signed_id_token_with_the_nonce() {
    let issuer = start().await;
    let code = code(&issuer).await;
    let (status, tokens) = exchange(&issuer, &[("code", &code)], None).await;
    assert_eq!(status, 200, "{tokens}");
    let claims = verified_claims(&issuer, tokens["id_token"].as_str().unwrap()).await.unwrap();
    let expected = json!([issuer.url(), "ada", issuer.client_id(), "the-nonce", ["users"]]);
    assert_eq!(json!([claims["iss"], claims["sub"], claims["aud"], claims["nonce"], claims["groups"]]), expected);
    let (status, refusal) = exchange(&issuer, &[("code", &code)], None).await;
    assert_eq!((status, &refusal["error"]), (400, &json!("invalid_grant")));
    assert!(issuer.issued_secrets().contains(&code));
}

#[tokio::test]
async fn token_endpoint_checks_client_redirect_uri_and_verifier() {
    let issuer = start().await;
    let code = code(&issuer).await;
    let another = "another-verifier-of-forty-three-characters-or-more";
    for (replaced, expected) in [
        (("code", "never-issued"), (400, "invalid_grant")),
        (("code_verifier", another), (400, "invalid_grant")),
        (("code_verifier", ""), (400, "invalid_grant")),
        (("code_verifier", "short"), (400, "invalid_request")),
        (("redirect_uri", "http://127.0.0.1:2/"), (400, "invalid_grant")),
        (("client_id", "another"), (401, "invalid_client")),
        (("client_secret", "another"), (401, "invalid_client")),
        (("client_secret", ""), (401, "invalid_client")),
        (("grant_type", "password"), (400, "unsupported_grant_type")),
    ] {
        let (status, refusal) = exchange(&issuer, &[replaced, ("code", code.as_str())], None).await;
        assert_eq!((status, refusal["error"].as_str().unwrap()), expected, "{replaced:?}");
    }
    assert_eq!(exchange(&issuer, &[("code", &code)], Some((issuer.client_id(), "another"))).await.0, 401);
    let form = |text: &str| {
        Url::parse_with_params("http://form.invalid/", [("", text)]).unwrap().query().unwrap()[1..].to_owned()
    };
    let (id, secret) = (form(issuer.client_id()), form(&issuer.client_secret()));
    assert_eq!(exchange(&issuer, &[("code", &code)], Some((&id, &secret))).await.0, 200);
}

#[tokio::test]
async fn authorization_endpoint_redirects_only_to_registered_uris() {
    let issuer = start().await;
    for invalid in [("redirect_uri", "http://elsewhere.test/"), ("client_id", "another")] {
        assert!(issuer.decide(&authorization_url(&issuer, &[invalid]), Decision::Deny).await.is_err(), "{invalid:?}");
    }
    for (invalid, error) in [
        (("response_type", "token"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("scope", "profile"), "invalid_scope"),
        (("response_mode", "unknown"), "invalid_request"),
        (("prompt", "none"), "login_required"),
    ] {
        let back = issuer.decide(&authorization_url(&issuer, &[invalid]), Decision::Deny).await.unwrap();
        assert_eq!(parameter(&back, "error").as_deref(), Some(error), "{invalid:?}");
        assert_eq!(parameter(&back, "state").as_deref(), Some("the-state"));
    }
    let denied = issuer.decide(&authorization_url(&issuer, &[]), Decision::Deny).await.unwrap();
    assert_eq!(parameter(&denied, "error").as_deref(), Some("access_denied"));
    let fragment = authorization_url(&issuer, &[("response_mode", "fragment")]);
    let back = issuer.decide(&fragment, Decision::SignIn("ada")).await.unwrap();
    assert!(back.query().is_none() && back.fragment().unwrap().contains("state=the-state"), "{back}");
}

#[tokio::test]
async fn known_browser_is_asked_again_only_on_request_and_after_sign_out() {
    let issuer = start().await;
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let page = client.get(authorization_url(&issuer, &[])).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Ada &lt;Example>"), "{page}");
    let field = page.split_once("name=\"request\" value=\"").unwrap().1.split('"').next().unwrap();
    let post = client.post(format!("{}/authorize", issuer.url())).body(format!("request={field}&subject=ada"));
    let signed_in = post.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").send().await.unwrap();
    let cookie = signed_in.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let is_asked =
        async |url: String| client.get(url).header(header::COOKIE, &cookie).send().await.unwrap().status() == 200;
    assert!(!is_asked(authorization_url(&issuer, &[])).await);
    assert!(is_asked(authorization_url(&issuer, &[("prompt", "login")])).await);
    assert!(is_asked(format!("{}&max_age=0", authorization_url(&issuer, &[]))).await);
    issuer.register_post_logout_redirect_uri("http://127.0.0.1:1/");
    let sign_out = |uri: &str| {
        let url = format!("{}/sign-out", issuer.url());
        Url::parse_with_params(&url, [("post_logout_redirect_uri", uri)]).unwrap()
    };
    let refused = client.get(sign_out("http://elsewhere.test/")).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let signed_out = client.get(sign_out("http://127.0.0.1:1/")).header(header::COOKIE, &cookie).send().await.unwrap();
    assert_eq!(signed_out.headers()[header::LOCATION], "http://127.0.0.1:1/");
    assert!(is_asked(authorization_url(&issuer, &[])).await);
}

#[tokio::test]
async fn invalid_tokens_do_not_verify_and_a_new_key_replaces_the_published_one() {
    let issuer = start().await;
    let id_token = async || {
        let (status, tokens) = exchange(&issuer, &[("code", &code(&issuer).await)], None).await;
        assert_eq!(status, 200, "{tokens}");
        tokens["id_token"].as_str().unwrap().to_owned()
    };
    for fault in [
        OidcFault::ForgedSignature,
        OidcFault::ChangedClaims,
        OidcFault::UnsignedIdToken,
        OidcFault::HmacOfClientSecret,
        OidcFault::HmacOfPublicKey,
        OidcFault::UnknownKey,
    ] {
        issuer.set_faults([fault]);
        assert_eq!(verified_claims(&issuer, &id_token().await).await, None, "{fault:?}");
    }
    for (fault, claim) in [
        (OidcFault::AnotherNonce, "nonce"),
        (OidcFault::NoNonce, "nonce"),
        (OidcFault::AnotherAudience, "aud"),
        (OidcFault::MoreAudiences, "aud"),
        (OidcFault::AnotherIssuer, "iss"),
        (OidcFault::ExpiredIdToken, "exp"),
        (OidcFault::OldIdToken, "iat"),
        (OidcFault::OldAuthTime, "auth_time"),
        (OidcFault::NoSubject, "sub"),
        (OidcFault::AnotherAccessTokenHash, "at_hash"),
    ] {
        issuer.set_faults([]);
        let valid = verified_claims(&issuer, &id_token().await).await.unwrap()[claim].clone();
        issuer.set_faults([fault]);
        assert_ne!(verified_claims(&issuer, &id_token().await).await.unwrap()[claim], valid, "{fault:?}");
    }
    issuer.set_faults([]);
    let before = id_token().await;
    issuer.rotate_key();
    assert_eq!(verified_claims(&issuer, &before).await, None);
    assert!(verified_claims(&issuer, &id_token().await).await.is_some());
}
