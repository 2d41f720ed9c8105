//! What the terminal of standard output can do.

use anteroom_wire::guest_text::clean_line;
use rustix::termios::tcgetwinsize;
use std::io::IsTerminal;

/// Columns of a terminal that does not say how many it has.
const COLUMNS_DEFAULT: u16 = 80;

/// Columns and rows of the terminal; `None`: standard output is no terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(&stdout).ok().filter(|size| size.ws_col > 0);
    Some(size.map_or((COLUMNS_DEFAULT, 24), |size| (size.ws_col, size.ws_row)))
}

/// Columns of the terminal; `None`: standard output is no terminal.
pub(super) fn width() -> Option<usize> {
    size().map(|(columns, _)| usize::from(columns))
}

/// A link that a click opens, also where it is broken over lines (OSC 8); the plain address elsewhere. Other characters than those of an
/// address are removed.
pub(super) fn link(url: &str) -> String {
    let url = clean_line(url, usize::MAX);
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if is_web && size().is_some() && shows_links(|name| std::env::var(name).ok()) {
        format!("\u{1b}]8;;{url}\u{1b}\\{url}\u{1b}]8;;\u{1b}\\")
    } else {
        url
    }
}

/// Whether the terminal is known to support OSC 8. Others may print it as text.
fn shows_links(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let is_one_of = |name: &str, values: &[&str]| variable(name).is_some_and(|value| values.contains(&value.as_str()));
    if let Some(forced) = variable("FORCE_HYPERLINK") {
        return forced != "0";
    }
    if is_one_of("TERM", &["dumb", "linux"]) {
        return false;
    }
    variable("VTE_VERSION").and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version >= 5_000)
        || ["WT_SESSION", "KONSOLE_VERSION", "DOMTERM", "KITTY_WINDOW_ID", "WEZTERM_PANE"].into_iter().any(is_set)
        || is_one_of("TERM_PROGRAM", &["iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "Tabby", "rio"])
        || is_one_of("TERM", &["xterm-kitty", "alacritty", "foot", "foot-extra", "xterm-ghostty", "contour"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_shown_only_by_terminals_that_are_known_to_support_them() {
        for (variables, expected) in [
            (&[][..], false),
            (&[("TERM", "xterm-256color")], false),
            (&[("VTE_VERSION", "7006")], true),
            (&[("VTE_VERSION", "4600")], false),
            (&[("TERM", "foot")], true),
            (&[("TERM_PROGRAM", "vscode")], true),
            (&[("TERM_PROGRAM", "vscode"), ("FORCE_HYPERLINK", "0")], false),
            (&[("FORCE_HYPERLINK", "1")], true),
            (&[("TERM", "dumb"), ("KONSOLE_VERSION", "1")], false),
        ] {
            let find =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(shows_links(find), expected, "{variables:?}");
        }
    }
}
