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
    /// On a terminal that has enough columns and rows, unless the address leads only to this computer.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Prints the address as a QR code, if the mode and the terminal permit it.
pub(super) fn print(url: &str, mode: QrMode) {
    if mode != QrMode::Always && leads_to_this_computer(url) {
        return;
    }
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

/// Whether no other device reaches the address: loopback, or a name below `localhost` (RFC 6761, 6.3).
fn leads_to_this_computer(url: &str) -> bool {
    let url = url.parse::<http::Uri>().ok();
    let host = url.as_ref().and_then(http::Uri::host).unwrap_or_default().trim_matches(['[', ']']);
    let is_name = host == "localhost" || host.ends_with(".localhost");
    is_name || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
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
    fn an_address_of_this_computer_is_recognised() {
        for (url, is_local) in [
            ("http://anteroom-647e.localhost:45119/#login_token=x", true),
            ("http://127.0.0.1:7060/", true),
            ("http://[::1]:7060/", true),
            ("https://anteroom.example/#login_token=x", false),
            ("https://localhost.example/", false),
            ("http://192.168.1.2:7060/", false),
        ] {
            assert_eq!(leads_to_this_computer(url), is_local, "{url}");
        }
    }

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
