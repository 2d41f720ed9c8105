//! Joins the lines that a program broke within an address.
//!
//! A program that does its layout itself breaks a long address at the last column (or a few columns before it, if it keeps a margin), and
//! may indent the continuation. A line that is merely below a long address must not become part of it.

/// The widest right margin, columns.
const MARGIN_COLS_MAX: usize = 4;
/// A word of at least this length is not prose.
const PROSE_CHARS_MAX: usize = 20;

/// The lines of a screen `width` columns wide, with broken addresses joined.
pub(super) fn join_wrapped_lines(lines: &[String], width: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    // The indentation of the address whose line is full, and whether it reaches the last column exactly.
    let mut open: Option<(usize, bool)> = None;
    for line in lines {
        let continues = open.is_some_and(|(indent, exact)| is_continuation(line, indent, exact));
        match out.last_mut() {
            Some(last) if continues => last.push_str(line.trim_start()),
            Some(_) | None => out.push(line.clone()),
        }
        let first_indent = open.filter(|_| continues).map_or_else(|| indent(line), |(indent, _)| indent);
        let in_address = out.last().is_some_and(|last| ends_in_address(last));
        open = (in_address && is_full_line(line, width)).then(|| (first_indent, line.chars().count() == width));
    }
    out
}

/// Whether a line reaches the last column, or the right margin.
pub(super) fn is_full_line(line: &str, width: usize) -> bool {
    let columns = line.chars().count();
    width > MARGIN_COLS_MAX * 4 && columns <= width && columns + MARGIN_COLS_MAX >= width
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).count()
}

fn ends_in_address(line: &str) -> bool {
    line.rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://"))
}

/// Whether `line` continues an address that was broken on the line above it.
fn is_continuation(line: &str, indent_before: usize, exact: bool) -> bool {
    let content = line.trim_start();
    let mut words = content.split_whitespace();
    let Some(first) = words.next() else { return false };
    let alone = words.next().is_none();
    let begins_another = first.starts_with("http://") || first.starts_with("https://");
    let of_an_address = first.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
    // Words of prose contain none of these characters and are shorter.
    let marked =
        first.len() >= PROSE_CHARS_MAX || first.bytes().any(|b| b.is_ascii_digit() || b"%=&/_?#+~".contains(&b));
    let indented_alike = indent(line) == 0 || indent(line) == indent_before;
    let likely = if exact { alone || marked } else { alone && marked };
    !begins_another && of_an_address && indented_alike && likely
}
