//! `[external_machines.NAME]`: every fault of every machine at once.

use super::{Address, ExternalMachine};
use anteroom_store::Sha256Hex;
use anteroom_wire::Secret;
use std::{collections::BTreeMap, fs::File, io::Read, os::unix::fs::MetadataExt, path::Path, sync::Arc};

const NAME_CHARS_MAX: usize = 40;
const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_CHARS_MAX: usize = 512;
const CONNECT_MS_MAX: u64 = 900;
const GREETING_MS_MAX: u64 = 5_000;
const KEYS: &str = "desktop, agent_token_file, connect_ms_max and greeting_ms_max";

pub(super) fn load(
    tables: &BTreeMap<String, toml::Value>,
) -> Result<BTreeMap<String, Arc<ExternalMachine>>, Vec<String>> {
    let mut faults = Vec::new();
    let mut machines: BTreeMap<String, Arc<ExternalMachine>> = BTreeMap::new();
    for (name, value) in tables {
        let Some(machine) = one(name, value, &mut faults) else { continue };
        // A token says whose agent it is: it must say one.
        if let Some(other) = machines.values().find(|other| other.agent_token == machine.agent_token) {
            faults.push(format!("external_machines.{name} and {} have the same agent token", other.name));
        }
        machines.insert(name.clone(), Arc::new(machine));
    }
    if faults.is_empty() { Ok(machines) } else { Err(faults) }
}

fn one(name: &str, value: &toml::Value, faults: &mut Vec<String>) -> Option<ExternalMachine> {
    let before = faults.len();
    let mut fault = |words: String| faults.push(format!("external_machines.{name}{words}"));
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(good) {
        fault(format!(": a name has 1 to {NAME_CHARS_MAX} of a-z, 0-9, - and _"));
    }
    let Some(table) = value.as_table() else {
        fault(format!(" must be a table with {KEYS}"));
        return None;
    };
    for key in table.keys() {
        if !["desktop", "agent_token_file", "connect_ms_max", "greeting_ms_max"].contains(&key.as_str()) {
            fault(format!(".{key} is not a setting; there are {KEYS}"));
        }
    }
    let desktop = match table.get("desktop") {
        None => Err(".desktop is missing".to_owned()),
        Some(toml::Value::String(text)) => Address::parse(text).map_err(|why| format!(".desktop {why}")),
        Some(_) => Err(".desktop must be a text".to_owned()),
    };
    let agent_token = match table.get("agent_token_file") {
        None => Err(".agent_token_file is missing".to_owned()),
        Some(toml::Value::String(path)) => {
            token(Path::new(path)).map_err(|why| format!(".agent_token_file {path:?} {why}"))
        }
        Some(_) => Err(".agent_token_file must be a text".to_owned()),
    };
    let limit = |key: &str, default: u64, most: u64| match table.get(key) {
        None => Ok(default),
        Some(value) => match value.as_integer().map(u64::try_from) {
            Some(Ok(ms)) if (10..=most).contains(&ms) => Ok(ms),
            Some(_) | None => Err(format!(".{key} is {value}; it must be a whole number, 10 to {most}")),
        },
    };
    let connect = limit("connect_ms_max", CONNECT_MS_MAX, 10_000);
    let greeting = limit("greeting_ms_max", GREETING_MS_MAX, 60_000);
    match (desktop, agent_token, connect, greeting) {
        (Ok(desktop), Ok(agent_token), Ok(connect_ms_max), Ok(greeting_ms_max)) => {
            let machine =
                ExternalMachine { name: name.to_owned(), desktop, agent_token, connect_ms_max, greeting_ms_max };
            (faults.len() == before).then_some(machine)
        }
        (desktop, agent_token, connect, greeting) => {
            [desktop.err(), agent_token.err(), connect.err(), greeting.err()].into_iter().flatten().for_each(fault);
            None
        }
    }
}

/// The hash of the token in a file that nobody else may read.
fn token(path: &Path) -> Result<Sha256Hex, String> {
    let mut file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let meta = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!("may be read by others (mode {:04o}): chmod 600 it", meta.mode() & 0o777));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let limit = TOKEN_CHARS_MAX as u64 + 2;
    Read::by_ref(&mut file)
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let token = text.trim_ascii_end();
    if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(format!(
            "must have one token of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} visible ASCII characters in it"
        ));
    }
    Ok(Sha256Hex::of_secret(&Secret::new(token.to_owned())))
}
