//! `[webhook]` or `[[webhook]]`: the settings of one receiver, or of several.

use super::settings::{WebhookSettings, file_errors};
use crate::settings::{Section, Setting, Subsection, validate_ranges};
use anteroom_wire::webhook::EventType;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use std::{collections::BTreeSet, fmt};

/// Most receivers: each change writes a message for each of them.
pub const RECEIVERS_MAX: usize = 20;
/// The longest name of a receiver, characters.
pub const NAME_CHARS_MAX: usize = 40;

/// The settings of the receivers: never empty; the only one may have no URL.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookReceivers(Vec<WebhookSettings>);

impl Default for WebhookReceivers {
    fn default() -> Self {
        Self(vec![WebhookSettings::default()])
    }
}

impl WebhookReceivers {
    /// The settings of each receiver, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &WebhookSettings> {
        self.0.iter()
    }

    /// Whether there is a list of receivers.
    pub fn is_list(&self) -> bool {
        self.0.len() > 1
    }

    /// Errors other than numbers of the first one that are out of range, one sentence each. Files are not read.
    pub fn validation_errors(&self) -> Vec<String> {
        let mut errors: Vec<String> = self.iter().flat_map(WebhookSettings::validation_errors).collect();
        errors.extend(self.iter().skip(1).flat_map(|settings| validate_ranges(settings, "webhook.")));
        let mut names = BTreeSet::new();
        let repeated = self.iter().filter(|settings| !names.insert(&settings.name));
        errors.extend(repeated.map(|settings| format!("webhook.name {:?} is used by two receivers", settings.name)));
        if self.is_list() && self.iter().any(|settings| settings.url.is_none()) {
            errors.push("webhook.url is missing in one of the receivers".to_owned());
        }
        if self.iter().filter(|settings| settings.include_credential).count() > 1 {
            errors
                .push("webhook.include_credential is on for two receivers: a credential is delivered once".to_owned());
        }
        if self.0.len() > RECEIVERS_MAX {
            errors.push(format!("webhook has more than {RECEIVERS_MAX} receivers"));
        }
        errors
    }

    /// What is wrong with the files of the receivers, one sentence each.
    pub fn file_errors(&self) -> Vec<String> {
        self.iter().flat_map(file_errors).collect()
    }
}

/// The errors of a receiver's name and types.
pub(super) fn name_and_type_errors(name: &str, types: &[String]) -> Vec<String> {
    let is_name_char = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let mut errors = Vec::new();
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(is_name_char) {
        errors.push(format!("webhook.name {name:?} must be 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, - and _"));
    }
    let known = || EventType::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    let unknown = types.iter().filter(|kind| EventType::from_text(kind).is_none());
    errors.extend(unknown.map(|kind| format!("webhook.types has {kind:?}; the types are {}", known())));
    errors
}

/// The example file and `validate_ranges` see the first receiver.
impl Section for WebhookReceivers {
    fn settings(&self) -> Vec<Setting> {
        self.0.first().map(Section::settings).unwrap_or_default()
    }

    fn sections(&self) -> Vec<Subsection<'_>> {
        Vec::new()
    }
}

impl Serialize for WebhookReceivers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [only] => only.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for WebhookReceivers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = WebhookReceivers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, or a list of tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(WebhookReceivers(vec![WebhookSettings::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut receivers = Vec::new();
                while let Some(settings) = sequence.next_element()? {
                    receivers.push(settings);
                }
                Ok(if receivers.is_empty() { WebhookReceivers::default() } else { WebhookReceivers(receivers) })
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const TWO: &str = "[[webhook]]\nname = 'a'\nurl = 'https://a.example/'\nsecret_file = '/a'\n\
                       [[webhook]]\nname = 'b'\nurl = 'https://b.example/'\nsecret_file = '/b'\ntypes = ['session.ended']\n";

    #[test]
    fn one_receiver_is_a_table_and_several_are_a_list() {
        let one = Config::parse("[webhook]\nurl = 'https://a.example/'\nsecret_file = '/a'\n").unwrap();
        let names = |config: &Config| config.webhook.iter().map(|settings| settings.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&one), ["default"]);
        assert_eq!(names(&Config::parse(TWO).unwrap()), ["a", "b"]);
        assert_eq!(names(&Config::parse("webhook = []\n").unwrap()), ["default"]);
        let text = toml::to_string(&Config::parse(TWO).unwrap()).unwrap();
        assert_eq!(Config::parse(&text).unwrap(), Config::parse(TWO).unwrap());
    }

    #[test]
    fn faults_of_each_receiver_are_reported() {
        let text = TWO.replace("name = 'b'", "name = 'a'").replace("session.ended", "session.begun");
        let text = text.replace("secret_file = '/b'", "attempts_max = 0\ncolour = 'red'");
        let errors = Config::parse(&text).unwrap_err();
        for part in [
            "\"a\" is used by two receivers",
            "session.begun",
            "secret_file is missing",
            "webhook.attempts_max is 0",
            "colour is not a setting",
        ] {
            assert_eq!(errors.iter().filter(|error| error.contains(part)).count(), 1, "{part} in {errors:#?}");
        }
        assert_eq!(errors.len(), 5, "{errors:#?}");
    }
}
