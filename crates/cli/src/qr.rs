//! A QR code in the terminal, for a phone.

use super::{output, terminal};
use clap::ValueEnum;
use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of the white border that scanners need.
const BORDER: i32 = 2;
/// Rows that must be left for the text around the code.
const OTHER_ROWS: usize = 8;

/// When a QR code is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum QrMode {
    /// On a terminal that has enough columns and rows.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Prints the address as a QR code, if the mode and the terminal permit it.
pub(super) fn print(url: &str, mode: QrMode) {
    let Ok(code) = QrCode::encode_text(url, QrCodeEcc::Low) else { return };
    let lines = lines(&code);
    let columns = usize::try_from(code.size() + 2 * BORDER).unwrap_or(usize::MAX);
    let fits = terminal::size().is_some_and(|(width, height)| {
        columns <= usize::from(width) && lines.len() + OTHER_ROWS <= usize::from(height)
    });
    if mode == QrMode::Always || mode == QrMode::Auto && fits {
        output::print_blocks(&lines, terminal::size().is_some());
    }
}

/// Two rows of modules in each line: a light module is a block, so that a terminal without colours shows light modules bright.
fn lines(code: &QrCode) -> Vec<String> {
    let is_light = |x: i32, y: i32| !code.get_module(x, y);
    let range = -BORDER..code.size() + BORDER;
    let line = |y: i32| {
        let module = |x: i32| match (is_light(x, y), is_light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        range.clone().map(module).collect()
    };
    range.clone().step_by(2).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_a_border_and_its_finder_pattern() {
        let code = QrCode::encode_text("https://anteroom.example/#login_token=x", QrCodeEcc::Low).unwrap();
        let lines = lines(&code);
        let width = usize::try_from(code.size() + 2 * BORDER).unwrap();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(lines[0].chars().all(|module| module == '█'), "border");
        assert!(lines[1].starts_with("██ ▄▄▄▄▄ "), "finder pattern: {}", lines[1]);
    }
}
