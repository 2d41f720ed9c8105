//! The certificate authorities of the operator's network, e.g. of a proxy that inspects TLS: the machine trusts them from its claim on.
//!
//! | who | by |
//! |---|---|
//! | tools | the variables of [`ExecutionEnvironment::program_env`] |
//! | programs that use the system's store | its file |
//! | Chromium | the policy `CACertificates`, which a running browser reads again within seconds |

use crate::platform::environment::ExecutionEnvironment;
use serde_json::json;
use std::{fs, io, path::Path};

const SYSTEM_STORE: &str = "/etc/ssl/certs/ca-certificates.crt";
const BROWSER_POLICY: &str = "/etc/chromium/policies/managed/anteroom-ca.json";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Installs these authorities; an empty text has none. Outside of a machine only the tool's variables name them.
pub(super) fn install(environment: &ExecutionEnvironment, pem: &str) -> io::Result<()> {
    if pem.is_empty() {
        return Ok(());
    }
    // Without a system store, the tools still trust these.
    let mut bundle = fs::read_to_string(SYSTEM_STORE).unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    bundle.push_str(pem);
    fs::write(environment.extra_ca_file(), pem)?;
    fs::write(environment.ca_bundle_file(), &bundle)?;
    if environment.is_machine() {
        replace(Path::new(SYSTEM_STORE), bundle.as_bytes())?;
        let policy = json!({ "CACertificates": base64_of_certificates(pem) });
        replace(Path::new(BROWSER_POLICY), policy.to_string().as_bytes())?;
    }
    Ok(())
}

/// Writes a file in one step: the browser watches the directory of its policies.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(&new, path)
}

/// The certificates as the policy has them: DER in base64, which is the body of PEM without line breaks.
fn base64_of_certificates(pem: &str) -> Vec<String> {
    let bodies = pem.split(BEGIN).skip(1).filter_map(|rest| rest.split(END).next());
    bodies.map(|body| body.split_whitespace().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_has_each_certificate_without_line_breaks() {
        let pem = format!("{BEGIN}\nAAAA\nBBBB\n{END}\n{BEGIN}\nCC==\n{END}\n");
        assert_eq!(base64_of_certificates(&pem), ["AAAABBBB", "CC=="]);
        assert!(base64_of_certificates("").is_empty());
    }
}
