//! Provider descriptors: how a command-line tool signs in, where it writes its credential, and how to recognise both.
//!
//! Descriptors are TOML files in `providers/`; the claim sends the same structure to the agent.
//!
//! A tool may have several commands to sign in: with a device code, a browser or an API key. Each is a *method*. The top level of
//! the file describes the preferred method; `[methods.NAME]` describes what another method does differently. Within a method the
//! user can change *lanes* (link, terminal, desktop …) at any time, because the same tool keeps running. Another method restarts it.

mod account_source;
mod credential_format;
mod egress_group;
mod method;
mod setting;
mod sign_in_host;
mod sign_in_rules;
mod validation;

pub use account_source::AccountSource;
pub use credential_format::{CredentialFormat, FormatFault};
pub use egress_group::EgressGroup;
pub use method::{IfRefused, InvalidMethodName, MethodName, MethodOverrides};
pub use setting::{SETTING_BYTES_MAX, SettingFile, SettingRule, VALUE_PLACEHOLDER};
pub use sign_in_host::{InvalidSignInHost, SignInHost};
pub use sign_in_rules::{LinkFrom, SignInRules};

use crate::ProviderId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One command-line tool. Unknown keys are rejected, so that typing errors are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The id in the API.
    pub id: ProviderId,
    /// The name for people.
    pub name: String,
    /// The name of the tool in the image's manifest (`codex`), which also has its version. Absent: `argv` names any other program of the
    /// machine, e.g. `bash` with a script of `settings_files`; then no version is shown.
    #[serde(default)]
    pub cli: String,
    /// The release for which the patterns below were written; the image may have another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_version: Option<String>,
    /// The tool's package in the npm registry (`@openai/codex`), which `anteroom providers outdated` asks for the newest release. Not
    /// sent to the agent; see [`Provider::for_agent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npm_package: Option<String>,
    /// The preferred method's name.
    #[serde(default)]
    pub method: MethodName,
    /// A short description of the preferred method, for people ("With a code, in your own browser").
    #[serde(default)]
    pub label: String,
    /// The command that signs in: program, then arguments. Not run by a shell.
    pub argv: Vec<String>,
    /// Environment variables for that command, in addition to the session's (`HOME`, `BROWSER`, proxies).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables to remove from the environment, also from the session's.
    #[serde(default)]
    pub env_unset: Vec<String>,
    /// Files written before the command starts.
    #[serde(default)]
    pub settings_files: Vec<SettingsFile>,
    /// Additional files written for a use of a stored credential; they replace those with the same path. They restore state that
    /// the tool keeps outside its credential after a sign-in. Not sent to the agent; see [`Provider::with_method_for_use`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub use_settings_files: Vec<SettingsFile>,
    /// The lanes that this command offers, the preferred one first.
    pub lanes: Vec<Lane>,
    /// What the user must do, one sentence.
    pub next_action: String,
    /// The hosts of the pages at which a user signs in. An address of the tool on another host is shown as a warning and cannot be
    /// opened. Required with the lanes `link` and `device_code`. Not sent to the agent; see [`Provider::for_agent`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sign_in_hosts: Vec<SignInHost>,
    /// Anybody can sign in under any name, so the pages offer it first. Not sent to the agent; see [`Provider::for_agent`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_account: bool,
    /// What to do where the account or its organisation forbids this method. Not sent to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_refused: Option<IfRefused>,
    /// How the address to open, a code and the result are recognised.
    #[serde(default)]
    pub sign_in: SignInRules,
    /// The tool's prompts and how they are answered. The first rule that matches counts.
    #[serde(default)]
    pub prompts: Vec<PromptRule>,
    /// The secret that the tool reads from standard input: the tool is started once the user has entered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_entry: Option<KeyEntry>,
    /// Values that some accounts need in addition. Not sent to the agent, which gets their files; see [`Provider::with_settings`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<SettingRule>,
    /// Other sign-in methods of the tool, by name.
    #[serde(default)]
    pub methods: BTreeMap<MethodName, MethodOverrides>,
    /// Where the tool writes the credential, and its format.
    pub credential: CredentialRules,
    /// The hosts that the machine may reach for this provider; all others are denied.
    pub egress: Vec<EgressRule>,
    /// Account services whose sign-in pages the machine's browser may show: their hosts are added to `egress` when the descriptor is
    /// loaded. Not sent to the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_groups: Vec<EgressGroup>,
    /// What happens with a captured credential.
    #[serde(rename = "policy")]
    pub storage_policy: StoragePolicy,
    /// The command that signs out at the provider, run on request, for example before a credential is deleted. Empty: the tool has
    /// none.
    #[serde(default)]
    pub logout_argv: Vec<String>,
    /// What that command ends; the question before it says so. Not sent to the agent; see [`Provider::for_agent`].
    #[serde(default, skip_serializing_if = "LogoutScope::is_default")]
    pub logout_scope: LogoutScope,
}

/// What a tool's sign-out command ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum LogoutScope {
    /// This sign-in only: the provider no longer accepts its tokens.
    #[default]
    Credential,
    /// Every sign-in of this tool with the same account, also on other computers.
    Account,
    /// The command only removes the tool's files; the provider still accepts the tokens.
    Local,
}

impl LogoutScope {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What else the sign-out does, one sentence for operators and backends; `None`: it ends this sign-in and nothing else.
    pub fn sentence(self, tool: &str) -> Option<String> {
        match self {
            Self::Credential => None,
            Self::Account => Some(format!("This also signs out {tool} everywhere for this account.")),
            Self::Local => Some(format!(
                "The command of {tool} only removes its files: the provider accepts the tokens until they are revoked there or expire."
            )),
        }
    }
}

/// A file to write before the tool starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    /// Path below the home directory.
    pub path: String,
    /// The complete content.
    pub content: String,
}

/// A UI path within a sign-in method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Lane {
    /// An address to open in the user's own browser.
    Link,
    /// An address and a short code to enter there.
    DeviceCode,
    /// The tool's prompts in its terminal.
    Terminal,
    /// The browser inside the machine.
    Desktop,
}

/// A prompt on the tool's screen. Patterns are matched against the lines of the screen, joined by line feeds, with lines that the
/// terminal wrapped made one; `(?m)` lets `^` and `$` match at line breaks. Exactly one of `press` and `ask` must be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptRule {
    /// Its id on the timeline, `a-z 0-9 _`, up to 40 characters.
    pub id: String,
    /// Regular expression: the prompt is open as long as it matches the screen.
    pub matches: String,
    /// Keys that answer it, pressed once each time the prompt appears.
    #[serde(default)]
    pub press: Vec<Key>,
    /// The user answers it, in the page or in the terminal.
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

/// What the user is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptQuestion {
    /// A label, for people ("The code that the last page shows").
    pub label: String,
    /// The input is not shown while it is typed, and not stored by the browser.
    #[serde(default)]
    pub secret: bool,
    /// Regular expression that the complete answer must match; other answers are rejected and not passed to the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// A description of the expected answer, shown when the pattern does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_format: Option<String>,
    /// Regular expression on the screen: the tool rejected the last answer; group 1, or the complete match, is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// A secret that the tool reads from its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// A label, for people ("OpenAI API key").
    pub label: String,
    /// Regular expression that the complete secret must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// A description of the expected secret, shown when the pattern does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_format: Option<String>,
}

/// Where the tool writes the credential, and its format.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRules {
    /// Paths below the home directory, the preferred one first. The first one with a complete credential counts.
    pub paths: Vec<String>,
    /// Further files that belong to it: delivered with it if they exist, never a credential by themselves.
    #[serde(default)]
    pub companions: Vec<String>,
    /// The format of the file.
    #[serde(default)]
    pub format: FileFormat,
    /// JSON pointers (RFC 6901) that must point to a non-empty text or a number. Only for [`FileFormat::Json`].
    #[serde(default)]
    pub required: Vec<String>,
    /// Regular expression that the text must match. Only for [`FileFormat::Text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_matches: Option<String>,
    /// Where the credential has the time of its final expiry, after which a new sign-in is needed. The expiry of an access token that
    /// the tool renews by itself does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<ExpiresAt>,
    /// Where the credential names the account that is signed in. Not sent to the agent; see [`Provider::for_agent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountSource>,
    /// A complete credential counts only once the tool has shown `sign_in.done`: it writes the file before it knows whether it can work
    /// with the account. Every method then needs `sign_in.done`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub usable_when_done: bool,
    /// The command with which the tool checks that it is signed in: program, then arguments. Empty: the tool has none.
    #[serde(default)]
    pub status_argv: Vec<String>,
    /// Regular expression that must match what the status command prints (both streams). It must also exit with 0.
    #[serde(default)]
    pub status_matches: Option<String>,
    /// The tool never replaces its tokens when it uses the credential (an API key), so uses of it run in parallel. Otherwise they take
    /// turns. Not sent to the agent; see [`Provider::for_agent`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_refreshed: bool,
}

/// The format of a credential file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON value.
    #[default]
    Json,
    /// Any other UTF-8 text.
    Text,
}

/// Where a JSON credential has the time of its expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiresAt {
    /// JSON pointer to the time.
    pub pointer: String,
    /// The format of the time.
    pub unit: TimeFormat,
}

/// The format of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
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
    /// Ports; empty: only 443.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Why the tool or the browser needs it, for operators; the built-in descriptors have one for each host. Agents do not get it.
    #[serde(default, skip_serializing)]
    pub reason: String,
}

/// What happens with a captured credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum StoragePolicy {
    /// Sealed and kept until its owner deletes it.
    Store,
    /// Sealed until it was delivered once, at most for `credentials.deliver_once_s_max`; then its bytes are deleted.
    DeliverOnce,
    /// It never leaves the machine, and is destroyed with it.
    KeepInMachine,
    /// The provider does not allow this use: no session can be started.
    Forbidden,
}

impl StoragePolicy {
    /// The policy in one sentence, for operators and backends.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Store => "The credential is sealed and stored for the owner of this session until it is deleted.",
            Self::DeliverOnce => "The credential is delivered to the owner of this session once and then deleted here.",
            Self::KeepInMachine => "The credential stays in this machine and is destroyed with it.",
            Self::Forbidden => "Signing in to this tool here is not allowed.",
        }
    }

    /// The policy in one sentence, for the person who signs in for this owner.
    pub fn for_person(self, owner: &str) -> String {
        match self {
            Self::Store => format!("Your sign-in is kept encrypted for {owner} until you or they remove it."),
            Self::DeliverOnce => format!("Your sign-in is handed to {owner} and not kept here."),
            Self::KeepInMachine => "Your sign-in stays on this temporary computer and is deleted with it.".to_owned(),
            Self::Forbidden => "Signing in to this tool here is not allowed.".to_owned(),
        }
    }
}

impl EgressRule {
    /// Whether this rule allows `host` (case-insensitive, a trailing dot is ignored) at `port`.
    pub fn allows(&self, host: &str, port: u16) -> bool {
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
        EgressRule { host: host.into(), ports: ports.to_vec(), reason: String::new() }
    }

    #[test]
    fn a_rule_allows_exactly_its_hosts_and_ports() {
        assert!(rule("auth.openai.com", &[]).allows("AUTH.openai.com.", 443));
        assert!(!rule("auth.openai.com", &[]).allows("auth.openai.com", 80));
        assert!(!rule("auth.openai.com", &[]).allows("xauth.openai.com", 443));
        assert!(rule("*.openai.com", &[443, 80]).allows("a.b.openai.com", 80));
        assert!(!rule("*.openai.com", &[]).allows("openai.com", 443));
        assert!(!rule("*.openai.com", &[]).allows(".openai.com", 443));
        assert!(!rule("*.openai.com", &[]).allows("evilopenai.com", 443));
    }
}
