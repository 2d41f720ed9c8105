//! One descriptor on its way from a file and the configuration to a [`Provider`]: everything wrong with it at once, each fault with the
//! file, the line where there is one, and the path of the key.

use anteroom_wire::provider::Provider;
use toml::de::{DeTable, DeValue};

/// Faults of one descriptor that are told.
const FAULTS_MAX: usize = 50;

/// A descriptor before it is one.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, or where else it comes from.
    pub place: String,
    /// The name it must have.
    name: String,
    text: String,
    table: toml::Table,
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
            Ok(table) => Ok(Self { place, name: name.to_owned(), text, table }),
            Err(error) => Err(vec![Fault::whole(&place, one_line(&error.to_string()))]),
        }
    }

    /// A descriptor that stands in the configuration alone.
    pub fn configured(name: &str) -> Self {
        Self {
            place: format!("[providers.{name}]"),
            name: name.to_owned(),
            text: String::new(),
            table: toml::Table::new(),
        }
    }

    /// Changed by the configuration's `[providers.NAME]`.
    pub fn change(&mut self, change: &toml::Table, name: &str) {
        self.table.entry("id").or_insert_with(|| toml::Value::String(name.to_owned()));
        if !self.place.contains("[providers") {
            self.place = format!("{} with [providers.{name}]", self.place);
        }
        merge(&mut self.table, change);
    }

    /// The descriptor.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub fn provider(&self) -> Result<Provider, Vec<Fault>> {
        let (mut table, mut faults) = (self.table.clone(), Vec::new());
        while faults.len() < FAULTS_MAX {
            match table.clone().try_into::<Provider>() {
                Ok(provider) => {
                    let wrong = provider.faults();
                    // What a method only takes over is told where it stands.
                    let taken_over = |what: &str| {
                        let (method, rest) = within_method(what);
                        method.is_some() && wrong.iter().any(|other| other == rest)
                    };
                    let own = wrong.iter().filter(|what| !taken_over(what));
                    faults.extend(own.map(|what| self.fault(&path_of(what), within_method(what).1)));
                    if provider.id.as_str() != self.name {
                        faults.push(self.fault("id", &format!("id {:?} differs from the file's name", provider.id)));
                    }
                    return if faults.is_empty() { Ok(provider) } else { Err(faults) };
                }
                Err(error) => {
                    let (path, unknown) = keys_of(&error);
                    faults.push(self.fault(&path, &one_line(error.message())));
                    // Without what is not known, the next fault is heard of.
                    if !unknown || !take_out(&mut table, &path) {
                        break;
                    }
                }
            }
        }
        Err(faults)
    }

    fn fault(&self, path: &str, what: &str) -> Fault {
        let line = find(&self.text, path).map(|at| line_of(&self.text, at));
        Fault { place: self.place.clone(), line, path: path.to_owned(), what: what.to_owned() }
    }
}

/// The path that an error names, down to the key that is not known, and whether that is its fault.
fn keys_of(error: &toml::de::Error) -> (String, bool) {
    let text = error.to_string();
    let within = text.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or("");
    let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    match unknown {
        Some(key) if within.is_empty() => (key.to_owned(), true),
        Some(key) if within.rsplit('.').next() == Some(key) => (within.to_owned(), true),
        Some(key) => (format!("{within}.{key}"), true),
        None => (within.to_owned(), false),
    }
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

/// The parts of `a.b[2].c`.
fn parts(path: &str) -> Vec<String> {
    let dotted = path.replace('[', ".").replace(']', "");
    dotted.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Where the key stands, or the nearest one above it that does.
fn find(text: &str, path: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut at = None;
    let mut table = Some(document.get_ref());
    let mut value: Option<&DeValue<'_>> = None;
    for part in parts(path) {
        if let Some((key, found)) = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == part.as_str()))
        {
            // The key of an inner table may stand above, as part of a header: then what it holds says the line.
            at = Some(key.span().start);
            value = Some(found.get_ref());
        } else if let Some(item) =
            value.and_then(DeValue::as_array).and_then(|list| list.get(part.parse::<usize>().ok()?))
        {
            at = Some(item.span().start);
            value = Some(item.get_ref());
        } else {
            break;
        }
        table = value.and_then(DeValue::as_table);
    }
    at
}

fn take_out(table: &mut toml::Table, path: &str) -> bool {
    let parts = parts(path);
    let Some((last, above)) = parts.split_last() else { return false };
    let mut inner = table;
    for part in above {
        match inner.get_mut(part) {
            Some(toml::Value::Table(next)) => inner = next,
            // Where the error does not say which of a list it means, nothing is taken out.
            Some(_) | None => return false,
        }
    }
    inner.remove(last).is_some()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
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
    fn a_missing_key_and_another_name_are_told() {
        assert!(faults("id = 'x'\n")[0].contains("missing field"));
        assert!(
            faults(&DESCRIPTOR.replace("id = \"x\"", "id = \"y\"")).join("").contains("differs from the file's name")
        );
    }
}
