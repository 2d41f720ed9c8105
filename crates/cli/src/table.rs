//! Tables that fit the terminal without breaking a word: in columns; with wrapped cells; or, if even that is too wide, one block for each row.
//! Without a terminal a row is always one line, for programs.

use super::{output::one_line, terminal};
use std::fmt;
use unicode_width::UnicodeWidthStr;

/// Columns between two cells.
const GAP: usize = 2;

/// Rows under a header.
#[derive(Debug, Default)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these names of columns.
    pub(super) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).into(), rows: Vec::new() }
    }

    /// A table of names and values, without a header.
    pub(super) fn of_values() -> Self {
        Self::default()
    }

    /// Adds a row. A cell may have several lines.
    pub(super) fn add_row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| cell.lines().map(one_line).collect::<Vec<_>>().join("\n")).into());
    }

    /// The text for a terminal of this width, columns; `None`: no terminal.
    fn render(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).chain([self.header.len()]).max().unwrap_or_default();
        let cells = |column: usize| {
            self.rows.iter().chain([&self.header]).filter_map(move |row| row.get(column)).map(String::as_str)
        };
        let widest = |parts: fn(&str) -> usize| -> Vec<usize> {
            (0..columns).map(|column| cells(column).map(parts).max().unwrap_or_default()).collect()
        };
        let natural = widest(|cell| cell.lines().map(UnicodeWidthStr::width).max().unwrap_or_default());
        let least = widest(|cell| cell.split_whitespace().map(UnicodeWidthStr::width).max().unwrap_or_default());
        let gaps = GAP * columns.saturating_sub(1);
        match width {
            Some(width) if least.iter().sum::<usize>() + gaps > width => self.blocks(width),
            Some(width) => self.columns(&fitted(&natural, &least, width - gaps)),
            None => self.columns(&natural),
        }
    }

    fn columns(&self, widths: &[usize]) -> String {
        let mut text = String::new();
        let header = (!self.header.is_empty()).then_some(&self.header);
        for row in header.into_iter().chain(&self.rows) {
            let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
            for line in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
                let mut out = String::new();
                for (cell, width) in cells.iter().zip(widths) {
                    let part = cell.get(line).map_or("", String::as_str);
                    out.push_str(part);
                    out.push_str(&" ".repeat(width + GAP - part.width().min(width + GAP)));
                }
                text.push_str(out.trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// One block for each row: a line with its name for each cell that is not empty.
    fn blocks(&self, width: usize) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                let (name, indent) = match self.header.get(column).filter(|name| !name.is_empty()) {
                    Some(name) => (format!("{name}: "), "  "),
                    None if column == 0 => (String::new(), ""),
                    None => (String::new(), "  "),
                };
                for (number, line) in wrap(&format!("{name}{cell}"), width.saturating_sub(2)).iter().enumerate() {
                    let indent = if number == 0 && self.header.is_empty() && column > 0 {
                        "  "
                    } else if number > 0 {
                        indent
                    } else {
                        ""
                    };
                    text.push_str(&format!("{indent}{line}\n"));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Without a line break at the end.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(terminal::width()).trim_end())
    }
}

/// Widths between `least` and `natural` whose sum is at most `total`: what is left goes to the columns that need least more.
fn fitted(natural: &[usize], least: &[usize], total: usize) -> Vec<usize> {
    let mut widths = least.to_vec();
    let mut left = total.saturating_sub(widths.iter().sum());
    let mut by_need: Vec<usize> = (0..natural.len()).collect();
    by_need.sort_by_key(|column| natural[*column] - least[*column]);
    for (number, column) in by_need.iter().enumerate() {
        let share = left / (natural.len() - number);
        let more = (natural[*column] - least[*column]).min(share);
        widths[*column] += more;
        left -= more;
    }
    widths
}

/// Breaks a text between words into lines of at most `width` columns; a longer word gets a line of its own. A line that continues
/// another one begins as far right, and spaces within a line stay.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    text.split('\n').flat_map(|line| wrap_line(line, width)).collect()
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    if line.width() <= width {
        return vec![line.to_owned()];
    }
    let indent = &line[..line.len() - line.trim_start().len()];
    let (mut lines, mut open) = (Vec::new(), String::new());
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.find(|char: char| !char.is_whitespace()).unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace).map_or(rest.len(), |end| word + end);
        if open.width() + rest[..end].width() > width && !open.trim().is_empty() {
            lines.push(std::mem::replace(&mut open, indent.to_owned()));
            open.push_str(&rest[word..end]);
        } else {
            open.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    lines.push(open);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ses_0123456789abcdefghjkmnpqrs";

    fn table() -> Table {
        let mut table = Table::new(["session", "tool", "status", "started", "reason"]);
        for tool in ["Demo", "Claude Code"] {
            let reason = "The session was idle for too long. Start a new session when you are ready.";
            table.add_row([ID, tool, "vm_started", "3 min ago", reason].map(str::to_owned));
        }
        table
    }

    #[test]
    fn tables_fit_60_and_200_columns_without_breaking_a_word() {
        let words: Vec<String> = table()
            .rows
            .concat()
            .iter()
            .flat_map(|cell| cell.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        for width in [40, 60, 80, 120, 200] {
            let text = table().render(Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
            let printed: Vec<&str> = text.split_whitespace().collect();
            assert!(words.iter().all(|word| printed.contains(&word.as_str())), "{width}:\n{text}");
        }
        assert!(table().render(Some(60)).contains("tool: Claude Code\n"), "blocks");
        assert_eq!(table().render(Some(200)).lines().count(), 3, "columns");
    }

    #[test]
    fn a_row_is_one_line_without_a_terminal() {
        let text = table().render(None);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(2).unwrap().ends_with("when you are ready."));
    }

    #[test]
    fn a_word_that_is_wider_than_the_terminal_is_left_whole() {
        let mut values = Table::of_values();
        values.add_row(["policy".to_owned(), "Stored until it is deleted.".to_owned()]);
        values.add_row(["link".to_owned(), format!("https://anteroom.example/{ID}")]);
        let text = values.render(Some(30));
        assert!(text.contains(&format!("https://anteroom.example/{ID}\n")), "{text}");
        assert!(text.contains("policy\n"), "{text}");
    }

    #[test]
    fn a_wrapped_line_keeps_its_indent_and_its_spaces() {
        assert_eq!(wrap("  ok    name  and more of it", 14), ["  ok    name", "  and more of", "  it"]);
        assert_eq!(wrap("short", 3), ["short"]);
        assert_eq!(wrap("a\n\nb", 10), ["a", "", "b"]);
    }

    #[test]
    fn control_characters_of_a_cell_are_not_printed() {
        let mut table = Table::new(["a"]);
        table.add_row(["x\u{1b}[2J".to_owned()]);
        assert!(!table.render(Some(80)).contains('\u{1b}'));
    }
}
