//! What operators are shown of the server's certificate, and what ACME keeps of its attempts.

use super::{TlsCertificate, acme_files::Failure, load::Loaded};
use crate::unix_time::{format_rfc3339, now_unix_ms};

/// An operator's certificate that is valid for less is reported, seconds.
const RENEW_BEFORE_S: u64 = 14 * 24 * 3_600;
const DAY_S: u64 = 24 * 3_600;

/// The state of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateReport {
    /// Whether nothing is to be done.
    pub is_good: bool,
    /// For people.
    pub sentence: String,
}

impl TlsCertificate {
    /// The certificate's state now.
    pub fn report(&self) -> CertificateReport {
        let current = self.current.read();
        let Some(acme) = &self.acme else {
            return current.as_ref().map_or_else(|| missing("there is none"), of_files);
        };
        let failure = self.failure().map(|failure| failure.sentence());
        let Some(loaded) = current.as_ref() else {
            let reasons: Vec<_> = acme.unusable.read().clone().into_iter().chain(failure).collect();
            return if reasons.is_empty() { missing("ACME obtains it") } else { missing(&reasons.join("; ")) };
        };
        let renewal = failure.unwrap_or_else(|| format!("ACME renews it at {}", format_rfc3339(renewal_ms(loaded))));
        CertificateReport { is_good: self.failure().is_none(), sentence: format!("{}; {renewal}", validity(loaded)) }
    }

    /// The last attempt of ACME, if it failed.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.acme.as_ref()?.failure.read().clone()
    }
}

fn missing(why: &str) -> CertificateReport {
    CertificateReport { is_good: false, sentence: format!("no certificate, so browsers cannot connect: {why}") }
}

fn of_files(loaded: &Loaded) -> CertificateReport {
    let is_good = loaded.ends_at_ms.saturating_sub(now_unix_ms()) > RENEW_BEFORE_S * 1_000;
    let remedy = if is_good { "" } else { ": renew it; the server reads the new files by itself" };
    CertificateReport { is_good, sentence: format!("{}{remedy}", validity(loaded)) }
}

fn validity(loaded: &Loaded) -> String {
    let days = loaded.ends_at_ms.saturating_sub(now_unix_ms()) / 1_000 / DAY_S;
    format!("valid for {days} more days, until {}", format_rfc3339(loaded.ends_at_ms))
}

/// When ACME renews a certificate, milliseconds since 1970: after two thirds of its life.
pub(super) fn renewal_ms(loaded: &Loaded) -> u64 {
    let life_ms = loaded.ends_at_ms.saturating_sub(loaded.begins_at_ms);
    loaded.begins_at_ms.saturating_add(life_ms / 3 * 2)
}
