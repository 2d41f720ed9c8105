//! Locates a key of a descriptor in its text and in its parsed table.

use toml::{
    Value,
    de::{DeTable, DeValue},
};

/// The path `a.b[2].c` of these keys and indices.
pub(super) fn join_key_path(steps: &[String]) -> String {
    let mut path = String::new();
    for step in steps {
        let is_index = step.bytes().all(|byte| byte.is_ascii_digit());
        let text = if is_index { format!("[{step}]") } else { format!(".{step}") };
        path.push_str(&text);
    }
    path.trim_start_matches('.').to_owned()
}

/// The parts of `a.b[2].c`.
fn parts(path: &str) -> Vec<String> {
    let dotted = path.replace('[', ".").replace(']', "");
    dotted.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The byte offset of the key, or of its nearest ancestor in the text, and the number of steps to it.
pub(super) fn find_key(text: &str, path: &str) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let mut at = None;
    let mut table = Some(document.get_ref());
    let mut value: Option<&DeValue<'_>> = None;
    for (depth, part) in (1..).zip(parts(path)) {
        if let Some((key, found)) = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == part.as_str()))
        {
            // The key of an inner table can be part of a header above: then a key inside the table has the line.
            at = Some((key.span().start, depth));
            value = Some(found.get_ref());
        } else if let Some(item) =
            value.and_then(DeValue::as_array).and_then(|list| list.get(part.parse::<usize>().ok()?))
        {
            at = Some((item.span().start, depth));
            value = Some(item.get_ref());
        } else {
            break;
        }
        table = value.and_then(DeValue::as_table);
    }
    at
}

/// How many steps of the path an override contains; `usize::MAX` if it replaces an ancestor of the key.
pub(super) fn override_depth(change: &toml::Table, path: &str) -> Option<usize> {
    let parts = parts(path);
    let mut table = change;
    for (depth, part) in parts.iter().enumerate() {
        match table.get(part) {
            Some(Value::Table(inner)) => table = inner,
            Some(_) => return Some(usize::MAX),
            None => return (depth > 0).then_some(depth),
        }
    }
    Some(parts.len()).filter(|depth| *depth > 0)
}

/// The table at the end of these steps.
pub(super) fn table_at<'a>(table: &'a mut toml::Table, steps: &[String]) -> Option<&'a mut toml::Table> {
    let [first, rest @ ..] = steps else { return Some(table) };
    let mut value = table.get_mut(first)?;
    for step in rest {
        value = if value.is_table() {
            value.as_table_mut()?.get_mut(step)?
        } else {
            value.as_array_mut()?.get_mut(step.parse::<usize>().ok()?)?
        };
    }
    value.as_table_mut()
}

/// Removes the value that cannot be deserialized and returns the steps to it. Of a list, the whole list is removed, so that the
/// indices of its other items stay correct.
pub(super) fn remove_at<'a>(table: &mut toml::Table, steps: &'a [String]) -> Option<&'a [String]> {
    (1..=steps.len()).rev().find_map(|count| {
        let (last, parents) = steps[..count].split_last()?;
        table_at(table, parents)?.remove(last)?;
        Some(&steps[..count])
    })
}

/// The line of a byte offset, from 1.
pub(super) fn line_at_offset(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}
