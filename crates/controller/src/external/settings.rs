//! Parses `[external_machines.NAME]` and reports all errors of all machines at once, as sentences for the operator.

use super::{
    DesktopEndpoint, DesktopLogin, Encryption, EndpointScheme, ExternalMachine,
    tls::{self, DesktopTls, Trust},
};
use crate::{
    api_error::chain,
    private_file::{PrivateFile, Readers, read_private_file},
};
use anteroom_store::Sha256Hex;
use anteroom_wire::Secret;
use std::{collections::BTreeMap, io, path::Path, sync::Arc};
use zeroize::Zeroizing;

const NAME_CHARS_MAX: usize = 40;
const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_CHARS_MAX: usize = 512;
const PASSWORD_BYTES_MAX: usize = 256;
const USER_BYTES_MAX: usize = 128;
const CONNECT_MS_MAX: u64 = 900;
const GREETING_MS_MAX: u64 = 5_000;
const KEYS: [&str; 9] = [
    "desktop",
    "agent_token_file",
    "password_file",
    "user",
    "connect_ms_max",
    "greeting_ms_max",
    "ca_file",
    "certificate_sha256",
    "allow_unencrypted",
];

pub(super) fn load(
    tables: &BTreeMap<String, toml::Value>,
) -> Result<BTreeMap<String, Arc<ExternalMachine>>, Vec<String>> {
    let mut errors = Vec::new();
    let mut machines: BTreeMap<String, Arc<ExternalMachine>> = BTreeMap::new();
    for (name, value) in tables {
        let Some(machine) = parse_machine(name, value, &mut errors) else { continue };
        // A token identifies one agent.
        if let Some(other) = machines.values().find(|other| other.agent_token == machine.agent_token) {
            errors.push(format!("external_machines.{name} and {} have the same agent token", other.name));
        }
        machines.insert(name.clone(), Arc::new(machine));
    }
    if errors.is_empty() { Ok(machines) } else { Err(errors) }
}

fn parse_machine(name: &str, value: &toml::Value, errors: &mut Vec<String>) -> Option<ExternalMachine> {
    let errors_before = errors.len();
    let mut error = |message: String| errors.push(format!("external_machines.{name}{message}"));
    let is_name_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_name_char) {
        error(format!(": a name has 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, - and _"));
    }
    let Some(table) = value.as_table() else {
        error(format!(" must be a table with {}", KEYS.join(", ")));
        return None;
    };
    for key in table.keys() {
        if !KEYS.contains(&key.as_str()) {
            error(format!(".{key} is not a setting; the settings are {}", KEYS.join(", ")));
        }
    }
    let desktop = required_text(table, "desktop")
        .and_then(|text| DesktopEndpoint::parse(text).map_err(|error| format!(".desktop {}", chain(&error))));
    let agent_token = required_text(table, "agent_token_file").and_then(|path| {
        read_token(Path::new(path)).map_err(|error| format!(".agent_token_file {path:?} {}", chain(&error)))
    });
    let connect = limit(table, "connect_ms_max", CONNECT_MS_MAX, 10_000);
    let greeting = limit(table, "greeting_ms_max", GREETING_MS_MAX, 60_000);
    let encryption = desktop.as_ref().map_or(Ok(Encryption::None), |desktop| parse_encryption(table, desktop));
    let login = desktop.as_ref().map_or(Ok(None), |desktop| parse_login(table, desktop));
    match (desktop, encryption, agent_token, login, connect, greeting) {
        (Ok(desktop), Ok(encryption), Ok(agent_token), Ok(login), Ok(connect_ms_max), Ok(greeting_ms_max)) => {
            let machine = ExternalMachine {
                name: name.to_owned(),
                desktop_endpoint: desktop,
                encryption,
                agent_token,
                login,
                connect_ms_max,
                greeting_ms_max,
            };
            (errors.len() == errors_before).then_some(machine)
        }
        (desktop, encryption, agent_token, login, connect, greeting) => {
            let errors =
                [desktop.err(), encryption.err(), agent_token.err(), login.err(), connect.err(), greeting.err()];
            errors.into_iter().flatten().for_each(error);
            None
        }
    }
}

/// A limit in milliseconds, 10 to `max`. An error is a clause after the machine's name.
fn limit(table: &toml::Table, key: &str, default: u64, max: u64) -> Result<u64, String> {
    let Some(value) = table.get(key) else { return Ok(default) };
    match value.as_integer().map(u64::try_from) {
        Some(Ok(ms)) if (10..=max).contains(&ms) => Ok(ms),
        Some(_) | None => Err(format!(".{key} is {value}; it must be a whole number, 10 to {max}")),
    }
}

/// The text of a setting that must be set. An error is a clause after the machine's name.
fn required_text<'a>(table: &'a toml::Table, key: &str) -> Result<&'a str, String> {
    let value = table.get(key).ok_or_else(|| format!(".{key} is missing"))?;
    value.as_str().ok_or_else(|| format!(".{key} must be a string"))
}

/// The encryption of the connection to `desktop`. An error is a clause after the machine's name.
fn parse_encryption(table: &toml::Table, desktop: &DesktopEndpoint) -> Result<Encryption, String> {
    let allow_unencrypted = match table.get("allow_unencrypted") {
        None => false,
        Some(value) => value.as_bool().ok_or(".allow_unencrypted must be true or false")?,
    };
    let is_encrypted = desktop.scheme.is_encrypted();
    let trust = parse_trust(table)?;
    if !is_encrypted {
        return match trust {
            Some(_) => Err(".desktop is not encrypted: ca_file and certificate_sha256 are for wss://, vncs:// and \
                            vencrypt://"
                .to_owned()),
            None if desktop.is_on_this_host() || allow_unencrypted => Ok(Encryption::None),
            None => Err(".desktop is on another host and not encrypted; use wss://, vncs:// or vencrypt://, or set \
                         allow_unencrypted = true where the network between the hosts is trusted"
                .to_owned()),
        };
    }
    let tls = DesktopTls::new(&desktop.host, &trust.unwrap_or(Trust::SystemRoots)).map_err(|error| chain(&error))?;
    Ok(if desktop.scheme == EndpointScheme::Vencrypt { Encryption::Vencrypt(tls) } else { Encryption::Tls(tls) })
}

/// The certificates that the settings name; `None`: they name none.
fn parse_trust(table: &toml::Table) -> Result<Option<Trust>, String> {
    match (table.get("ca_file"), table.get("certificate_sha256")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(" has both ca_file and certificate_sha256; one of them is enough".to_owned()),
        (Some(toml::Value::String(path)), None) => Ok(Some(Trust::CaFile(path.into()))),
        (Some(_), None) => Err(".ca_file must be a string".to_owned()),
        (None, Some(value)) => {
            let sha256 = value.as_str().and_then(tls::parse_sha256);
            let sha256 = sha256.ok_or(".certificate_sha256 must have 64 hexadecimal digits, with or without colons")?;
            Ok(Some(Trust::Certificate(sha256)))
        }
    }
}

/// How this server signs in at the desktop. An error is a clause after the machine's name.
fn parse_login(table: &toml::Table, desktop: &DesktopEndpoint) -> Result<Option<DesktopLogin>, String> {
    let text = |key: &str| {
        let value = table.get(key).map(|value| value.as_str().ok_or_else(|| format!(".{key} must be a string")));
        value.transpose()
    };
    let user = text("user")?.map(str::to_owned);
    let Some(path) = text("password_file")? else {
        return if user.is_some() { Err(".user needs password_file".to_owned()) } else { Ok(None) };
    };
    if let Some(user) = &user {
        if !desktop.scheme.is_websocket() && desktop.scheme != EndpointScheme::Vencrypt {
            return Err(".user is for ws://, wss:// and vencrypt://; VNC authentication has no user".to_owned());
        }
        let is_valid = |c: char| !c.is_control() && c != ':';
        if user.is_empty() || user.len() > USER_BYTES_MAX || !user.chars().all(is_valid) {
            return Err(format!(".user must have 1 to {USER_BYTES_MAX} bytes, without colons"));
        }
    }
    let password = read_password(Path::new(path));
    let password = password.map_err(|error| format!(".password_file {path:?} {}", chain(&error)))?;
    Ok(Some(DesktopLogin { user, password }))
}

/// Why a file with a secret is not accepted. The sentence is a clause after the path.
#[derive(Debug, thiserror::Error)]
enum SecretFileError {
    #[error("cannot be read")]
    NotRead(#[from] io::Error),
    #[error("is not a file")]
    NotAFile,
    #[error("can be read by other users (mode {mode:04o}): set mode 600")]
    ReadableByOthers { mode: u32 },
    #[error("must contain one token of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} visible ASCII characters")]
    InvalidToken,
    #[error("must contain one line with a password of 1 to {PASSWORD_BYTES_MAX} bytes, as plain text")]
    InvalidPassword,
}

/// Reads at most `bytes_max` bytes of a text file that only its owner may read.
fn read_secret(path: &Path, bytes_max: usize) -> Result<Zeroizing<String>, SecretFileError> {
    match read_private_file(path, Readers::Owner, bytes_max as u64)? {
        PrivateFile::Text(text) => Ok(text),
        PrivateFile::NotAFile => Err(SecretFileError::NotAFile),
        PrivateFile::ReadableByOthers { mode } => Err(SecretFileError::ReadableByOthers { mode }),
    }
}

/// Reads the token file and returns the hash of the token.
fn read_token(path: &Path) -> Result<Sha256Hex, SecretFileError> {
    let text = read_secret(path, TOKEN_CHARS_MAX + 2)?;
    let token = text.trim_ascii_end();
    if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(SecretFileError::InvalidToken);
    }
    Ok(Sha256Hex::of_secret(&Secret::new(token.to_owned())))
}

/// Reads the password of a desktop: the file's only line.
fn read_password(path: &Path) -> Result<Secret, SecretFileError> {
    let text = read_secret(path, PASSWORD_BYTES_MAX + 2)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) || password.chars().any(char::is_control) {
        return Err(SecretFileError::InvalidPassword);
    }
    Ok(Secret::new(password.to_owned()))
}
