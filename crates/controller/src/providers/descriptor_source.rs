//! Parses a [`Provider`] descriptor from a file and its overrides in the configuration. Reports all errors at once, each with
//! the file, the line if there is one, and the path of the key.

mod key_location;

use anteroom_wire::provider::Provider;
use key_location::{find_key, join_key_path, line_at_offset, override_depth, remove_at, table_at};
use std::collections::BTreeSet;
use toml::{Value, de::DeTable};

/// The most errors that are reported for one descriptor.
const ERRORS_MAX: usize = 50;

/// An unparsed descriptor: a file's text and the overrides from the configuration.
#[derive(Debug, Clone)]
pub struct DescriptorSource {
    /// The file and, if there is one, the table of the configuration that overrides keys of it.
    pub origin: String,
    /// The id that the descriptor must have.
    name: String,
    /// The file, without the override.
    file: String,
    /// The file's text.
    text: String,
    /// The parsed text with the overrides applied.
    table: toml::Table,
    /// The name and the content of the configuration's `[providers.NAME]`.
    config_override: Option<(String, toml::Table)>,
}

/// An error in a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorError {
    /// The file, or the table of the configuration.
    pub origin: String,
    /// The line in the file, from 1; `None`: the error belongs to no line.
    pub line: Option<usize>,
    /// The key (`methods.browser.sign_in.url`); empty: the whole file.
    pub path: String,
    /// One sentence.
    pub message: String,
}

impl std::fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.origin)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
        let (parent, key) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
        // Messages often begin with the key: do not print it twice.
        match (parent, self.message.starts_with(&self.path), self.message.starts_with(key)) {
            (_, true, _) | ("", _, true) => write!(f, ": {}", self.message),
            (parent, false, true) => write!(f, ": {parent}.{}", self.message),
            (_, false, false) => write!(f, ": {}: {}", self.path, self.message),
        }
    }
}

impl DescriptorError {
    /// An error that concerns the whole file.
    pub fn for_file(origin: &str, message: impl Into<String>) -> Self {
        Self { origin: origin.to_owned(), line: None, path: String::new(), message: message.into() }
    }
}

impl DescriptorSource {
    /// Parses the text of a file as TOML.
    ///
    /// # Errors
    /// All TOML syntax errors.
    pub fn parse_toml(name: &str, origin: String, text: String) -> Result<Self, Vec<DescriptorError>> {
        let (_, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            let located = |error: &toml::de::Error| DescriptorError {
                origin: origin.clone(),
                line: error.span().map(|span| line_at_offset(&text, span.start)),
                path: String::new(),
                message: error.message().to_owned(),
            };
            return Err(errors.iter().take(ERRORS_MAX).map(located).collect());
        }
        match text.parse() {
            Ok(table) => {
                Ok(Self { file: origin.clone(), origin, name: name.to_owned(), text, table, config_override: None })
            }
            Err(error) => Err(vec![DescriptorError::for_file(&origin, one_line(&error.to_string()))]),
        }
    }

    /// A descriptor without a file, defined by `[providers.NAME]` in the configuration.
    pub fn from_config(name: &str) -> Self {
        let origin = format!("[providers.{name}]");
        let (name, text, table) = (name.to_owned(), String::new(), toml::Table::new());
        Self { file: origin.clone(), origin, name, text, table, config_override: None }
    }

    /// Applies the configuration's `[providers.NAME]`.
    pub fn apply_override(&mut self, change: &toml::Table, name: &str) {
        self.table.entry("id").or_insert_with(|| toml::Value::String(name.to_owned()));
        if !self.origin.contains("[providers") {
            self.origin = format!("{} with [providers.{name}]", self.origin);
        }
        merge(&mut self.table, change);
        self.config_override = Some((name.to_owned(), change.clone()));
    }

    /// Deserializes and validates the descriptor.
    ///
    /// # Errors
    /// All errors: a key that is missing, unknown or of the wrong type is corrected in a copy, so that the errors after it
    /// are found too.
    pub fn to_provider(&self) -> Result<Provider, Vec<DescriptorError>> {
        let (mut table, mut errors, mut reported) = (self.table.clone(), Vec::new(), BTreeSet::new());
        while errors.len() < ERRORS_MAX {
            let error = match serde_path_to_error::deserialize::<_, Provider>(Value::Table(table.clone())) {
                Ok(provider) => {
                    self.validate(&provider, &reported, &mut errors);
                    return if errors.is_empty() { Ok(provider.with_egress_groups()) } else { Err(errors) };
                }
                Err(error) => error,
            };
            let (at, message) = (steps(&error), one_line(error.inner().message()));
            let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) else {
                errors.push(self.error_at(&join_key_path(&at), &message));
                match remove_at(&mut table, &at) {
                    Some(removed) => _ = reported.insert(join_key_path(removed)),
                    None => break,
                }
                continue;
            };
            let missing_key = [&at[..], &[missing.to_owned()]].concat();
            if reported.insert(join_key_path(&missing_key)) {
                errors.push(self.error_at(&join_key_path(&missing_key), &format!("{missing} is missing")));
            }
            let is_id = *missing_key == ["id"];
            let placeholder = if is_id { Some(self.name.clone().into()) } else { placeholder(missing, errors.len()) };
            match placeholder.zip(table_at(&mut table, &at)) {
                Some((value, parent)) => _ = parent.insert(missing.to_owned(), value),
                None => break,
            }
        }
        Err(errors)
    }

    /// Adds the errors of a deserialized descriptor, except those of keys that are already reported.
    fn validate(&self, provider: &Provider, reported: &BTreeSet<String>, errors: &mut Vec<DescriptorError>) {
        let mut messages = provider.validation_errors();
        messages.extend(provider.sign_in_hosts_errors());
        // An error that a method inherits is reported once, at the key that has it.
        let is_inherited = |message: &str| {
            let (method, rest) = split_method(message);
            method.is_some() && messages.iter().any(|other| other == rest)
        };
        let new = messages.iter().map(|message| (path_of(message), message));
        let new = new.filter(|(path, message)| !reported.contains(path) && !is_inherited(message));
        errors.extend(new.map(|(path, message)| self.error_at(&path, split_method(message).1)));
        if provider.id.as_str() != self.name && !reported.contains("id") {
            errors.push(self.error_at(
                "id",
                &format!("id {:?} differs from the file's name {:?}", provider.id.as_str(), self.name),
            ));
        }
    }

    /// An error with the origin and the line of the key.
    fn error_at(&self, path: &str, message: &str) -> DescriptorError {
        let (path, message) = (path.to_owned(), message.to_owned());
        let in_file = find_key(&self.text, &path);
        if let Some((name, change)) = &self.config_override
            && override_depth(change, &path)
                .is_some_and(|depth| in_file.is_none_or(|(_, file_depth)| depth >= file_depth))
        {
            return DescriptorError { origin: format!("[providers.{name}]"), line: None, path, message };
        }
        let line = in_file.map(|(offset, _)| line_at_offset(&self.text, offset));
        DescriptorError { origin: self.file.clone(), line, path, message }
    }
}

/// The keys and indices of an error's path.
fn steps(error: &serde_path_to_error::Error<toml::de::Error>) -> Vec<String> {
    use serde_path_to_error::Segment::{Enum, Map, Seq, Unknown};
    let step = |segment: &serde_path_to_error::Segment| match segment {
        Seq { index } => Some(index.to_string()),
        Map { key } => Some(key.clone()),
        Enum { .. } | Unknown => None,
    };
    error.path().iter().filter_map(step).collect()
}

/// A valid value for a missing key.
fn placeholder(key: &str, number: usize) -> Option<Value> {
    let list = |item: &str| Value::Array(vec![item.into()]);
    Some(match key {
        "id" => format!("placeholder_{number}").into(),
        "name" | "cli" | "label" | "next_action" | "content" | "path" | "matches" => "x".into(),
        "argv" | "paths" => list("x"),
        "lanes" => list("terminal"),
        "policy" => "store".into(),
        "egress" => Value::Array(Vec::new()),
        "host" => "host.example".into(),
        "pointer" => "/x".into(),
        "unit" => "unix_s".into(),
        "credential" => {
            toml::Table::from_iter([("paths".to_owned(), list("x")), ("required".to_owned(), list("/x"))]).into()
        }
        _ => return None,
    })
}

/// Splits a message of [`Provider::validation_errors`] into the method that it is about, if any, and the rest.
fn split_method(message: &str) -> (Option<&str>, &str) {
    match message.strip_prefix("methods.").and_then(|rest| rest.split_once(": ")) {
        Some((method, rest)) => (Some(method), rest),
        None => (None, message),
    }
}

/// The path at the beginning of a message of [`Provider::validation_errors`]; empty if there is none.
fn path_of(message: &str) -> String {
    let (method, rest) = split_method(message);
    let prefix = method.map_or_else(String::new, |method| format!("methods.{method}"));
    let first = rest.split([' ', ':']).next().unwrap_or("");
    let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '[' | ']');
    let key = if !first.is_empty() && first.chars().all(is_path) { first } else { "" };
    [prefix.as_str(), key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', " ")
}

/// Merges tables key by key; all other values are replaced.
fn merge(into: &mut toml::Table, change: &toml::Table) {
    for (key, value) in change {
        match (into.get_mut(key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(change)) => merge(into, change),
            (Some(_) | None, _) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTOR: &str = "id = \"x\"
name = \"X\"
cli = \"x\"
argv = [\"x\"]
lanes = [\"link\"]
sign_in_hosts = [\"a.example\"]
next_action = \"Do.\"
policy = \"store\"
egress = []
credential = { paths = [\"x\"], required = [\"/x\"] }
";

    fn errors(text: &str) -> Vec<String> {
        let source = DescriptorSource::parse_toml("x", "x.toml".into(), text.into());
        let errors = match source.and_then(|source| source.to_provider()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors,
        };
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn valid_descriptor_has_no_errors() {
        assert_eq!(errors(DESCRIPTOR), Vec::<String>::new());
    }

    #[test]
    fn every_error_has_file_line_and_path() {
        let text = format!(
            "{DESCRIPTOR}speed = 3\n[sign_in]\nurl = '('\ncolour = 1\n[[prompts]]\nid = 'a'\nmatches = '['\npress = ['y']\n\
             [methods.key]\nlabel = ''\nsize = 2\n"
        );
        let all = errors(&text).join("\n");
        for expected in [
            "x.toml:11: speed: unknown field `speed`",
            "x.toml:14: sign_in.colour: unknown field `colour`",
            "x.toml:13: sign_in.url is not a regular expression",
            "x.toml:15: prompts[0] \"a\": matches is not a regular expression",
            "x.toml:21: methods.key.size: unknown field `size`",
            "x.toml:20: methods.key.label is empty",
            "x.toml: label is empty: with several methods each needs one",
        ] {
            assert!(all.lines().any(|line| line.starts_with(expected)), "{expected} is not in:\n{all}");
        }
        assert_eq!(all.lines().count(), 7, "an inherited error is reported once:\n{all}");
    }

    #[test]
    fn toml_syntax_errors_have_lines() {
        let all = errors("id = \"x\nname = \n");
        assert!(all.len() >= 2 && all[0].starts_with("x.toml:1: "), "{all:?}");
    }

    #[test]
    fn missing_key_or_wrong_type_does_not_hide_other_errors() {
        let text = "id = 'x'\nname = 3\nargv = ['x', 4]\nlanes = ['link', 'fax']\npolicy = 'stor'\negress = [{ host = 'a.example' }, \
                    { port = [1] }, { host = '10.0.0.1' }]\n[sign_in]\nurl = '('\n[[prompts]]\nid = 'a'\nmatches = 'x'\npress = \
                    ['y']\n[[prompts]]\nid = 'a'\npress = ['any']\n[credential]\npaths = ['x', '/y']\n";
        let all = errors(text);
        for expected in [
            "x.toml:2: name: invalid type",
            "x.toml:3: argv[1]: invalid type",
            "x.toml:4: lanes[1]: unknown variant `fax`",
            "x.toml:5: policy: unknown variant `stor`",
            "x.toml:6: egress[1].port: unknown field `port`",
            "x.toml:6: egress[1].host is missing",
            "x.toml:6: egress[2].host \"10.0.0.1\" must be",
            "x.toml: next_action is missing",
            "x.toml:8: sign_in.url is not a regular expression",
            "x.toml:13: prompts[1].matches is missing",
            "x.toml:15: prompts[1].press[0]: unknown variant `any`",
            "x.toml:13: prompts[1] \"a\": the id is a duplicate",
            "x.toml:17: credential.paths[1] \"/y\" must be below",
            "x.toml:16: credential.required is empty",
        ] {
            assert!(all.iter().any(|error| error.starts_with(expected)), "{expected} is not in:\n{}", all.join("\n"));
        }
        assert!(errors("").len() >= 8, "an empty descriptor has all keys missing: {:?}", errors(""));
    }

    #[test]
    fn errors_in_config_overrides_name_the_config_table() {
        let mut source = DescriptorSource::parse_toml("x", "x.toml".into(), DESCRIPTOR.into()).unwrap();
        let change = "argv = []\nsign_in = { url = '(' }\ncredential = { required = [3] }\nlanes = ['fax']\n";
        source.apply_override(&change.parse().unwrap(), "x");
        let all: Vec<String> = source.to_provider().unwrap_err().iter().map(ToString::to_string).collect();
        for expected in [
            "[providers.x]: argv names no program",
            "[providers.x]: sign_in.url is not a regular expression",
            "[providers.x]: credential.required[0]: invalid type",
            "[providers.x]: lanes[0]: unknown variant",
        ] {
            assert!(all.iter().any(|error| error.starts_with(expected)), "{expected} is not in:\n{}", all.join("\n"));
        }
        assert_eq!(all.len(), 4, "{all:?}");
    }

    #[test]
    fn missing_key_and_wrong_id_are_reported() {
        assert!(errors("id = 'x'\n")[0].contains("is missing"));
        assert!(
            errors(&DESCRIPTOR.replace("id = \"x\"", "id = \"y\"")).join("").contains("differs from the file's name")
        );
    }
}
