//! Lines that a program broke within an address are made one again.
//!
//! A program that lays out its own lines breaks a long address at the last column (or a little before, where it keeps a margin), and
//! may indent what follows. A line that merely stands below a long address must not become part of it.

/// The widest right margin, columns.
const MARGIN_COLS_MAX: usize = 4;
/// No word of prose is as long.
const PROSE_CHARS_MAX: usize = 20;

/// The lines of a screen `width` columns wide, addresses in one piece.
pub(super) fn joined(lines: &[String], width: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    // The indentation of the address whose line is full, and whether it is to the last column.
    let mut open: Option<(usize, bool)> = None;
    for line in lines {
        let goes_on = open.is_some_and(|(indent, exact)| is_more(line, indent, exact));
        match out.last_mut() {
            Some(last) if goes_on => last.push_str(line.trim_start()),
            Some(_) | None => out.push(line.clone()),
        }
        let first_indent = open.filter(|_| goes_on).map_or_else(|| indent(line), |(indent, _)| indent);
        let in_address = out.last().is_some_and(|last| ends_in_address(last));
        open = (in_address && is_full(line, width)).then(|| (first_indent, line.chars().count() == width));
    }
    out
}

/// Whether a line reaches the last column, or the right margin.
pub(super) fn is_full(line: &str, width: usize) -> bool {
    let columns = line.chars().count();
    width > MARGIN_COLS_MAX * 4 && columns <= width && columns + MARGIN_COLS_MAX >= width
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).count()
}

fn ends_in_address(line: &str) -> bool {
    line.rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://"))
}

/// Whether `line` goes on with an address that was broken above it.
fn is_more(line: &str, indent_before: usize, exact: bool) -> bool {
    let content = line.trim_start();
    let mut words = content.split_whitespace();
    let Some(first) = words.next() else { return false };
    let alone = words.next().is_none();
    let begins_another = first.starts_with("http://") || first.starts_with("https://");
    let of_an_address = first.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
    // Words of prose have none of these within, and are not so long.
    let marked =
        first.len() >= PROSE_CHARS_MAX || first.bytes().any(|b| b.is_ascii_digit() || b"%=&/_?#+~".contains(&b));
    let indented_alike = indent(line) == 0 || indent(line) == indent_before;
    let likely = if exact { alone || marked } else { alone && marked };
    !begins_another && of_an_address && indented_alike && likely
}
