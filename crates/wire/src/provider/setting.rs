//! Settings that some accounts of a provider need in addition to the sign-in, such as a project that is billed.

use super::Provider;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest value of a setting, bytes.
pub const SETTING_BYTES_MAX: usize = 255;
/// What the value replaces in [`SettingFile::content`].
pub const VALUE_PLACEHOLDER: &str = "{value}";

/// A value that the tool needs for some accounts: given when a session is started, or asked for once the tool has refused the account
/// without it. It is written to a file that the tool reads. That file is one of `credential.companions`, so it is stored, leased and
/// used with the credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingRule {
    /// Its id in the API, `a-z 0-9 _`, up to 40 characters; different from the ids of all prompts.
    pub id: String,
    /// A label, for people ("Google Cloud project").
    pub label: String,
    /// Regular expression that the complete value must match; it must allow no control characters.
    pub pattern: String,
    /// A description of the expected value, shown when the pattern does not match.
    pub expected_format: String,
    /// Regular expression on the reason that the tool shows for a failed sign-in (`sign_in.failed`): it fails because this setting is
    /// missing or wrong, so it is asked for.
    pub needed_when: String,
    /// The file that has the value.
    pub file: SettingFile,
}

/// A file with the value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingFile {
    /// Path below the home directory.
    pub path: String,
    /// The complete content; `{value}` is replaced by the value.
    pub content: String,
}

impl SettingRule {
    /// Whether `value` may be given: at most [`SETTING_BYTES_MAX`] bytes without control characters, all of it matched by the pattern.
    pub fn accepts(&self, value: &str) -> bool {
        let pattern = regex_lite::Regex::new(&format!(r"\A(?:{})\z", self.pattern));
        value.len() <= SETTING_BYTES_MAX
            && !value.chars().any(char::is_control)
            && pattern.is_ok_and(|pattern| pattern.is_match(value))
    }

    /// Whether a sign-in that failed for this reason needs the setting.
    pub fn is_needed(&self, why: &str) -> bool {
        regex_lite::Regex::new(&self.needed_when).is_ok_and(|pattern| pattern.is_match(why))
    }

    /// The content of the file with this value.
    pub fn file_content(&self, value: &str) -> String {
        self.file.content.replace(VALUE_PLACEHOLDER, value)
    }
}

impl Provider {
    /// The descriptor with the files of these settings (id → value). Values of settings that it does not have, or does not accept any
    /// more, are left out.
    #[must_use]
    pub fn with_settings(mut self, values: &BTreeMap<String, String>) -> Self {
        for setting in &self.settings {
            if let Some(value) = values.get(&setting.id).filter(|value| setting.accepts(value)) {
                self.settings_files.retain(|file| file.path != setting.file.path);
                let content = setting.file_content(value);
                self.settings_files.push(super::SettingsFile { path: setting.file.path.clone(), content });
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{IfRefused, SignInRules};

    fn gemini() -> Provider {
        toml::from_str(include_str!("../../../../providers/gemini_cli.toml")).unwrap()
    }

    #[test]
    fn r07_the_project_of_gemini_cli_is_a_file_that_belongs_to_the_credential() {
        let gemini = gemini();
        assert_eq!(gemini.validation_errors(), Vec::<String>::new());
        let [project] = &gemini.settings[..] else { panic!("{:?}", gemini.settings) };
        let values = BTreeMap::from([(project.id.clone(), "my-project-123".to_owned())]);
        let given = gemini.clone().with_settings(&values);
        let file = given.settings_files.iter().find(|file| file.path == project.file.path).unwrap();
        assert_eq!(file.content, "GOOGLE_CLOUD_PROJECT=my-project-123\n");
        assert!(gemini.credential.companions.contains(&file.path));
        assert_eq!(gemini.clone().with_settings(&BTreeMap::new()), gemini);
    }

    #[test]
    fn r07_a_value_cannot_add_a_line_or_another_variable() {
        let [project] = &gemini().settings[..] else { panic!("one setting") };
        for good in ["my-project-123", "example.com:my-project-1"] {
            assert!(project.accepts(good), "{good}");
        }
        let long = "a".repeat(SETTING_BYTES_MAX + 1);
        for bad in ["", "123456", "my-project\nX=1", "my project", "a\"b-project", "$HOME-project", long.as_str()] {
            assert!(!project.accepts(bad), "{bad:?}");
        }
    }

    #[test]
    fn r07_the_sentence_of_the_tool_asks_for_the_project() {
        let [project] = &gemini().settings[..] else { panic!("one setting") };
        for needed in [
            "This account requires setting the GOOGLE_CLOUD_PROJECT or GOOGLE_CLOUD_PROJECT_ID env var",
            "This account requires setting the GOOGLE_CLOUD_PROJECT",
            "Invalid Google Cloud Project ID: \"123\".",
        ] {
            assert!(project.is_needed(needed), "{needed}");
        }
        assert!(!project.is_needed("Failed to authenticate with user code."));
    }

    #[test]
    fn r07_faults_of_settings_are_named() {
        let setting = SettingRule {
            id: "paste_code".into(),
            label: String::new(),
            pattern: "(".into(),
            expected_format: String::new(),
            needed_when: String::new(),
            file: SettingFile { path: "/env".into(), content: "x".into() },
        };
        let if_refused = IfRefused { sentence: String::new(), method: Some("none".to_owned().try_into().unwrap()) };
        let sign_in = SignInRules { done: None, ..gemini().sign_in };
        let faulty = Provider { settings: vec![setting], if_refused: Some(if_refused), sign_in, ..gemini() };
        let errors = faulty.validation_errors().join("\n");
        for expected in [
            "settings[0] \"paste_code\": the id is a duplicate",
            "settings[0] \"paste_code\": label is empty",
            "settings[0] \"paste_code\": pattern is not a regular expression",
            "settings[0] \"paste_code\": expected_format is empty",
            "settings[0] \"paste_code\": needed_when is empty",
            "settings[0] \"paste_code\": file.path \"/env\" must be below",
            "settings[0] \"paste_code\": file.path \"/env\" must be in credential.companions",
            "settings[0] \"paste_code\": file.content does not contain {value}",
            "if_refused.sentence is empty",
            "if_refused.method is not another method",
            "credential.usable_when_done needs sign_in.done",
        ] {
            assert!(errors.contains(expected), "{expected} is not among:\n{errors}");
        }
    }
}
