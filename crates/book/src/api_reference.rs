//! Fills the chapter of the API: every request, its parameters, its body, its answers, and the fields of all objects, from the OpenAPI
//! document.

use anyhow::{Context, Result};
use mdbook_preprocessor::{Preprocessor, PreprocessorContext, book::Book};
use serde_json::{Map, Value};
use std::{fmt::Write as _, fs, path::Path};

/// The chapter to fill, below the directory of the documents.
const CHAPTER: &str = "api_reference.md";
/// The document, below the repository.
const OPENAPI: &str = "web/openapi.json";

/// Appends the reference to its chapter.
pub(crate) struct ApiReference;

impl Preprocessor for ApiReference {
    fn name(&self) -> &'static str {
        "api-reference"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let text =
            fs::read_to_string(context.root.join(OPENAPI)).with_context(|| format!("{OPENAPI} cannot be read"))?;
        let document: Value = serde_json::from_str(&text).with_context(|| format!("{OPENAPI} is not JSON"))?;
        let reference = reference_of(&document)?;
        book.for_each_chapter_mut(|chapter| {
            if chapter.path.as_deref() == Some(Path::new(CHAPTER)) {
                chapter.content.push_str(&reference);
            }
        });
        Ok(book)
    }
}

fn reference_of(document: &Value) -> Result<String> {
    let mut text = String::new();
    for (path, item) in object(document, "paths").context("the document has no paths")? {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if operation.get("responses").is_some() {
                operation_in(&mut text, document, &format!("{} {path}", method.to_uppercase()), operation)?;
            }
        }
    }
    writeln!(text, "\n## Objects")?;
    let schemas =
        document.get("components").and_then(|all| object(all, "schemas")).context("the document has no schemas")?;
    for (name, schema) in schemas {
        schema_in(&mut text, name, schema)?;
    }
    Ok(text)
}

fn operation_in(text: &mut String, document: &Value, name: &str, operation: &Value) -> Result<()> {
    writeln!(text, "\n## {name}\n")?;
    if operation.get("deprecated") == Some(&Value::Bool(true)) {
        writeln!(text, "**Deprecated.**")?;
    }
    for part in ["summary", "description"] {
        if let Some(words) = string(operation, part) {
            writeln!(text, "{words}\n")?;
        }
    }
    let parameters: Vec<&Value> = operation.get("parameters").and_then(Value::as_array).into_iter().flatten().collect();
    if !parameters.is_empty() {
        writeln!(text, "| parameter | in | type | |\n|---|---|---|---|")?;
        for parameter in parameters {
            let parameter = shared(document, parameter);
            let kind = parameter.get("schema").map(type_of).unwrap_or_default();
            let (name, place) =
                (string(parameter, "name").unwrap_or_default(), string(parameter, "in").unwrap_or_default());
            writeln!(text, "| `{name}` | {place} | {kind} | {} |", cell(string(parameter, "description")))?;
        }
        writeln!(text)?;
    }
    if let Some(body) = operation.get("requestBody") {
        writeln!(text, "Body: {}\n", content_of(body))?;
    }
    writeln!(text, "| status | answer | |\n|---|---|---|")?;
    for (status, response) in object(operation, "responses").into_iter().flatten() {
        let response = shared(document, response);
        writeln!(text, "| {status} | {} | {} |", content_of(response), cell(string(response, "description")))?;
    }
    Ok(())
}

fn schema_in(text: &mut String, name: &str, schema: &Value) -> Result<()> {
    writeln!(text, "\n### {name}\n")?;
    if let Some(words) = string(schema, "description") {
        writeln!(text, "{words}\n")?;
    }
    let Some(properties) = object(schema, "properties") else {
        writeln!(text, "{}", type_of(schema))?;
        return Ok(());
    };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    writeln!(text, "| field | type | |\n|---|---|---|")?;
    for (field, value) in properties {
        let mark = if required.contains(&field.as_str()) { "" } else { "?" };
        writeln!(text, "| `{field}`{mark} | {} | {} |", type_of(value), cell(string(value, "description")))?;
    }
    Ok(())
}

/// What a reference to a shared part of the document (`#/components/…`) names; anything else as it is.
fn shared<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let target = string(part, "$ref").and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| document.pointer(pointer)).unwrap_or(part)
}

/// The media types of a body or response, each with its type.
fn content_of(holder: &Value) -> String {
    let types = object(holder, "content").into_iter().flatten().map(|(media, content)| {
        let kind = content.get("schema").map(type_of).unwrap_or_default();
        if media == "application/json" { kind } else { format!("{kind} (`{media}`)") }
    });
    types.collect::<Vec<_>>().join(" or ")
}

/// A schema in a few words; a named one is a link.
fn type_of(schema: &Value) -> String {
    if let Some(name) = string(schema, "$ref").and_then(|reference| reference.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or("null")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", value.as_str().unwrap_or_default());
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema.get(choice).and_then(Value::as_array) {
            return parts.iter().map(type_of).collect::<Vec<_>>().join(" or ");
        }
    }
    let named = match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "any value".to_owned(),
    };
    match (schema.get("items"), schema.get("additionalProperties"), string(schema, "format")) {
        (Some(items), _, _) => named.replace("array", &format!("list of {}", type_of(items))),
        (_, Some(values @ Value::Object(_)), _) => format!("object of {}", type_of(values)),
        (_, _, Some(format)) => format!("{named} ({format})"),
        _ => named,
    }
}

/// A description as one cell of a table.
fn cell(description: Option<&str>) -> String {
    description.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn string<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn object<'a>(value: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    value.get(key).and_then(Value::as_object)
}
