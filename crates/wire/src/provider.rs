//! A provider as data: how one command-line tool signs in, where it writes its credential, and how to know that it did.
//!
//! Descriptors are TOML files in `providers/`; the same shape travels to the agent in the claim.
//!
//! A tool may sign in by more than one command: by a device code, with a browser, with an API key. Each is a *method*. The one
//! at the top level of the file is preferred; `[methods.NAME]` says what another one does differently. Within a method the
//! person changes *lanes* (link, terminal, desktop …) at any moment: it is the same running tool. Another method starts it anew.

mod faults;
mod method;

pub use method::{Method, MethodName};

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
    /// The release that the patterns below were taken from; the image may have another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_version: Option<String>,
    /// The preferred method's name.
    #[serde(default)]
    pub method: MethodName,
    /// The preferred method in a few words, for people ("With a code, in your own browser").
    #[serde(default)]
    pub label: String,
    /// The command that signs in: program, then arguments. No shell reads it.
    pub argv: Vec<String>,
    /// Environment for that command, beside the session's own (`HOME`, `BROWSER`, proxies).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names taken out of the environment, the session's own among them.
    #[serde(default)]
    pub env_unset: Vec<String>,
    /// Files laid down before the command starts.
    #[serde(default)]
    pub settings_files: Vec<SettingsFile>,
    /// Files laid down as well where a stored credential is used, in the place of those with the same path: what the tool keeps of a
    /// sign-in beside its credential. It never travels; see [`Provider::in_use`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub use_settings_files: Vec<SettingsFile>,
    /// The ways of signing in that this command offers, the preferred one first.
    pub lanes: Vec<Lane>,
    /// What the person is told to do, one sentence.
    pub next_action: String,
    /// How the address to open, a code and the end are recognised.
    #[serde(default)]
    pub sign_in: SignInRules,
    /// What the tool asks on its screen and what is done about it. The first that matches counts.
    #[serde(default)]
    pub prompts: Vec<PromptRule>,
    /// The secret that the tool wants on its standard input, before anything else: it is started once the person gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_entry: Option<KeyEntry>,
    /// Other commands that sign the same tool in, by name.
    #[serde(default)]
    pub methods: BTreeMap<MethodName, Method>,
    /// Where the credential appears and what it looks like.
    pub credential: CredentialRules,
    /// Host names the machine may reach for this provider, and nothing else.
    pub egress: Vec<EgressRule>,
    /// What happens with a captured credential.
    pub policy: StoragePolicy,
    /// The command that signs out at the provider, run when that is asked for, as before a credential is deleted. Empty: the tool has
    /// none.
    #[serde(default)]
    pub logout_argv: Vec<String>,
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
    /// Whose word the person's own link is. The machine's browser always gets what the tool handed to `BROWSER`.
    #[serde(default)]
    pub link_from: LinkFrom,
    /// The path at which the tool waits on the machine's loopback for the person's browser to come back (`/callback`); the port
    /// stands in the address's `redirect_uri`. Absent: the tool does not wait so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_path: Option<String>,
    /// Regular expression on the screen: the tool says that it is signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Regular expression on the screen: the tool says that the sign-in failed; group 1, or the whole match, is its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Where the link for the person's own browser is taken from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkFrom {
    /// What the tool handed to `BROWSER`, else a hyperlink (OSC 8) or a text on the screen.
    #[default]
    Any,
    /// The screen alone: what goes to `BROWSER` is only good for a browser in the machine.
    Screen,
}

/// What the tool asks on its screen. Patterns are matched with the lines of the screen, the terminal's own wrapping undone, joined
/// by line feeds; `(?m)` makes `^` and `$` those of a line. Exactly one of `press` and `ask` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptRule {
    /// Its name on the timeline, `a-z 0-9 _`, up to 40 characters.
    pub id: String,
    /// The question is open as long as this is on the screen.
    pub matches: String,
    /// Keys that answer it, by name, pressed once each time the question appears.
    #[serde(default)]
    pub press: Vec<Key>,
    /// The person answers it, in the page as well as in the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<PromptQuestion>,
}

/// A key that a rule may press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// Return.
    Enter,
    /// Escape.
    Escape,
    /// Tab.
    Tab,
    /// The space bar.
    Space,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// The letter y.
    Y,
    /// The letter n.
    N,
}

/// What the person is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptQuestion {
    /// What it is, for people ("The code that the last page shows").
    pub label: String,
    /// Not shown while it is typed, and not kept by the browser.
    #[serde(default)]
    pub secret: bool,
    /// Regular expression that the whole answer must match; anything else is refused before the tool sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What a good answer looks like, said when the shape does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Regular expression on the screen: the tool did not take the last answer; group 1, or the whole match, is its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// A secret that the tool reads from its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// What it is, for people ("OpenAI API key").
    pub label: String,
    /// Regular expression that the whole secret must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What a good one looks like, said when the shape does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Where the credential appears and what it looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRules {
    /// Paths below the home directory, the preferred first. The first that holds a whole credential counts.
    pub paths: Vec<String>,
    /// Further files that belong to it: taken along when they are there, never a credential by themselves.
    #[serde(default)]
    pub companions: Vec<String>,
    /// What the file is.
    #[serde(default)]
    pub format: FileFormat,
    /// JSON pointers (RFC 6901) that must lead to a non-empty text or a number. For [`FileFormat::Json`] alone.
    #[serde(default)]
    pub required: Vec<String>,
    /// Regular expression that the text must match. For [`FileFormat::Text`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_matches: Option<String>,
    /// Where the credential says when it ends for good, so that it has to be signed in to again. An access token that the tool renews
    /// by itself does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<ExpiresAt>,
    /// The tool's own word that it is signed in: program, then arguments. Empty: the tool has no such command.
    #[serde(default)]
    pub status_argv: Vec<String>,
    /// Regular expression that must match what the status command prints (both streams). It must also exit with 0.
    #[serde(default)]
    pub status_matches: Option<String>,
}

/// What a credential file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON value.
    #[default]
    Json,
    /// UTF-8 text of any other kind.
    Text,
}

/// A point in time within a JSON credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiresAt {
    /// JSON pointer to it.
    pub pointer: String,
    /// What stands there.
    pub unit: TimeUnit,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Milliseconds since 1970.
    UnixMs,
    /// Seconds since 1970.
    UnixS,
    /// RFC 3339.
    Rfc3339,
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
    /// Sealed until it was given out once, or for `credentials.deliver_once_s_max`; then its bytes are deleted.
    DeliverOnce,
    /// It never leaves the machine, and ends with it.
    KeepInMachine,
    /// The provider does not allow what Anteroom does: no session is started.
    Forbidden,
}

impl StoragePolicy {
    /// What it means, for the person who signs in.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Store => "The credential is sealed and stored for the owner of this session until it is deleted.",
            Self::DeliverOnce => "The credential is handed to the owner of this session once and then deleted here.",
            Self::KeepInMachine => "The credential stays in this machine and is destroyed with it.",
            Self::Forbidden => "Signing in to this tool here is not allowed.",
        }
    }
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
