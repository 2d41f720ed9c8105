//! Answers of an OpenID provider that must not sign a person in: each is refused with its own code.

use crate::{
    browser_client::Browser,
    oidc_fixture::{OidcServer, ROLES, new_issuer},
};
use anteroom_testbed::{
    WAIT_MAX, eventually,
    oidc_issuer::{Decision, OidcFault},
};
use anteroom_wire::ProblemBody;
use reqwest::Method;

/// Bytes of a body without an end that the server may let the provider send: what it reads and what the sockets buffer.
const ENDLESS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Signs in while the provider has these faults, checks that the browser is not signed in, and returns the problem.
async fn refuse(oidc: &OidcServer, fault: OidcFault) -> ProblemBody {
    oidc.issuer.set_faults([fault]);
    let mut browser = Browser::new(&oidc.server, "a");
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    let refused = browser.finish_sign_in(&back).await.expect_err(&format!("{fault:?}"));
    assert_eq!(browser.status(Method::GET, "/api/me").await.0, 401, "{fault:?}");
    oidc.issuer.set_faults([]);
    refused
}

/// Checks the code of the problem, and that its detail contains one of the words, separated by `|`.
fn assert_problem(problem: &ProblemBody, fault: OidcFault, code: &str, words: &str) {
    let detail = problem.detail.clone().unwrap_or_default();
    assert_eq!(problem.code, code, "{fault:?}: {problem:?}");
    assert!(words.split('|').any(|word| detail.contains(word)), "{fault:?}: no {words:?} in {detail:?}");
}

#[tokio::test]
async fn oidc_invalid_id_tokens_are_refused_and_the_cause_is_named() {
    let oidc = OidcServer::start("").await;
    for (fault, words) in [
        (OidcFault::AnotherNonce, "nonce"),
        (OidcFault::NoNonce, "nonce"),
        (OidcFault::AnotherAudience, "audience"),
        (OidcFault::MoreAudiences, "audience"),
        (OidcFault::AnotherIssuer, "issuer"),
        (OidcFault::ExpiredIdToken, "expired"),
        (OidcFault::OldIdToken, "issued"),
        (OidcFault::ForgedSignature, "signature"),
        (OidcFault::ChangedClaims, "signature"),
        (OidcFault::UnknownKey, "signature|key"),
        (OidcFault::UnsignedIdToken, "algorithm|signature"),
        (OidcFault::HmacOfClientSecret, "algorithm"),
        (OidcFault::HmacOfPublicKey, "algorithm"),
        (OidcFault::NoIdToken, "no ID token"),
        (OidcFault::NoSubject, ""),
        (OidcFault::AnotherAccessTokenHash, ""),
    ] {
        assert_problem(&refuse(&oidc, fault).await, fault, "id_token_invalid", words);
    }
    oidc.sign_in("b", "ada").await;
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_refusals_of_the_provider_have_their_own_codes() {
    let oidc = OidcServer::start("").await;
    for (fault, code) in [
        (OidcFault::ExpiredCode, "code_rejected"),
        (OidcFault::AnotherState, "sign_in_expired"),
        (OidcFault::AnotherResponseIssuer, "issuer_error"),
    ] {
        assert_problem(&refuse(&oidc, fault).await, fault, code, "");
    }
    let mut browser = Browser::new(&oidc.server, "a");
    let back = oidc.authenticate(&browser, Decision::Deny).await;
    assert_eq!(browser.finish_sign_in(&back).await.unwrap_err().code, "sign_in_denied");
    let other = oidc.authenticate(&browser, Decision::Deny).await;
    let other = other.as_str().replace("access_denied", "temporarily_unavailable").parse().unwrap();
    let problem = browser.finish_sign_in(&other).await.unwrap_err();
    assert_eq!(problem.code, "issuer_error");
    assert!(problem.detail.unwrap().contains("temporarily_unavailable"));
    oidc.sign_in("b", "ada").await;
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_token_endpoint_that_fails_is_not_waited_for_or_read_without_end() {
    let oidc = OidcServer::start("[limits.oidc]\nrequest_ms_max = 3000\n").await;
    oidc.sign_in("b", "ada").await;
    for fault in [
        OidcFault::TokenSilent,
        OidcFault::TokenServerError,
        OidcFault::TokenEndless,
        OidcFault::TokenRedirect,
        OidcFault::TokenMalformed,
    ] {
        assert_problem(&refuse(&oidc, fault).await, fault, "issuer_unavailable", "");
    }
    let redirected = oidc.issuer.requests().into_iter().find(|request| request.ends_with("/elsewhere"));
    assert_eq!(redirected, None, "a redirect is not followed");
    assert!(oidc.issuer.endless_bytes() <= ENDLESS_BYTES_MAX, "{} bytes were sent", oidc.issuer.endless_bytes());
    oidc.sign_in("b", "ada").await;
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_discovery_that_fails_is_reported_and_tried_again() {
    for fault in [
        OidcFault::Unavailable,
        OidcFault::DiscoveryUnavailable,
        OidcFault::DiscoveryOfAnotherIssuer,
        OidcFault::DiscoveryEndless,
        OidcFault::KeysUnavailable,
    ] {
        let issuer = new_issuer().await;
        issuer.set_faults([fault]);
        let oidc = OidcServer::start_with(issuer, &format!("{ROLES}[limits.oidc]\nretry_ms_max = 1000\n")).await;
        let browser = Browser::new(&oidc.server, "a");
        let problem = browser.begin("sign-in").await.expect_err(&format!("{fault:?}"));
        assert_problem(&problem, fault, "issuer_unavailable", "");
        assert!(oidc.issuer.endless_bytes() <= ENDLESS_BYTES_MAX, "{} bytes", oidc.issuer.endless_bytes());
        oidc.issuer.set_faults([]);
        let begun = async || Ok(browser.begin("sign-in").await.ok());
        eventually("a sign-in begins", WAIT_MAX, begun).await.unwrap();
        oidc.sign_in("b", "ada").await;
        oidc.finish().await;
    }
}
