//! Gets certificates from an authority that speaks ACME (RFC 8555). The authority connects to port 443 of each name and is shown a
//! certificate for its challenge (TLS-ALPN-01, RFC 8737).
//!
//! `instant-acme` uses this server's HTTP client and runtime; `rustls-acme` would bring others, and chrono.

mod directory_client;
mod error;

use super::{
    FromAcme, NewCertificate, TlsCertificate,
    acme_files::{self, AcmeFiles, Failure},
    load,
    report::renewal_ms,
};
use crate::{
    api_error::chain,
    config::Acme,
    unix_time::{format_rfc3339, now_unix_ms},
};
use anteroom_wire::guest_text::clean_line;
use directory_client::DirectoryClient;
use error::AcmeError;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use std::{fs, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// The authority's time to check the names, and to issue, seconds.
const ORDER_S_MAX: u64 = 120;
/// Time until the second attempt, seconds; doubled after each further one. Let's Encrypt allows five failures in an hour.
const RETRY_S: u64 = 120;
/// The longest time between two attempts, seconds.
const RETRY_S_MAX: u64 = 6 * 3_600;
/// The longest reason of a failure, bytes.
const WHY_BYTES_MAX: usize = 1_024;
/// The longest time between two looks at the clock, seconds: it may be set.
const LOOK_S: u64 = 3_600;

/// The account, as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    directory_url: String,
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// Gets the certificate when there is none, and renews it, until the server stops.
pub(super) async fn run(certificate: &TlsCertificate, acme: &FromAcme, stop: CancellationToken) {
    let mut failures = 0;
    while stop.run_until_cancelled(wait_due(certificate, acme, failures)).await.is_some() {
        let Some(result) = stop.run_until_cancelled(obtain(certificate, acme)).await else { return };
        certificate.challenges.write().clear();
        match result {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                acme.record(Failure {
                    at_ms: now_unix_ms(),
                    why: clean_line(&chain(&error), WHY_BYTES_MAX),
                    next_at_ms: now_unix_ms() + retry_s(failures) * 1_000,
                });
            }
        }
    }
}

impl FromAcme {
    fn record(&self, failure: Failure) {
        let next = format_rfc3339(failure.next_at_ms);
        tracing::error!(
            outcome = "certificate_not_obtained",
            error = failure.why,
            next,
            "no certificate obtained by ACME"
        );
        if let Err(error) = self.files.record_failure(&failure) {
            tracing::warn!(outcome = "acme_state_not_written", %error, "the failure cannot be stored");
        }
        *self.failure.write() = Some(failure);
    }

    /// Checks and stores what was issued, and uses it.
    fn accept(&self, certificate: &TlsCertificate, pem: &str) -> Result<(), AcmeError> {
        let path = self.files.certificate();
        let new = path.with_extension("new");
        self.files.replace(&new, pem.as_bytes()).map_err(AcmeError::file(&new))?;
        let loaded = load::load(&new, &new, &certificate.host, now_unix_ms())?;
        fs::rename(&new, &path).map_err(AcmeError::file(&path))?;
        certificate.replace(Some(NewCertificate(loaded)));
        *self.unusable.write() = None;
        *self.failure.write() = None;
        self.files.forget_failure().map_err(AcmeError::file(&path))
    }
}

fn retry_s(failures: u32) -> u64 {
    RETRY_S.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_S_MAX)
}

/// Waits until the certificate is to be renewed, after a failure until the next attempt; or until the configuration is read again.
async fn wait_due(certificate: &TlsCertificate, acme: &FromAcme, failures: u32) {
    loop {
        let is_usable = acme.unusable.read().is_none();
        let due_at_ms = match certificate.failure() {
            Some(failure) if failures > 0 => failure.next_at_ms,
            Some(_) | None => certificate.current.read().as_ref().filter(|_| is_usable).map_or(0, renewal_ms),
        };
        let left_ms = due_at_ms.saturating_sub(now_unix_ms());
        if left_ms == 0 {
            return;
        }
        let pause = Duration::from_millis(left_ms.min(LOOK_S * 1_000));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = certificate.reloaded.notified() => if failures > 0 { return; },
        }
    }
}

/// One order: from the account to the certificate in use.
async fn obtain(certificate: &TlsCertificate, acme: &FromAcme) -> Result<(), AcmeError> {
    let account = open_account(&acme.files, &acme.settings).await?;
    let names: Vec<_> = acme.settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(AcmeError::Order)?;
    answer_challenges(certificate, &mut order).await?;
    let retries = RetryPolicy::new().timeout(Duration::from_secs(ORDER_S_MAX));
    let ready = order.poll_ready(&retries).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        let refused = refused_name(&mut order).await;
        return Err(refused.unwrap_or_else(|| ready.map_or_else(AcmeError::Order, |_| AcmeError::Invalid)));
    }
    let key = Zeroizing::new(order.finalize().await.map_err(AcmeError::Order)?);
    let chain = order.poll_certificate(&retries).await.map_err(AcmeError::Order)?;
    acme.accept(certificate, &Zeroizing::new(format!("{chain}\n{}", *key)))
}

/// The account at this directory, made if there is none.
async fn open_account(files: &AcmeFiles, acme: &Acme) -> Result<Account, AcmeError> {
    let directory = || AcmeError::directory(&acme.directory_url);
    let client = DirectoryClient::new(acme.ca_file.as_deref()).map_err(AcmeError::Client)?;
    let builder = Account::builder_with_http(Box::new(client));
    let path = files.account();
    let stored: Option<StoredAccount> =
        if path.exists() { Some(acme_files::read_json(&path).map_err(AcmeError::file(&path))?) } else { None };
    let contact: Vec<_> = acme.contact.iter().map(String::as_str).collect();
    let store = |credentials| {
        let stored =
            StoredAccount { directory_url: acme.directory_url.clone(), contact: acme.contact.clone(), credentials };
        let text = serde_json::to_vec(&stored).map(Zeroizing::new).map_err(std::io::Error::other);
        text.and_then(|text| files.replace(&path, &text)).map_err(AcmeError::file(&path))
    };
    if let Some(stored) = stored.filter(|stored| stored.directory_url == acme.directory_url) {
        let has_other_contact = stored.contact != acme.contact;
        let account = builder.from_credentials(stored.credentials).await.map_err(directory())?;
        if has_other_contact {
            account.update_contacts(&contact).await.map_err(AcmeError::Account)?;
            let stored: StoredAccount = acme_files::read_json(&path).map_err(AcmeError::file(&path))?;
            store(stored.credentials)?;
        }
        return Ok(account);
    }
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let created = builder.create(&new, acme.directory_url.clone(), None).await;
    let (account, credentials) = created.map_err(directory())?;
    store(credentials)?;
    tracing::info!(
        outcome = "acme_account_created",
        directory = acme.directory_url,
        "an account at the ACME directory was made"
    );
    Ok(account)
}

/// Shows the authority what it asks for, name by name.
async fn answer_challenges(certificate: &TlsCertificate, order: &mut Order) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(AcmeError::Order)?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(name.clone()))?;
        let shown = challenge_certificate(&name, challenge.key_authorization().digest().as_ref())?;
        certificate.challenges.write().insert(name.clone(), Arc::new(shown));
        challenge.set_ready().await.map_err(|source| AcmeError::Refused { name, why: source.to_string() })?;
    }
    Ok(())
}

/// The name that the authority could not check, and why.
async fn refused_name(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        authorization.refresh().await.ok()?;
        if let Some(why) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(AcmeError::Refused { name: authorization.identifier().to_string(), why: why.to_string() });
        }
    }
    None
}

/// The certificate that is shown for a challenge: for this name, with the digest (RFC 8737 §3).
fn challenge_certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = ring::default_provider().key_provider.load_private_key(der)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_five_attempts_fall_into_the_first_hour_and_the_longest_pause_is_six_hours() {
        let begins: Vec<_> = (1..20)
            .scan(0, |at_s, failures| {
                *at_s += retry_s(failures);
                Some(*at_s)
            })
            .collect();
        assert_eq!(begins.iter().filter(|at_s| **at_s < 3_600).count() + 1, 5, "{begins:?}");
        assert_eq!((retry_s(30), retry_s(u32::MAX)), (RETRY_S_MAX, RETRY_S_MAX));
    }
}
