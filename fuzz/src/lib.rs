//! Properties that several fuzz targets check: each function panics where one does not hold.

use anteroom_wire::guest_text::is_shown_unchanged;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fmt::Debug;

/// Reads JSON. What was read must be written and read again as the same.
pub fn require_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("and read again"), value);
    Some(value)
}

/// No text of a guest's message moves a terminal or reorders a line.
pub fn require_clean<T: Serialize>(message: &T) {
    require_clean_texts(&serde_json::to_value(message).expect("it can be written"));
}

fn require_clean_texts(value: &Value) {
    match value {
        Value::String(text) => assert!(text.chars().all(is_shown_unchanged), "{text:?}"),
        Value::Array(values) => values.iter().for_each(require_clean_texts),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            assert!(name.chars().all(is_shown_unchanged), "{name:?}");
            require_clean_texts(value);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
