//! Validation of descriptors: reports all errors at once, each with its key.

use super::{
    AccountSource, CredentialRules, FileFormat, Lane, LinkFrom, Provider, SettingRule, SettingsFile, VALUE_PLACEHOLDER,
};
use crate::agent::KEY_ENTRY_PROMPT_ID;
use regex_lite::Regex;

/// The most prompts, methods, paths and hosts of one descriptor.
const ENTRIES_MAX: usize = 64;
/// The most settings of one descriptor.
const SETTINGS_MAX: usize = 4;

impl Provider {
    /// The errors of `sign_in_hosts`, by method; empty: it is valid. The server checks them and agents do not, because the hosts are not
    /// sent to agents.
    pub fn sign_in_hosts_errors(&self) -> Vec<String> {
        let needs_hosts = |provider: &Self| {
            self.sign_in_hosts.is_empty()
                && provider.lanes.iter().any(|lane| matches!(lane, Lane::Link | Lane::DeviceCode))
        };
        let sentence =
            "sign_in_hosts is empty: with the lanes link and device_code it must name the hosts of the sign-in pages";
        if needs_hosts(self) {
            return vec![sentence.to_owned()];
        }
        let methods =
            self.methods.keys().filter(|name| self.with_method(name).is_some_and(|method| needs_hosts(&method)));
        methods.map(|name| format!("methods.{name}: {sentence}")).collect()
    }

    /// All errors of this descriptor and its methods; empty: it is valid.
    pub fn validation_errors(&self) -> Vec<String> {
        let mut errors = ErrorList(Vec::new());
        errors.check_provider(self);
        for (name, overrides) in &self.methods {
            let place = format!("methods.{name}: ");
            errors.require(*name != self.method, || format!("{place}the preferred method has the same name"));
            if let Some(method) = self.with_method(name) {
                let mut of_method = ErrorList(Vec::new());
                of_method.check_files("use_settings_files", overrides.use_settings_files.iter().flatten());
                of_method.check_method(&method);
                of_method.check_method_credential(self.credential.format, overrides.credential_required.as_deref());
                of_method.require(!method.label.trim().is_empty(), || "label is empty".to_owned());
                errors.0.extend(of_method.0.into_iter().map(|error| format!("{place}{error}")));
            }
        }
        for name in self.method_labels().into_iter().map(|(name, _)| name) {
            let hint = self.with_method(name).and_then(|method| method.if_refused?.method);
            errors
                .require(hint.as_ref().is_none_or(|other| other != name && self.with_method(other).is_some()), || {
                    "if_refused.method is not another method of this provider".to_owned()
                });
        }
        let mut seen = std::collections::BTreeSet::new();
        errors.0.retain(|error| seen.insert(error.clone()));
        errors.0
    }
}

/// `name` or `@scope/name` as npm allows for new packages. It never begins with a dash, so it is not an option of a program.
fn is_npm_package(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c))
    };
    name.len() <= 214
        && match name.strip_prefix('@').map(|scoped| scoped.split_once('/')) {
            None => is_part(name),
            Some(Some((scope, name))) => is_part(scope) && is_part(name),
            Some(None) => false,
        }
}

/// Whether it is an id of a prompt or a setting.
fn is_rule_id(id: &str) -> bool {
    (1..=40).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

struct ErrorList(Vec<String>);

impl ErrorList {
    fn require(&mut self, condition: bool, error: impl FnOnce() -> String) {
        if !condition {
            self.0.push(error());
        }
    }

    fn check_pattern(&mut self, place: &str, pattern: Option<&String>) {
        if let Some(Err(error)) = pattern.map(|pattern| Regex::new(pattern)) {
            self.0.push(format!("{place} is not a regular expression: {error}"));
        }
    }

    fn check_provider(&mut self, provider: &Provider) {
        self.require(!provider.name.trim().is_empty(), || "name is empty".to_owned());
        self.require(provider.cli.is_empty() || !provider.cli.trim().is_empty(), || "cli is blank".to_owned());
        self.require(provider.npm_package.as_deref().is_none_or(is_npm_package), || {
            "npm_package is not the name of a package: expected name or @scope/name without a version".to_owned()
        });
        self.require(provider.methods.is_empty() || !provider.label.trim().is_empty(), || {
            "label is empty: with several methods each needs one".to_owned()
        });
        self.check_files("use_settings_files", &provider.use_settings_files);
        self.check_method(provider);
        self.check_credential(provider);
        self.check_settings(provider);
        self.check_egress(provider);
    }

    fn check_method(&mut self, provider: &Provider) {
        self.require(!provider.next_action.trim().is_empty(), || "next_action is empty".to_owned());
        self.require(provider.argv.first().is_some_and(|program| !program.is_empty()), || {
            "argv names no program".to_owned()
        });
        self.require(!provider.lanes.is_empty(), || "lanes is empty".to_owned());
        self.require(provider.lanes.len() <= 8, || "lanes has more than 8 entries".to_owned());
        self.check_files("settings_files", &provider.settings_files);
        let is_valid_name = |key: &str| !key.is_empty() && !key.contains(['=', '\0']);
        for key in provider.env.keys() {
            self.require(is_valid_name(key), || format!("env {key:?} is not a valid name"));
        }
        for (at, key) in provider.env_unset.iter().enumerate() {
            self.require(is_valid_name(key), || format!("env_unset[{at}] {key:?} is not a valid name"));
        }
        let rules = &provider.sign_in;
        for (name, pattern) in [
            ("url", &rules.url),
            ("code", &rules.code),
            ("done", &rules.done),
            ("failed", &rules.failed),
            ("declined", &rules.declined),
            ("expired", &rules.expired),
            ("account_refused", &rules.account_refused),
        ] {
            self.check_pattern(&format!("sign_in.{name}"), pattern.as_ref());
        }
        if let Some(path) = &rules.callback_path {
            self.require(path.starts_with('/') && !path.contains(['?', '#', ' ']), || {
                format!("sign_in.callback_path {path:?} must be a path that begins with /")
            });
        }
        // A lane that cannot work must not be offered.
        self.require(rules.code.is_some() || !provider.lanes.contains(&Lane::DeviceCode), || {
            "lanes has device_code, but there is no sign_in.code to find one".to_owned()
        });
        self.require(rules.url.is_some() || rules.link_from != LinkFrom::Screen, || {
            "sign_in.link_from is the screen, but there is no sign_in.url to find one there".to_owned()
        });
        self.require(rules.done.is_some() || !provider.credential.usable_when_done, || {
            "credential.usable_when_done needs sign_in.done, by which the tool shows that it is signed in".to_owned()
        });
        self.require(provider.if_refused.as_ref().is_none_or(|hint| !hint.sentence.trim().is_empty()), || {
            "if_refused.sentence is empty".to_owned()
        });
        self.check_prompts(provider);
    }

    fn check_files<'a>(&mut self, key: &str, files: impl IntoIterator<Item = &'a SettingsFile>) {
        for (at, file) in files.into_iter().enumerate() {
            self.check_path(&format!("{key}[{at}].path"), &file.path);
        }
    }

    /// Checks what must be in the credential of a method that overrides the provider's list.
    fn check_method_credential(&mut self, format: FileFormat, required: Option<&[String]>) {
        let Some(required) = required else { return };
        self.require(format == FileFormat::Json, || "credential_required is for format = \"json\"".to_owned());
        self.require(!required.is_empty(), || {
            "credential_required is empty: any JSON would count as a credential".to_owned()
        });
        for (at, pointer) in required.iter().enumerate() {
            self.check_pointer(&format!("credential_required[{at}]"), pointer);
        }
    }

    fn check_prompts(&mut self, provider: &Provider) {
        self.require(provider.prompts.len() <= ENTRIES_MAX, || format!("prompts has more than {ENTRIES_MAX} entries"));
        for (at, rule) in provider.prompts.iter().enumerate() {
            let place = format!("prompts[{at}] {:?}", rule.id);
            self.require(is_rule_id(&rule.id), || format!("{place}: id must be 1 to 40 of a-z, 0-9 and _"));
            self.require(!provider.prompts[..at].iter().any(|before| before.id == rule.id), || {
                format!("{place}: the id is a duplicate")
            });
            self.require(rule.press.is_empty() != rule.ask.is_none(), || {
                format!("{place}: exactly one of press and ask must be given")
            });
            self.require(!rule.matches.is_empty(), || format!("{place}: matches is empty"));
            self.check_pattern(&format!("{place}: matches"), Some(&rule.matches));
            if let Some(ask) = &rule.ask {
                self.require(!ask.label.trim().is_empty(), || format!("{place}: ask.label is empty"));
                self.check_pattern(&format!("{place}: ask.pattern"), ask.pattern.as_ref());
                self.check_pattern(&format!("{place}: ask.rejected"), ask.rejected.as_ref());
            }
        }
        if let Some(entry) = &provider.key_entry {
            self.require(!entry.label.trim().is_empty(), || "key_entry.label is empty".to_owned());
            self.check_pattern("key_entry.pattern", entry.pattern.as_ref());
        }
    }

    fn check_settings(&mut self, provider: &Provider) {
        self.require(provider.settings.len() <= SETTINGS_MAX, || {
            format!("settings has more than {SETTINGS_MAX} entries")
        });
        for (at, setting) in provider.settings.iter().enumerate() {
            let place = format!("settings[{at}] {:?}", setting.id);
            self.require(is_rule_id(&setting.id), || format!("{place}: id must be 1 to 40 of a-z, 0-9 and _"));
            let methods = provider.methods.values().filter_map(|method| method.prompts.as_ref());
            let mut prompts = methods.flatten().chain(&provider.prompts);
            let is_taken = prompts.any(|prompt| prompt.id == setting.id)
                || setting.id == KEY_ENTRY_PROMPT_ID
                || provider.settings[..at].iter().any(|before| before.id == setting.id);
            self.require(!is_taken, || format!("{place}: the id is a duplicate"));
            self.require(!setting.label.trim().is_empty(), || format!("{place}: label is empty"));
            self.require(!setting.expected_format.trim().is_empty(), || format!("{place}: expected_format is empty"));
            for (key, pattern) in [("pattern", &setting.pattern), ("needed_when", &setting.needed_when)] {
                self.require(!pattern.is_empty(), || format!("{place}: {key} is empty"));
                self.check_pattern(&format!("{place}: {key}"), Some(pattern));
            }
            self.check_path(&format!("{place}: file.path"), &setting.file.path);
            self.require(provider.credential.companions.contains(&setting.file.path), || {
                format!("{place}: file.path {:?} must be in credential.companions", setting.file.path)
            });
            self.require(setting.file.content.contains(VALUE_PLACEHOLDER), || {
                format!("{place}: file.content does not contain {VALUE_PLACEHOLDER}")
            });
            let same_file = |before: &SettingRule| before.file.path == setting.file.path;
            self.require(!provider.settings[..at].iter().any(same_file), || {
                format!("{place}: file.path {:?} is another setting's", setting.file.path)
            });
        }
    }

    fn check_credential(&mut self, provider: &Provider) {
        let rules = &provider.credential;
        self.require(!rules.paths.is_empty(), || "credential.paths is empty".to_owned());
        let other = rules.account.as_ref().and_then(AccountSource::other_path);
        self.require(rules.paths.len() + rules.companions.len() + usize::from(other.is_some()) <= 8, || {
            "credential.paths, credential.companions and credential.account have more than 8 files together".to_owned()
        });
        for (key, paths) in [("paths", &rules.paths), ("companions", &rules.companions)] {
            for (at, path) in paths.iter().enumerate() {
                let place = format!("credential.{key}[{at}]");
                self.check_path(&place, path);
                self.require(!paths[..at].contains(path), || format!("{place} {path:?} is a duplicate"));
            }
        }
        for (at, path) in rules.companions.iter().enumerate() {
            self.require(!rules.paths.contains(path), || {
                format!("credential.companions[{at}] {path:?} is in credential.paths too")
            });
        }
        self.check_format(rules);
        for (at, pointer) in rules.required.iter().enumerate() {
            self.check_pointer(&format!("credential.required[{at}]"), pointer);
        }
        if let Some(ends) = &rules.expires_at {
            self.check_pointer("credential.expires_at.pointer", &ends.pointer);
        }
        if let Some(account) = &rules.account {
            self.check_account(rules.format, account);
        }
        self.check_pattern("credential.text_matches", rules.text_matches.as_ref());
        self.check_pattern("credential.status_matches", rules.status_matches.as_ref());
        self.require(rules.status_matches.is_none() || !rules.status_argv.is_empty(), || {
            "credential.status_matches without credential.status_argv".to_owned()
        });
    }

    fn check_format(&mut self, rules: &CredentialRules) {
        match rules.format {
            FileFormat::Json => {
                self.require(!rules.required.is_empty(), || {
                    "credential.required is empty: any JSON would count as a credential".to_owned()
                });
                self.require(rules.text_matches.is_none(), || {
                    "credential.text_matches is for format = \"text\"".to_owned()
                });
            }
            FileFormat::Text => {
                self.require(rules.text_matches.is_some(), || {
                    "credential.text_matches is missing: any text would count as a credential".to_owned()
                });
                self.require(rules.required.is_empty(), || "credential.required is for format = \"json\"".to_owned());
                self.require(rules.expires_at.is_none(), || {
                    "credential.expires_at is for format = \"json\"".to_owned()
                });
            }
        }
    }

    fn check_account(&mut self, format: FileFormat, account: &AccountSource) {
        let (key, needed) = match account {
            AccountSource::Pointer(pointer) => {
                self.check_pointer("credential.account.pointer", pointer);
                ("pointer", FileFormat::Json)
            }
            AccountSource::IdToken { pointer, claim } => {
                self.check_pointer("credential.account.id_token.pointer", pointer);
                self.require(!claim.is_empty(), || "credential.account.id_token.claim is empty".to_owned());
                ("id_token", FileFormat::Json)
            }
            AccountSource::Pattern(pattern) => {
                self.check_pattern("credential.account.pattern", Some(pattern));
                ("pattern", FileFormat::Text)
            }
            // The file is JSON, whatever the credential is.
            AccountSource::OtherFile { path, pointer } => {
                self.check_pointer("credential.account.other_file.pointer", pointer);
                self.check_path("credential.account.other_file.path", path);
                return;
            }
        };
        self.require(format == needed, || format!("credential.account.{key} is not for this credential.format"));
    }

    fn check_egress(&mut self, provider: &Provider) {
        self.require(provider.sign_in_hosts.len() <= ENTRIES_MAX, || {
            format!("sign_in_hosts has more than {ENTRIES_MAX} entries")
        });
        self.require(provider.egress.len() <= ENTRIES_MAX, || format!("egress has more than {ENTRIES_MAX} entries"));
        for (at, rule) in provider.egress.iter().enumerate() {
            let name = rule.host.strip_prefix("*.").unwrap_or(&rule.host);
            let label =
                |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let plain = !name.is_empty()
                && name.contains('.')
                && name.split('.').all(label)
                && !name.split('.').next_back().is_some_and(|tld| tld.bytes().all(|b| b.is_ascii_digit()));
            self.require(plain, || {
                format!("egress[{at}].host {:?} must be a DNS name, or *. and a DNS name", rule.host)
            });
            self.require(!rule.ports.contains(&0), || format!("egress[{at}].ports of {:?} has port 0", rule.host));
        }
    }

    fn check_path(&mut self, place: &str, path: &str) {
        let below = !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..");
        self.require(below, || format!("{place} {path:?} must be below the home directory"));
    }

    fn check_pointer(&mut self, place: &str, pointer: &str) {
        self.require(pointer.starts_with('/'), || {
            format!("{place} {pointer:?} must be a JSON pointer, which begins with /")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_names_the_account_is_below_the_home_and_counts_as_a_file() {
        let mut provider: Provider = toml::from_str(include_str!("../../../../providers/claude_code.toml")).unwrap();
        assert_eq!(provider.validation_errors(), Vec::<String>::new());
        provider.credential.account = Some(AccountSource::OtherFile { path: "../x".into(), pointer: "mail".into() });
        provider.credential.companions = (0..7).map(|number| format!("file{number}")).collect();
        let errors = provider.validation_errors().join("\n");
        for expected in [
            "credential.account have more than 8 files together",
            "credential.account.other_file.path \"../x\" must be below",
            "credential.account.other_file.pointer \"mail\" must be a JSON pointer",
        ] {
            assert!(errors.contains(expected), "{expected} not in:\n{errors}");
        }
    }

    #[test]
    fn all_errors_are_reported_at_once_with_their_keys() {
        let provider: Provider = toml::from_str(
            r#"
            id = "x"
            name = ""
            cli = "x"
            argv = []
            lanes = []
            next_action = "Do."
            policy = "store"
            env_unset = ["A", "B="]
            sign_in = { url = "(", callback_path = "callback" }
            credential = { paths = ["x", "/etc/x", "x"], required = [], expires_at = { pointer = "y", unit = "unix_s" }, account = { id_token = { pointer = "z", claim = "" } }, status_matches = "[" }
            prompts = [
                { id = "A b", matches = "(", press = ["enter"] },
                { id = "both", matches = "x", press = ["enter"], ask = { label = "" } },
                { id = "both", matches = "x" },
            ]
            egress = [{ host = "127.0.0.1" }, { host = "a.example", ports = [0] }]
            [methods.default]
            label = "The same name"
            [methods.key]
            label = ""
            argv = [""]
            lanes = ["device_code"]
            sign_in = { link_from = "screen" }
            use_settings_files = [{ path = "../y", content = "" }]
            credential_required = ["key"]
            "#,
        )
        .unwrap();
        let errors = provider.validation_errors().join("\n");
        for expected in [
            "name is empty",
            "argv names no program",
            "lanes is empty",
            "sign_in.url is not a regular expression",
            "sign_in.callback_path",
            "env_unset[1] \"B=\" is not a valid name",
            "credential.paths[1] \"/etc/x\" must be below",
            "credential.paths[2] \"x\" is a duplicate",
            "credential.expires_at.pointer \"y\" must be a JSON pointer",
            "credential.account.id_token.pointer \"z\" must be a JSON pointer",
            "credential.account.id_token.claim is empty",
            "credential.required is empty",
            "credential.status_matches is not",
            "credential.status_matches without",
            "prompts[0] \"A b\": id must be",
            "prompts[0] \"A b\": matches is not",
            "prompts[1] \"both\": exactly one",
            "prompts[1] \"both\": ask.label is empty",
            "prompts[2] \"both\": the id is a duplicate",
            "prompts[2] \"both\": exactly one",
            "egress[0].host \"127.0.0.1\"",
            "egress[1].ports of \"a.example\" has port 0",
            "label is empty: with several methods",
            "methods.default: the preferred method has the same name",
            "methods.key: label is empty",
            "methods.key: use_settings_files[0].path \"../y\" must be below",
            "methods.key: lanes has device_code, but",
            "methods.key: sign_in.link_from is the screen, but",
            "methods.key: credential_required[0] \"key\" must be a JSON pointer",
            "methods.key: argv names no program",
        ] {
            assert!(errors.contains(expected), "{expected} is not among:\n{errors}");
        }
        let errors = provider.sign_in_hosts_errors();
        assert!(errors.len() == 1 && errors[0].starts_with("methods.key: sign_in_hosts is empty"), "{errors:?}");
    }
}
