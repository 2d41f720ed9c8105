//! The reason that a desktop gives when it refuses, for operators and users: bounded, printable, without addresses.

use anteroom_wire::guest_text::is_shown_unchanged;

/// The bytes of a reason that are read.
pub(super) const READ_BYTES_MAX: u64 = 1_024;
/// The characters of a reason that are shown.
const SHOWN_CHARS_MAX: usize = 120;

/// The reason as one line. A word that can be an address or a path is replaced by `…`.
pub(super) fn clean_reason(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words = words.map(|word| {
        let inner = word.trim_end_matches(['.', ',', ';', ':', '!']);
        if inner.contains(['.', ':', '/', '\\', '@', '[']) { "…" } else { word }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| is_shown_unchanged(*c) && *c != char::REPLACEMENT_CHARACTER).take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_one_bounded_line_without_addresses() {
        assert_eq!(clean_reason(b"Too many authentication failures"), "Too many authentication failures");
        assert_eq!(
            clean_reason(b"Your address 10.0.0.7:5900\n(desk.internal.example) is blocked.\0\x1b[31m"),
            "Your address … … is blocked. …"
        );
        assert!(clean_reason(&[b'a'; 5_000]).len() <= SHOWN_CHARS_MAX);
        assert_eq!(clean_reason(&[0xff, 0xfe]), "");
    }
}
