//! A snapshot of the terminal's screen: its text, the hyperlinks in it (OSC 8, which tmux keeps from 3.4 on) and whether the cursor
//! has left the last line of text. tmux captures it with escape sequences, which are removed here.

/// The most hyperlinks of one snapshot.
const LINKS_MAX: usize = 64;

/// The screen at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScreenSnapshot {
    /// The visible lines without trailing blanks; lines that the terminal wrapped are joined.
    pub lines: Vec<String>,
    /// The lines above them that are not visible any more, oldest first: an address may begin there.
    pub above: Vec<String>,
    /// The targets of the hyperlinks on them, in order, each once.
    pub links: Vec<String>,
    /// Width in columns.
    pub width: usize,
    /// The cursor is on the last line of text or above it, so that line may be incomplete.
    pub cursor_in_text: bool,
}

impl ScreenSnapshot {
    /// From the output of `capture-pane -e -J` and the pane's width, height and cursor row as reported by tmux.
    pub fn new(captured: &[String], width: usize, height: usize, cursor_row: usize) -> Self {
        let mut links = Vec::new();
        let mut lines: Vec<String> = captured.iter().map(|line| plain(line, &mut links)).collect();
        let all = lines.len();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        // A line without text never wraps: counted from the end, lines are rows.
        let text_ends_at = height.saturating_sub(all - lines.len());
        Self { lines, above: Vec::new(), links, width, cursor_in_text: cursor_row < text_ends_at }
    }

    /// Adds the lines above the screen, from the output of `capture-pane -e -J`.
    #[must_use]
    pub fn with_lines_above(self, captured: &[String]) -> Self {
        let above = captured.iter().map(|line| plain(line, &mut Vec::new())).collect();
        Self { above, ..self }
    }

    /// The lines joined by line feeds, the form in which prompt rules match them.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// `line` without escape sequences, characters that have no width and trailing blanks; hyperlinks are added to `links`.
pub(crate) fn plain(line: &str, links: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                Some('[') => while rest.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {},
                Some(']') => {
                    let command = osc_command(&mut rest);
                    if let Some((_, target)) = command.strip_prefix("8;").and_then(|link| link.split_once(';')) {
                        add_link(links, target);
                    }
                }
                // A string for the terminal (DCS, SOS, PM, APC).
                Some('P' | 'X' | '^' | '_') => drop(osc_command(&mut rest)),
                // One of several intermediate characters and a final one.
                Some(' '..='/') => while rest.next().is_some_and(|c| (' '..='/').contains(&c)) {},
                Some(_) | None => {}
            },
            // Places where a line may be broken, and marks: programs put them into addresses.
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => {}
            // Shifts to and from the line-drawing characters.
            '\x0e' | '\x0f' => {}
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The content of an operating-system command (OSC) up to its end (BEL or ST).
fn osc_command(rest: &mut std::str::Chars<'_>) -> String {
    let mut out = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\x07' => break,
            '\x1b' => {
                rest.next();
                break;
            }
            c => out.push(c),
        }
    }
    out
}

fn add_link(links: &mut Vec<String>, link: &str) {
    if !link.is_empty() && links.len() < LINKS_MAX && !links.iter().any(|known| known == link) {
        links.push(link.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(captured: &[&str], height: usize, cursor_row: usize) -> ScreenSnapshot {
        let captured: Vec<String> = captured.iter().map(|&line| line.to_owned()).collect();
        ScreenSnapshot::new(&captured, 80, height, cursor_row)
    }

    #[test]
    fn hyperlinks_from_tmux_3_5a_are_found_and_removed_from_the_text() {
        let captured = [
            "see \x1b]8;;https://a.example/long?x=1\x1b\\the \x1b[31mlink\x1b[39m\x1b]8;;\x1b\\ ok   ",
            "\x1b]8;id=7;https://b.example/kk\x1b\\https://b.example/\x1b]8;;\x1b\\kk",
            "\x1b[1m\x1b[38;2;1;2;3m\x0elqk\x0f\x1b[0m end",
            "again \x1b]8;;https://a.example/long?x=1\x07this\x1b]8;;\x07",
            "",
        ];
        let snapshot = snapshot(&captured, 6, 4);
        assert_eq!(snapshot.lines, ["see the link ok", "https://b.example/kk", "lqk end", "again this"]);
        assert_eq!(snapshot.links, ["https://a.example/long?x=1", "https://b.example/kk"]);
    }

    #[test]
    fn an_incomplete_escape_sequence_ends_with_its_line() {
        assert_eq!(snapshot(&["a\x1b[31", "b\x1b]8;;https://x", "c\x1b"], 3, 2).lines, ["a", "b", "c"]);
    }

    #[test]
    fn the_cursor_is_in_the_text_until_the_line_is_finished() {
        // Rows: a wrapped line over two of them, a short one, two empty ones.
        let captured = ["x".repeat(100), "y".into(), String::new(), String::new()];
        let captured: Vec<&str> = captured.iter().map(String::as_str).collect();
        assert!(snapshot(&captured, 5, 2).cursor_in_text, "after the y");
        assert!(!snapshot(&captured, 5, 3).cursor_in_text, "at the start of the next line");
        assert!(snapshot(&captured, 5, 0).cursor_in_text);
        assert!(!snapshot(&["", ""], 2, 0).cursor_in_text, "no text");
        assert!(snapshot(&["a", "b"], 2, 1).cursor_in_text, "a full screen");
    }
}
