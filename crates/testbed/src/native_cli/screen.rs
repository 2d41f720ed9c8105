//! Expected screens of a tool as files: tests detect changes of the tool, and prompt rules are tested without it. Values that differ
//! in each run are masked; they keep their length.

use anyhow::{Context, ensure};
use regex_lite::{Captures, Regex};
use std::{env, fs, path::Path};

/// When this environment variable is set, screens are written instead of compared.
pub(super) const WRITE_SCREENS_VARIABLE: &str = "ANTEROOM_WRITE_SCREENS";

/// Patterns of values that differ in each run. Group 1 is replaced by one repeated letter.
const VARYING: [&str; 8] = [
    // Two patterns, because the program may break the line in the middle of the value.
    r"[?&](?:state|code_challenge)=([A-Za-z0-9_-]+)",
    r"[?&](?:state|code_challenge)=x+\n *([A-Za-z0-9_-]+)&",
    r"(?:localhost|127\.0\.0\.1)%3A([0-9]+)",
    r"authorize\?[A-Za-z]{1,2}-?([A-Za-z0-9_-]{42,44})",
    r"sk-ant-[a-z]+01-([0-9a-f]+)",
    r"([0-9a-f]{32}#[A-Za-z0-9_-]{43})",
    r"4/0A([0-9a-f]{48})",
    r"([⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏])",
];

/// The screen with the values masked that differ in each run.
pub fn mask_screen(screen: &str) -> String {
    let mut text = screen.to_owned();
    for pattern in VARYING {
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

/// Compares a screen with the file `fixtures/screens/TOOL/NAME.txt`, or writes that file when [`WRITE_SCREENS_VARIABLE`] is set.
///
/// # Errors
/// There is no such file, or it differs: the text contains both.
pub fn check_screen(tool: &str, name: &str, screen: &str) -> anyhow::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/screens").join(tool);
    let path = dir.join(format!("{name}.txt"));
    let actual = format!("{}\n", mask_screen(screen));
    if env::var_os(WRITE_SCREENS_VARIABLE).is_some() {
        fs::create_dir_all(&dir)?;
        return Ok(fs::write(path, actual)?);
    }
    let expected = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(actual == expected, "{} differs.\nActual:\n{actual}\nExpected:\n{expected}", path.display());
    Ok(())
}
