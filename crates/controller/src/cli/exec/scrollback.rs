//! What of a terminal's screen is new, for an output that is no terminal: lines as they appear, each once.

/// Looks at screens one after the other. A screen that scrolled goes on where the last one ended; one that was drawn anew goes on
/// where it begins to differ.
#[derive(Debug, Default)]
pub(super) struct Scroll {
    printed: Vec<String>,
}

impl Scroll {
    /// The lines of `screen` that were not there before. Of a screen that is not the last one, its last line may still grow: it is
    /// held back.
    pub(super) fn fresh(&mut self, mut screen: Vec<String>, is_final: bool) -> Vec<String> {
        if !is_final {
            screen.pop();
        }
        let known = self.known(&screen);
        let fresh = screen[known..].to_vec();
        // A look that shows less, such as a cleared screen, does not make the rest new.
        if !fresh.is_empty() || screen.is_empty() {
            self.printed = screen;
        }
        fresh
    }

    /// How many of the screen's first lines were printed before.
    fn known(&self, screen: &[String]) -> usize {
        let most = self.printed.len().min(screen.len());
        let scrolled = (1..=most).rev().find(|&count| self.printed[self.printed.len() - count..] == screen[..count]);
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
