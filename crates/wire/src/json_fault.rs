//! What is wrong with JSON. No value is quoted: it may be secret.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// The longest text of serde in a description, bytes. It may quote a key, which may be as long as the text.
const TEXT_BYTES_MAX: usize = 400;

/// What is wrong with `json`, which is not a `T` for this reason: the field, what it must be, the position.
pub fn describe<T: DeserializeOwned>(json: &[u8], error: &serde_json::Error) -> String {
    let position = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Data => describe_value(path_of::<T>(json).as_deref(), &error.to_string(), &position),
        Category::Syntax => format!("invalid JSON at {position}"),
        Category::Eof | Category::Io => format!("the JSON is incomplete at {position}"),
    }
}

fn describe_value(path: Option<&str>, text: &str, position: &str) -> String {
    // "unknown field `x`, expected …" and "missing field `x`" name keys, which are not secret.
    if (text.starts_with("unknown field") || text.starts_with("missing field")) && text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    // What is before the last one may be the value.
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| in_words_of_json(expected));
    match (path, expected.filter(|expected| expected.len() <= TEXT_BYTES_MAX)) {
        (Some(path), Some(expected)) => format!("{path}: expected {expected}, at {position}"),
        (Some(path), None) => format!("{path}: a value that is not accepted, at {position}"),
        (None, Some(expected)) => format!("expected {expected}, at {position}"),
        (None, None) => format!("a value of the wrong type at {position}"),
    }
}

/// What serde expects, in the words of JSON.
fn in_words_of_json(expected: &str) -> &str {
    match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

/// The field that is wrong, such as `tty.cols` or `argv[1]`; `None`: all of it.
fn path_of<T: DeserializeOwned>(json: &[u8]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let error = serde_path_to_error::deserialize::<_, T>(&mut json).err()?;
    let path = error.path().to_string();
    (path != "." && path.len() <= TEXT_BYTES_MAX).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::CredentialUseRequest, api::StartRequest, exec::ExecStart};

    fn fault<T: DeserializeOwned>(json: &str) -> String {
        let Err(error) = serde_json::from_str::<T>(json) else { panic!("{json} is valid") };
        describe::<T>(json.as_bytes(), &error)
    }

    #[test]
    fn field_and_what_it_must_be_are_named_and_no_value_is_quoted() {
        for (text, expected) in [
            (
                fault::<StartRequest>(r#"{"provider": "demo", "user_id": 17}"#),
                "user_id: expected a string, at line 1, column 34",
            ),
            (
                fault::<StartRequest>(r#"{"provider": "demo", "settings": {"a": 1}}"#),
                "settings.a: expected a string, at line 1",
            ),
            (
                fault::<CredentialUseRequest>(r#"{"purpose": "exec", "argv": "ls"}"#),
                "argv: expected an array, at line 1",
            ),
            (
                fault::<CredentialUseRequest>(r#"{"purpose": "exec", "argv": ["ls", 1]}"#),
                "argv[1]: expected a string, at line 1",
            ),
            (
                fault::<CredentialUseRequest>(r#"{"purpose": "s3cret"}"#),
                "purpose: expected one of `exec`, `check`, `logout`, at line 1",
            ),
            (fault::<ExecStart>(r#"{"argv": [], "tty": true}"#), "tty: expected an object, at line 1"),
            (fault::<ExecStart>(r#"["#), "the JSON is incomplete at line 1"),
            (fault::<StartRequest>(r#""s3cret, expected s3cret""#), "expected an object, at line 1"),
            (fault::<StartRequest>(r#"{"shell": 1}"#), "unknown field `shell`"),
        ] {
            assert!(text.starts_with(expected) && !text.contains("s3cret"), "{text}");
        }
    }
}
