//! Screens as files: what a tool shows at a step, kept so that a change is seen, and so that prompt rules can be tried
//! on them without the tool. Values that differ each time keep their length and lose their content.

use anyhow::{Context, ensure};
use regex_lite::{Captures, Regex};
use std::{env, fs, path::Path};

/// Set: screens are written, not compared.
pub(super) const WRITE: &str = "ANTEROOM_WRITE_SCREENS";

/// Patterns of what differs each time; group 1 is filled with one letter.
const VARIES: [&str; 8] = [
    // In two passes where the program broke the line in the middle.
    r"[?&](?:state|code_challenge)=([A-Za-z0-9_-]+)",
    r"[?&](?:state|code_challenge)=x+\n *([A-Za-z0-9_-]+)&",
    r"(?:localhost|127\.0\.0\.1)%3A([0-9]+)",
    r"authorize\?[A-Za-z]{1,2}-?([A-Za-z0-9_-]{42,44})",
    r"sk-ant-[a-z]+01-([0-9a-f]+)",
    r"([0-9a-f]{32}#[A-Za-z0-9_-]{43})",
    r"4/0A([0-9a-f]{48})",
    r"([⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏])",
];

/// The screen without what differs each time.
pub fn masked(screen: &str) -> String {
    let mut text = screen.to_owned();
    for pattern in VARIES {
        let Ok(pattern) = Regex::new(pattern) else { continue };
        let fill = |found: &Captures<'_>| {
            let whole = found.get(0).map(|whole| (whole.as_str(), whole.start()));
            let part = found.get(1).map(|part| (part.as_str(), part.start()));
            let (Some((whole, from)), Some((part, at))) = (whole, part) else { return String::new() };
            let letter = if part.chars().all(|c| c.is_ascii_digit()) { "1" } else { "x" };
            let end = at - from + part.len();
            format!("{}{}{}", &whole[..at - from], letter.repeat(part.chars().count()), &whole[end..])
        };
        text = pattern.replace_all(&text, fill).into_owned();
    }
    text
}

/// Compares a screen with the kept one, `fixtures/screens/WHOSE/NAME.txt`, or keeps it when [`WRITE`] is set.
///
/// # Errors
/// There is none, or it differs: the text names both.
pub fn kept(whose: &str, name: &str, screen: &str) -> anyhow::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/screens").join(whose);
    let path = dir.join(format!("{name}.txt"));
    let now = format!("{}\n", masked(screen));
    if env::var_os(WRITE).is_some() {
        fs::create_dir_all(&dir)?;
        return Ok(fs::write(path, now)?);
    }
    let then = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(now == then, "{} shows another screen.\nNow:\n{now}\nKept:\n{then}", path.display());
    Ok(())
}
