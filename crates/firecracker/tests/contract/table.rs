//! `fields.txt`: what Firecracker's API description defines of the fields that the client uses.

use anteroom_firecracker::{Operation, Version};
use serde_json::Value;

/// A version of the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Description {
    V1_12,
    V1_16,
}

impl Description {
    /// The description of `version`, which is a 1.12 or a 1.16.
    pub(crate) fn of(version: Version) -> Self {
        match version.minor {
            12 => Self::V1_12,
            16 => Self::V1_16,
            _ => panic!("the table does not have {version}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
    Absent,
}

#[derive(Debug)]
struct Field {
    operation: Operation,
    is_sent: bool,
    definition: &'static str,
    /// `-`: the definition has no field that is used.
    name: &'static str,
    presence: [Presence; 2],
    kind: String,
}

impl Field {
    fn parse(line: &'static str) -> Self {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("{line:?} is too short"));
        let operation = format!("{} {}", word(), word());
        let operation = Operation::ALL.into_iter().find(|known| known.to_string() == operation);
        let is_sent = word() == ">";
        let (definition, name) = (word(), word());
        let mut presence = || match word() {
            "required" => Presence::Required,
            "optional" => Presence::Optional,
            "-" => Presence::Absent,
            other => panic!("{other:?} in {line:?}"),
        };
        let presence = [presence(), presence()];
        let operation = operation.unwrap_or_else(|| panic!("{line:?} is about no operation of the client"));
        Self { operation, is_sent, definition, name, presence, kind: words.collect::<Vec<_>>().join(" ") }
    }

    fn presence(&self, description: Description) -> Presence {
        match description {
            Description::V1_12 => self.presence[0],
            Description::V1_16 => self.presence[1],
        }
    }
}

/// The table.
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    pub(crate) fn read() -> Self {
        let lines = include_str!("fields.txt").lines().filter(|line| !line.starts_with('#'));
        let fields: Vec<Field> = lines.map(Field::parse).collect();
        for operation in Operation::ALL {
            assert!(fields.iter().any(|field| field.operation == operation), "{operation} is not in the table");
        }
        Self(fields)
    }

    /// Whether `description` has the operation.
    pub(crate) fn has(&self, operation: Operation, description: Description) -> bool {
        let mut fields = self.0.iter().filter(|field| field.operation == operation);
        fields.any(|field| field.presence(description) != Presence::Absent)
    }

    /// Checks a body that the client sent.
    pub(crate) fn check_sent(&self, operation: Operation, body: Option<&Value>, description: Description) {
        let definition = self.0.iter().find(|field| field.operation == operation && field.is_sent);
        match (definition, body) {
            (None, None) => {}
            (Some(field), Some(body)) => self.check_object(operation, field.definition, body, description),
            (None, Some(_)) | (Some(_), None) => panic!("{operation} with {body:?} is not in the table"),
        }
    }

    fn check_object(&self, operation: Operation, definition: &str, value: &Value, description: Description) {
        let Value::Object(object) = value else { panic!("{operation}: {value} is not a {definition}") };
        let fields: Vec<&Field> = self
            .0
            .iter()
            .filter(|field| field.operation == operation && field.definition == definition && field.name != "-")
            .collect();
        for name in object.keys() {
            assert!(fields.iter().any(|field| field.name == name), "{operation}: {definition} has no field {name}");
        }
        for field in fields {
            let sent = object.get(field.name);
            match (sent, field.presence(description)) {
                (Some(value), Presence::Required | Presence::Optional) => self.check_value(field, value, description),
                (None, Presence::Optional | Presence::Absent) => {}
                (Some(_), Presence::Absent) => {
                    panic!("{operation}: {description:?} has no {definition}.{}", field.name)
                }
                (None, Presence::Required) => panic!("{operation}: {description:?} needs {definition}.{}", field.name),
            }
        }
    }

    fn check_value(&self, field: &Field, value: &Value, description: Description) {
        let is_valid = match field.kind.split_once(' ') {
            Some(("enum", values)) => values.split('|').any(|one| value == one),
            Some(("object", definition)) => {
                self.check_object(field.operation, definition, value, description);
                true
            }
            Some(_) => false,
            None => match field.kind.as_str() {
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                "boolean" => value.is_boolean(),
                _ => false,
            },
        };
        assert!(is_valid, "{}: {} is {value}, not {}", field.operation, field.name, field.kind);
    }
}
