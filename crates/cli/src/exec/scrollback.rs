//! Finds the new lines of a terminal's screen for output that is not a terminal: each line is printed once.

/// Compares consecutive snapshots of a screen. After scrolling, new lines follow the old last line; after a redraw, they start
/// at the first difference.
#[derive(Debug, Default)]
pub(super) struct Scrollback {
    printed: Vec<String>,
}

impl Scrollback {
    /// Returns the lines of `screen` that were not printed before. Unless `is_final`, the last line is left out because it may
    /// be incomplete.
    pub(super) fn new_lines(&mut self, mut screen: Vec<String>, is_final: bool) -> Vec<String> {
        if !is_final {
            screen.pop();
        }
        let printed = self.printed_lines(&screen);
        let new_lines = screen[printed..].to_vec();
        // A shorter snapshot, such as a cleared screen, does not make the other lines new.
        if !new_lines.is_empty() || screen.is_empty() {
            self.printed = screen;
        }
        new_lines
    }

    /// Number of lines at the top of the screen that were printed before.
    fn printed_lines(&self, screen: &[String]) -> usize {
        let max = self.printed.len().min(screen.len());
        let scrolled = (1..=max).rev().find(|&count| self.printed[self.printed.len() - count..] == screen[..count]);
        let unchanged = || self.printed.iter().zip(screen).take_while(|(one, two)| one == two).count();
        scrolled.unwrap_or_else(unchanged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn each_line_is_printed_once_while_the_screen_fills_and_scrolls() {
        let mut scrollback = Scrollback::default();
        assert_eq!(scrollback.new_lines(lines("a b"), false), lines("a"));
        assert_eq!(scrollback.new_lines(lines("a b c"), false), lines("b"));
        assert_eq!(scrollback.new_lines(lines("a b c"), false), lines(""));
        assert_eq!(scrollback.new_lines(lines("b c d e"), false), lines("c d"), "scrolled by one");
        assert_eq!(scrollback.new_lines(lines("c d e f"), true), lines("e f"));
    }

    #[test]
    fn a_growing_line_is_printed_once_it_is_complete() {
        let mut scrollback = Scrollback::default();
        assert_eq!(scrollback.new_lines(lines("a 10%"), false), lines("a"));
        assert_eq!(scrollback.new_lines(lines("a 90%"), false), lines(""));
        assert_eq!(scrollback.new_lines(lines("a 100%"), true), lines("100%"));
    }

    #[test]
    fn a_redrawn_screen_continues_at_the_first_difference() {
        let mut scrollback = Scrollback::default();
        assert_eq!(scrollback.new_lines(lines("a b c x"), false), lines("a b c"));
        assert_eq!(scrollback.new_lines(lines("a z c x"), false), lines("z c"));
        assert_eq!(scrollback.new_lines(Vec::new(), false), lines(""), "cleared");
        assert_eq!(scrollback.new_lines(lines("n"), true), lines("n"));
    }
}
