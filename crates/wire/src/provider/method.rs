//! Sign-in methods of a provider.

use super::{
    AccountSource, CredentialRules, KeyEntry, Lane, LogoutScope, PromptQuestion, PromptRule, Provider, SettingsFile,
    SignInRules,
};
use crate::{GuestText, channel::USABLE_WHEN_DONE_CAPABILITY};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of a method: `a-z 0-9 _`, 1 to 40 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodName(String);

impl MethodName {
    /// The text in JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for MethodName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// A text that is not a method's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a method's name: expected 1 to 40 of a-z, 0-9 and _")]
pub struct InvalidMethodName(pub String);

impl TryFrom<String> for MethodName {
    type Error = InvalidMethodName;

    fn try_from(name: String) -> Result<Self, InvalidMethodName> {
        let is_valid = (1..=40).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_valid { Ok(Self(name)) } else { Err(InvalidMethodName(name)) }
    }
}

impl From<MethodName> for String {
    fn from(name: MethodName) -> Self {
        name.0
    }
}

impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to do where the account or its organisation forbids a sign-in method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IfRefused {
    /// Where the setting is that allows it, one or two sentences for people, shown while the method waits.
    pub sentence: String,
    /// The method to use instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodName>,
}

/// The values in which a method differs from the preferred one; absent values are the preferred method's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodOverrides {
    /// A short description, for people.
    pub label: String,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Variables added to the environment; they replace those with the same name.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables removed from the environment.
    #[serde(default)]
    pub env_unset: Vec<String>,
    /// All settings files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_files: Option<Vec<SettingsFile>>,
    /// All additional files for a use of a stored credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_settings_files: Option<Vec<SettingsFile>>,
    /// Its lanes, the preferred one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Vec<Lane>>,
    /// What the user must do, one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<String>,
    /// What to do where this method is forbidden; never inherited from the preferred method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_refused: Option<IfRefused>,
    /// All rules for address, code and result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInRules>,
    /// All prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<PromptRule>>,
    /// The secret on standard input; never inherited from the preferred method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_entry: Option<KeyEntry>,
    /// JSON pointers that a credential from this method must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_required: Option<Vec<String>>,
    /// Whether the tool never replaces the tokens of a credential from this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_never_refreshed: Option<bool>,
    /// What the sign-out command ends for a credential from this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout_scope: Option<LogoutScope>,
}

impl Provider {
    /// The methods' names and labels, the preferred one first.
    pub fn method_labels(&self) -> Vec<(&MethodName, &str)> {
        let others = self.methods.iter().map(|(name, method)| (name, method.label.as_str()));
        std::iter::once((&self.method, self.label.as_str())).chain(others).collect()
    }

    /// The descriptor for signing in with one method: its values are at the top level, and `methods` is empty. `None`: there is no
    /// method of this name.
    pub fn with_method(&self, name: &MethodName) -> Option<Self> {
        Some(Self { use_settings_files: Vec::new(), ..self.chosen(name)? })
    }

    /// The descriptor for using a credential from this method: with the additional files of a credential use.
    pub fn with_method_for_use(&self, name: &MethodName) -> Option<Self> {
        let mut chosen = self.chosen(name)?;
        let additional = std::mem::take(&mut chosen.use_settings_files);
        chosen.settings_files.retain(|file| !additional.iter().any(|other| other.path == file.path));
        chosen.settings_files.extend(additional);
        Some(chosen)
    }

    fn chosen(&self, name: &MethodName) -> Option<Self> {
        let mut chosen = Self { methods: BTreeMap::new(), ..self.clone() };
        if *name == self.method {
            return Some(chosen);
        }
        let other = self.methods.get(name)?.clone();
        chosen.method = name.clone();
        chosen.label = other.label;
        chosen.argv = other.argv.unwrap_or(chosen.argv);
        chosen.env.retain(|key, _| !other.env_unset.contains(key));
        chosen.env_unset.retain(|key| !other.env.contains_key(key));
        chosen.env.extend(other.env);
        chosen.env_unset.extend(other.env_unset);
        chosen.settings_files = other.settings_files.unwrap_or(chosen.settings_files);
        chosen.use_settings_files = other.use_settings_files.unwrap_or(chosen.use_settings_files);
        chosen.lanes = other.lanes.unwrap_or(chosen.lanes);
        chosen.next_action = other.next_action.unwrap_or(chosen.next_action);
        chosen.sign_in = other.sign_in.unwrap_or(chosen.sign_in);
        chosen.prompts = other.prompts.unwrap_or(chosen.prompts);
        chosen.key_entry = other.key_entry;
        chosen.if_refused = other.if_refused;
        chosen.credential.required = other.credential_required.unwrap_or(chosen.credential.required);
        chosen.credential.never_refreshed =
            other.credential_never_refreshed.unwrap_or(chosen.credential.never_refreshed);
        chosen.logout_scope = other.logout_scope.unwrap_or(chosen.logout_scope);
        Some(chosen)
    }

    /// The name of the tool, or of the program that runs instead.
    pub fn program(&self) -> &str {
        let program = self.argv.first().map_or("", String::as_str);
        if self.cli.is_empty() { program } else { &self.cli }
    }

    /// The part of the descriptor that an agent with these capabilities needs. Agents of earlier images reject keys that they do not know.
    #[must_use]
    pub fn for_agent(&self, capabilities: &[GuestText]) -> Self {
        let sign_in = SignInRules { declined: None, expired: None, account_refused: None, ..self.sign_in.clone() };
        let knows_done = capabilities.iter().any(|capability| *capability == USABLE_WHEN_DONE_CAPABILITY);
        let usable_when_done = self.credential.usable_when_done && knows_done;
        let mut credential =
            CredentialRules { account: None, never_refreshed: false, usable_when_done, ..self.credential.clone() };
        if let Some(path) = self.credential.account.as_ref().and_then(AccountSource::other_path)
            && !credential.paths.iter().chain(&credential.companions).any(|known| known == path)
        {
            credential.companions.push(path.to_owned());
        }
        Self {
            cli: self.program().to_owned(),
            npm_package: None,
            sign_in_hosts: Vec::new(),
            without_account: false,
            logout_scope: LogoutScope::default(),
            settings: Vec::new(),
            egress_groups: Vec::new(),
            if_refused: None,
            sign_in,
            credential,
            ..self.clone()
        }
    }

    /// The prompts that the user answers, each with the id of its rule.
    pub fn questions(&self) -> impl Iterator<Item = (&str, &PromptQuestion)> {
        self.prompts.iter().filter_map(|rule| rule.ask.as_ref().map(|ask| (rule.id.as_str(), ask)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_overrides_only_the_values_it_has() {
        let provider: Provider = toml::from_str(
            r#"
            id = "x"
            name = "X"
            cli = "x"
            argv = ["x", "login"]
            lanes = ["link"]
            next_action = "Open it."
            policy = "store"
            egress = []
            env = { A = "1", B = "2" }
            credential = { paths = [".x"], required = ["/a"] }
            [methods.key]
            label = "With a key"
            argv = ["x", "key"]
            env = { B = "3" }
            env_unset = ["A"]
            credential_required = ["/key"]
            key_entry = { label = "Key" }
            "#,
        )
        .unwrap();
        let name = MethodName::try_from("key".to_owned()).unwrap();
        let key = provider.with_method(&name).unwrap();
        assert_eq!((key.argv[1].as_str(), key.lanes.clone()), ("key", vec![Lane::Link]));
        assert_eq!(key.env, BTreeMap::from([("B".to_owned(), "3".to_owned())]));
        assert_eq!(key.env_unset, ["A"]);
        assert_eq!(key.credential.required, ["/key"]);
        assert!(key.key_entry.is_some() && key.methods.is_empty());
        assert_eq!(provider.with_method(&provider.method).unwrap().argv[1], "login");
        assert!(provider.with_method(&MethodName::try_from("none".to_owned()).unwrap()).is_none());
        assert!(MethodName::try_from("No".to_owned()).is_err());
    }

    #[test]
    fn agents_of_earlier_images_get_no_key_that_they_do_not_know() {
        let provider: Provider = toml::from_str(
            r#"
            id = "x"
            name = "X"
            cli = "x"
            argv = ["x", "login"]
            lanes = ["link"]
            next_action = "Open it."
            policy = "store"
            egress = []
            npm_package = "@x/x"
            without_account = true
            logout_scope = "account"
            egress_groups = ["apple_sign_in"]
            if_refused = { sentence = "Ask." }
            sign_in_hosts = ["x.example"]
            sign_in = { declined = "no" }
            credential = { paths = [".x"], required = ["/a"], account = { pointer = "/user" }, usable_when_done = true }
            [[settings]]
            id = "project"
            label = "Project"
            pattern = "[a-z]+"
            expected_format = "It is one word."
            needed_when = "project"
            file = { path = ".env", content = "PROJECT={value}" }
            "#,
        )
        .unwrap();
        let sent = serde_json::to_string(&provider.for_agent(&[])).unwrap();
        for key in [
            "npm_package",
            "without_account",
            "sign_in_hosts",
            "declined",
            "account",
            "never_refreshed",
            "logout_scope",
            "settings",
            "usable_when_done",
            "egress_groups",
            "if_refused",
        ] {
            assert!(!sent.contains(&format!("\"{key}\"")), "{key} in {sent}");
        }
        let knows = [USABLE_WHEN_DONE_CAPABILITY.into()];
        assert!(provider.for_agent(&knows).credential.usable_when_done);
    }

    #[test]
    fn an_agent_delivers_the_file_that_names_the_account_as_a_companion() {
        let claude: Provider = toml::from_str(include_str!("../../../../providers/claude_code.toml")).unwrap();
        let sent = claude.for_agent(&[]).credential;
        assert_eq!((sent.companions, sent.account), (vec![".claude.json".to_owned()], None));
        let listed = CredentialRules { companions: vec![".claude.json".into()], ..claude.credential.clone() };
        let sent = Provider { credential: listed, ..claude }.for_agent(&[]).credential;
        assert_eq!(sent.companions, [".claude.json"]);
    }

    #[test]
    fn r28_use_of_claude_code_lays_down_what_its_first_start_would_ask() {
        let claude: Provider = toml::from_str(include_str!("../../../../providers/claude_code.toml")).unwrap();
        let used = claude.with_method_for_use(&claude.method).unwrap();
        let [file] = &used.settings_files[..] else { panic!("{:?}", used.settings_files) };
        assert_eq!(file.path, ".claude.json");
        let settings: serde_json::Value = serde_json::from_str(&file.content).unwrap();
        assert_eq!(settings["hasCompletedOnboarding"], true);
        assert_eq!(settings["projects"]["/home/user"]["hasTrustDialogAccepted"], true);
        assert!(claude.with_method(&claude.method).unwrap().settings_files.is_empty(), "a sign-in starts without it");
    }

    #[test]
    fn a_credential_use_has_the_settings_files_of_its_method_and_of_uses() {
        let provider: Provider = toml::from_str(
            r#"
            id = "x"
            name = "X"
            cli = "x"
            argv = ["x"]
            lanes = ["link"]
            next_action = "Open it."
            policy = "store"
            egress = []
            credential = { paths = [".x"] }
            settings_files = [{ path = "a", content = "1" }, { path = "b", content = "1" }]
            use_settings_files = [{ path = "b", content = "2" }]
            [methods.other]
            label = "Other"
            settings_files = [{ path = "a", content = "3" }]
            use_settings_files = [{ path = "a", content = "4" }]
            [methods.same]
            label = "As preferred"
            "#,
        )
        .unwrap();
        let text = |provider: Provider| {
            let files = provider.settings_files.iter().map(|file| format!("{}{}", file.path, file.content));
            (files.collect::<Vec<_>>().join(" "), provider.use_settings_files.len())
        };
        for (name, signing_in, in_use) in
            [("default", "a1 b1", "a1 b2"), ("other", "a3", "a4"), ("same", "a1 b1", "a1 b2")]
        {
            let name = MethodName::try_from(name.to_owned()).unwrap();
            assert_eq!(text(provider.with_method(&name).unwrap()), (signing_in.to_owned(), 0));
            assert_eq!(text(provider.with_method_for_use(&name).unwrap()), (in_use.to_owned(), 0));
        }
        assert!(provider.with_method_for_use(&MethodName::try_from("none".to_owned()).unwrap()).is_none());
    }
}
