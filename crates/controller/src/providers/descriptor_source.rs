//! One descriptor on its way from a file and the configuration to a [`Provider`]: everything wrong with it at once, each fault with the
//! file, the line where there is one, and the path of the key.

mod key_location;

use anteroom_wire::provider::Provider;
use key_location::{brings, find, inner, line_of, path, take_out};
use std::collections::BTreeSet;
use toml::{Value, de::DeTable};

/// Faults of one descriptor that are told.
const FAULTS_MAX: usize = 50;

/// A descriptor before it is one.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, or where else it comes from.
    pub place: String,
    /// The name it must have.
    name: String,
    /// The file alone, and what stands in it.
    file: String,
    text: String,
    table: toml::Table,
    /// What the configuration changes, and under which name.
    change: Option<(String, toml::Table)>,
}

/// Something wrong with a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or where else it stands.
    pub place: String,
    /// The line in it, from 1; `None`: it stands in no line of that file.
    pub line: Option<usize>,
    /// The key (`methods.browser.sign_in.url`); empty: the whole.
    pub path: String,
    /// What is wrong, one sentence.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.place)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
        let (above, key) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
        // Sentences often begin with their key.
        match (above, self.what.starts_with(&self.path), self.what.starts_with(key)) {
            (_, true, _) | ("", _, true) => write!(f, ": {}", self.what),
            (above, false, true) => write!(f, ": {above}.{}", self.what),
            (_, false, false) => write!(f, ": {}: {}", self.path, self.what),
        }
    }
}

impl Fault {
    /// A fault of a whole file.
    pub fn whole(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), line: None, path: String::new(), what: what.into() }
    }
}

impl Source {
    /// A file's text.
    ///
    /// # Errors
    /// Every place where it is not TOML.
    pub fn parse(name: &str, place: String, text: String) -> Result<Self, Vec<Fault>> {
        let (_, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            let fault = |error: &toml::de::Error| Fault {
                place: place.clone(),
                line: error.span().map(|span| line_of(&text, span.start)),
                path: String::new(),
                what: error.message().to_owned(),
            };
            return Err(errors.iter().take(FAULTS_MAX).map(fault).collect());
        }
        match text.parse() {
            Ok(table) => Ok(Self { file: place.clone(), place, name: name.to_owned(), text, table, change: None }),
            Err(error) => Err(vec![Fault::whole(&place, one_line(&error.to_string()))]),
        }
    }

    /// A descriptor that stands in the configuration alone.
    pub fn configured(name: &str) -> Self {
        let place = format!("[providers.{name}]");
        let (name, text, table) = (name.to_owned(), String::new(), toml::Table::new());
        Self { file: place.clone(), place, name, text, table, change: None }
    }

    /// Changed by the configuration's `[providers.NAME]`.
    pub fn change(&mut self, change: &toml::Table, name: &str) {
        self.table.entry("id").or_insert_with(|| toml::Value::String(name.to_owned()));
        if !self.place.contains("[providers") {
            self.place = format!("{} with [providers.{name}]", self.place);
        }
        merge(&mut self.table, change);
        self.change = Some((name.to_owned(), change.clone()));
    }

    /// The descriptor.
    ///
    /// # Errors
    /// Everything wrong with it: what is missing, unknown or of another kind is put right in a copy, so that the rest is heard of too.
    pub fn provider(&self) -> Result<Provider, Vec<Fault>> {
        let (mut table, mut faults, mut told) = (self.table.clone(), Vec::new(), BTreeSet::new());
        while faults.len() < FAULTS_MAX {
            let error = match serde_path_to_error::deserialize::<_, Provider>(Value::Table(table.clone())) {
                Ok(provider) => {
                    self.unsound(&provider, &told, &mut faults);
                    return if faults.is_empty() { Ok(provider) } else { Err(faults) };
                }
                Err(error) => error,
            };
            let (at, message) = (steps(&error), one_line(error.inner().message()));
            let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) else {
                faults.push(self.fault(&path(&at), &message));
                match take_out(&mut table, &at) {
                    Some(gone) => _ = told.insert(path(gone)),
                    None => break,
                }
                continue;
            };
            let place = [&at[..], &[missing.to_owned()]].concat();
            if told.insert(path(&place)) {
                faults.push(self.fault(&path(&place), &format!("{missing} is missing")));
            }
            let stand_in =
                if *place == ["id"] { Some(self.name.clone().into()) } else { stand_in(missing, faults.len()) };
            match stand_in.zip(inner(&mut table, &at)) {
                Some((value, inner)) => _ = inner.insert(missing.to_owned(), value),
                None => break,
            }
        }
        Err(faults)
    }

    /// What is wrong with a descriptor that can be read, but for what was told of it before.
    fn unsound(&self, provider: &Provider, told: &BTreeSet<String>, faults: &mut Vec<Fault>) {
        let wrong = provider.faults();
        // What a method only takes over is told where it stands.
        let taken_over = |what: &str| {
            let (method, rest) = within_method(what);
            method.is_some() && wrong.iter().any(|other| other == rest)
        };
        let own = wrong.iter().map(|what| (path_of(what), what));
        let own = own.filter(|(path, what)| !told.contains(path) && !taken_over(what));
        faults.extend(own.map(|(path, what)| self.fault(&path, within_method(what).1)));
        if provider.id.as_str() != self.name && !told.contains("id") {
            faults.push(
                self.fault(
                    "id",
                    &format!("id {:?} differs from the file's name {:?}", provider.id.as_str(), self.name),
                ),
            );
        }
    }

    fn fault(&self, path: &str, what: &str) -> Fault {
        let (path, what) = (path.to_owned(), what.to_owned());
        let found = find(&self.text, &path);
        if let Some((name, change)) = &self.change
            && brings(change, &path).is_some_and(|depth| found.is_none_or(|(_, there)| depth >= there))
        {
            return Fault { place: format!("[providers.{name}]"), line: None, path, what };
        }
        Fault { place: self.file.clone(), line: found.map(|(at, _)| line_of(&self.text, at)), path, what }
    }
}

/// The keys and indices that lead to an error.
fn steps(error: &serde_path_to_error::Error<toml::de::Error>) -> Vec<String> {
    use serde_path_to_error::Segment::{Enum, Map, Seq, Unknown};
    let step = |segment: &serde_path_to_error::Segment| match segment {
        Seq { index } => Some(index.to_string()),
        Map { key } => Some(key.clone()),
        Enum { .. } | Unknown => None,
    };
    error.path().iter().filter_map(step).collect()
}

/// Something sound in the place of what is missing.
fn stand_in(key: &str, number: usize) -> Option<Value> {
    let list = |item: &str| Value::Array(vec![item.into()]);
    Some(match key {
        "id" => format!("stand_in_{number}").into(),
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

/// The method that a sentence of [`Provider::faults`] is about, and what it says of it.
fn within_method(what: &str) -> (Option<&str>, &str) {
    match what.strip_prefix("methods.").and_then(|rest| rest.split_once(": ")) {
        Some((method, rest)) => (Some(method), rest),
        None => (None, what),
    }
}

/// The path at the beginning of a sentence of [`Provider::faults`], as far as it is one.
fn path_of(what: &str) -> String {
    let (method, rest) = within_method(what);
    let prefix = method.map_or_else(String::new, |method| format!("methods.{method}"));
    let word = rest.split([' ', ':']).next().unwrap_or("");
    let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '[' | ']');
    let word = if !word.is_empty() && word.chars().all(is_path) { word } else { "" };
    [prefix.as_str(), word].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', " ")
}

/// Tables are merged key by key; everything else is replaced whole.
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
next_action = \"Do.\"
policy = \"store\"
egress = []
credential = { paths = [\"x\"], required = [\"/x\"] }
";

    fn faults(text: &str) -> Vec<String> {
        let source = Source::parse("x", "x.toml".into(), text.into());
        let faults = match source.and_then(|source| source.provider()) {
            Ok(_) => Vec::new(),
            Err(faults) => faults,
        };
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_descriptor_has_no_faults() {
        assert_eq!(faults(DESCRIPTOR), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_told_with_file_line_and_path() {
        let text = format!(
            "{DESCRIPTOR}speed = 3\n[sign_in]\nurl = '('\ncolour = 1\n[[prompts]]\nid = 'a'\nmatches = '['\npress = ['y']\n\
             [methods.key]\nlabel = ''\nsize = 2\n"
        );
        let all = faults(&text).join("\n");
        for expected in [
            "x.toml:10: speed: unknown field `speed`",
            "x.toml:13: sign_in.colour: unknown field `colour`",
            "x.toml:12: sign_in.url is not a regular expression",
            "x.toml:14: prompts[0] \"a\": matches is not a regular expression",
            "x.toml:20: methods.key.size: unknown field `size`",
            "x.toml:19: methods.key.label is empty",
            "x.toml: label is empty: with several methods each needs one",
        ] {
            assert!(all.lines().any(|line| line.starts_with(expected)), "{expected} is not in:\n{all}");
        }
        assert_eq!(all.lines().count(), 7, "what the method takes over is told once:\n{all}");
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_lines() {
        let all = faults("id = \"x\nname = \n");
        assert!(all.len() >= 2 && all[0].starts_with("x.toml:1: "), "{all:?}");
    }

    #[test]
    fn what_is_missing_or_of_another_kind_hides_nothing_else() {
        let text = "id = 'x'\nname = 3\nargv = ['x', 4]\nlanes = ['link', 'fax']\npolicy = 'stor'\negress = [{ host = 'a.example' }, \
                    { port = [1] }, { host = '10.0.0.1' }]\n[sign_in]\nurl = '('\n[[prompts]]\nid = 'a'\nmatches = 'x'\npress = \
                    ['y']\n[[prompts]]\nid = 'a'\npress = ['any']\n[credential]\npaths = ['x', '/y']\n";
        let all = faults(text);
        for expected in [
            "x.toml:2: name: invalid type",
            "x.toml:3: argv[1]: invalid type",
            "x.toml:4: lanes[1]: unknown variant `fax`",
            "x.toml:5: policy: unknown variant `stor`",
            "x.toml:6: egress[1].port: unknown field `port`",
            "x.toml:6: egress[1].host is missing",
            "x.toml:6: egress[2].host \"10.0.0.1\" must be",
            "x.toml: cli is missing",
            "x.toml: next_action is missing",
            "x.toml:8: sign_in.url is not a regular expression",
            "x.toml:13: prompts[1].matches is missing",
            "x.toml:15: prompts[1].press[0]: unknown variant `any`",
            "x.toml:13: prompts[1] \"a\": the id is there twice",
            "x.toml:17: credential.paths[1] \"/y\" must lie below",
            "x.toml:16: credential.required is empty",
        ] {
            assert!(all.iter().any(|fault| fault.starts_with(expected)), "{expected} is not in:\n{}", all.join("\n"));
        }
        assert!(faults("").len() >= 9, "of nothing everything is missing: {:?}", faults(""));
    }

    #[test]
    fn what_the_configuration_brings_is_told_as_its_own() {
        let mut source = Source::parse("x", "x.toml".into(), DESCRIPTOR.into()).unwrap();
        let change = "argv = []\nsign_in = { url = '(' }\ncredential = { required = [3] }\nlanes = ['fax']\n";
        source.change(&change.parse().unwrap(), "x");
        let all: Vec<String> = source.provider().unwrap_err().iter().map(ToString::to_string).collect();
        for expected in [
            "[providers.x]: argv names no program",
            "[providers.x]: sign_in.url is not a regular expression",
            "[providers.x]: credential.required[0]: invalid type",
            "[providers.x]: lanes[0]: unknown variant",
        ] {
            assert!(all.iter().any(|fault| fault.starts_with(expected)), "{expected} is not in:\n{}", all.join("\n"));
        }
        assert_eq!(all.len(), 4, "{all:?}");
    }

    #[test]
    fn a_missing_key_and_another_name_are_told() {
        assert!(faults("id = 'x'\n")[0].contains("is missing"));
        assert!(
            faults(&DESCRIPTOR.replace("id = \"x\"", "id = \"y\"")).join("").contains("differs from the file's name")
        );
    }
}
