//! A provider as data: how one command-line tool signs in, where it writes its credential, and how to know that it did.
//!
//! Descriptors are TOML files in `providers/`; the same shape travels to the agent in the claim.

use crate::ProviderId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One command-line tool. Unknown keys are refused, so that a typing error is heard of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The name in the API.
    pub id: ProviderId,
    /// The name people know.
    pub name: String,
    /// The name of the tool in the image's manifest (`codex`); its version is found there.
    pub cli: String,
    /// The command that signs in: program, then arguments. No shell reads it.
    pub argv: Vec<String>,
    /// Environment for that command, beside the session's own (`HOME`, `BROWSER`, proxies).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files laid down before the command starts.
    #[serde(default)]
    pub settings_files: Vec<SettingsFile>,
    /// The ways of signing in that this command offers, the preferred one first.
    pub lanes: Vec<Lane>,
    /// What the person is told to do, one sentence.
    pub next_action: String,
    /// How an address to open is found on the terminal's screen when the `BROWSER` shim saw none.
    #[serde(default)]
    pub sign_in: SignInRules,
    /// Where the credential appears and what it looks like.
    pub credential: CredentialRules,
    /// Host names the machine may reach for this provider, and nothing else.
    pub egress: Vec<EgressRule>,
    /// What happens with a captured credential.
    pub policy: StoragePolicy,
}

/// A file that the tool expects before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    /// Path below the home directory.
    pub path: String,
    /// The whole content.
    pub content: String,
}

/// A way of signing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Lane {
    /// An address to open in the person's own browser.
    Link,
    /// An address and a short code to type there.
    DeviceCode,
    /// The tool's own prompts.
    Terminal,
    /// The browser inside the machine.
    Desktop,
}

/// How the sign-in address and a device code are read off the terminal's screen (lines joined where they wrapped).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInRules {
    /// Regular expression; group 1, or the whole match, is the address.
    #[serde(default)]
    pub url: Option<String>,
    /// Regular expression; group 1, or the whole match, is the device code.
    #[serde(default)]
    pub code: Option<String>,
    /// How long a device code lives, seconds.
    #[serde(default)]
    pub code_s_max: Option<u64>,
}

/// Where the credential appears and what it looks like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRules {
    /// Paths below the home directory, the preferred first. The first that holds a whole credential counts.
    pub paths: Vec<String>,
    /// JSON pointers (RFC 6901) that must lead to a non-empty text or a number.
    pub required: Vec<String>,
    /// The tool's own word that it is signed in: program, then arguments. Empty: the tool has no such command.
    #[serde(default)]
    pub status_argv: Vec<String>,
    /// Regular expression that must match what the status command prints (both streams). It must also exit with 0.
    #[serde(default)]
    pub status_matches: Option<String>,
}

/// One host the machine may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// A name (`auth.openai.com`), or `*.` and a name for everything below it. Never an address.
    pub host: String,
    /// Ports; empty means 443 alone.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// What happens with a captured credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum StoragePolicy {
    /// Sealed and kept until its owner deletes it.
    Store,
}

impl EgressRule {
    /// Whether this rule grants `host` (any case, a trailing dot allowed) at `port`.
    pub fn grants(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let rule = self.host.to_ascii_lowercase();
        let name_fits = match rule.strip_prefix("*.") {
            Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => host == rule,
        };
        let port_fits = if self.ports.is_empty() { port == 443 } else { self.ports.contains(&port) };
        name_fits && port_fits
    }
}

impl Provider {
    /// Everything wrong with this descriptor, at once; empty means it is sound.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut need = |good: bool, what: &str| {
            if !good {
                faults.push(what.to_owned());
            }
        };
        need(!self.name.trim().is_empty(), "name is empty");
        need(!self.next_action.trim().is_empty(), "next_action is empty");
        need(self.argv.first().is_some_and(|program| !program.is_empty()), "argv names no program");
        need(!self.lanes.is_empty(), "lanes is empty");
        need(!self.credential.paths.is_empty(), "credential.paths is empty");
        need(
            !self.credential.required.is_empty(),
            "credential.required is empty: any JSON would count as a credential",
        );
        for path in self.credential.paths.iter().chain(self.settings_files.iter().map(|file| &file.path)) {
            let below_home = !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..");
            need(below_home, &format!("path {path:?} must lie below the home directory"));
        }
        for pointer in &self.credential.required {
            need(pointer.starts_with('/'), &format!("credential.required {pointer:?} must begin with /"));
        }
        for rule in &self.egress {
            let name = rule.host.strip_prefix("*.").unwrap_or(&rule.host);
            let plain = !name.is_empty()
                && name.contains('.')
                && name
                    .split('.')
                    .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
                && !name.split('.').next_back().is_some_and(|tld| tld.bytes().all(|b| b.is_ascii_digit()));
            need(plain, &format!("egress host {:?} must be a DNS name, or *. and a DNS name", rule.host));
            need(!rule.ports.contains(&0), &format!("egress host {:?} has port 0", rule.host));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str, ports: &[u16]) -> EgressRule {
        EgressRule { host: host.into(), ports: ports.to_vec() }
    }

    #[test]
    fn a_rule_grants_its_name_and_nothing_near_it() {
        assert!(rule("auth.openai.com", &[]).grants("AUTH.openai.com.", 443));
        assert!(!rule("auth.openai.com", &[]).grants("auth.openai.com", 80));
        assert!(!rule("auth.openai.com", &[]).grants("xauth.openai.com", 443));
        assert!(rule("*.openai.com", &[443, 80]).grants("a.b.openai.com", 80));
        assert!(!rule("*.openai.com", &[]).grants("openai.com", 443));
        assert!(!rule("*.openai.com", &[]).grants(".openai.com", 443));
        assert!(!rule("*.openai.com", &[]).grants("evilopenai.com", 443));
    }
}
