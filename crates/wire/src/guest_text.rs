//! Text that was written by a guest or another untrusted program, made safe to show.
//!
//! Every text of a guest becomes a [`GuestText`] when it is parsed. The type can only be made by cleaning, so a log, a timeline, a
//! page or a terminal that shows it is neither moved, nor reordered, nor filled by it.

use serde::{Deserialize, Deserializer, Serialize};
use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The most bytes of a [`GuestText`].
pub const GUEST_TEXT_BYTES_MAX: usize = 4 * 1024;
/// The most bytes of a [`GuestScreenLine`].
pub const GUEST_SCREEN_LINE_BYTES_MAX: usize = 64 * 1024;
/// The most lines of a [`GuestLines`].
pub const GUEST_LINES_MAX: usize = 40;
/// The most combining marks that may follow one character. Scripts need up to three; more of them overwrite other lines.
const COMBINING_MARKS_MAX: usize = 4;

/// One line of text from a guest.
pub type GuestText = BoundedGuestText<GUEST_TEXT_BYTES_MAX>;

/// One line of a guest's terminal, which is longer when it wrapped.
pub type GuestScreenLine = BoundedGuestText<GUEST_SCREEN_LINE_BYTES_MAX>;

/// One line of text from a guest: at most `BYTES_MAX` bytes, cleaned by [`clean_line`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BoundedGuestText<const BYTES_MAX: usize>(String);

impl<const BYTES_MAX: usize> BoundedGuestText<BYTES_MAX> {
    /// Cleans and bounds a text.
    pub fn new(text: &str) -> Self {
        Self(clean_line(text, BYTES_MAX))
    }

    /// The clean text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const BYTES_MAX: usize> Deref for BoundedGuestText<BYTES_MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const BYTES_MAX: usize> Borrow<str> for BoundedGuestText<BYTES_MAX> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<const BYTES_MAX: usize> fmt::Debug for BoundedGuestText<BYTES_MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const BYTES_MAX: usize> fmt::Display for BoundedGuestText<BYTES_MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const BYTES_MAX: usize> From<&str> for BoundedGuestText<BYTES_MAX> {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<const BYTES_MAX: usize> From<String> for BoundedGuestText<BYTES_MAX> {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl<const BYTES_MAX: usize> From<BoundedGuestText<BYTES_MAX>> for String {
    fn from(text: BoundedGuestText<BYTES_MAX>) -> Self {
        text.0
    }
}

impl<const BYTES_MAX: usize> PartialEq<str> for BoundedGuestText<BYTES_MAX> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const BYTES_MAX: usize> PartialEq<&str> for BoundedGuestText<BYTES_MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const BYTES_MAX: usize> PartialEq<String> for BoundedGuestText<BYTES_MAX> {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<'de, const BYTES_MAX: usize> Deserialize<'de> for BoundedGuestText<BYTES_MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// The last lines of an output in a guest: at most [`GUEST_LINES_MAX`], each a [`GuestText`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GuestLines(Vec<GuestText>);

impl Deref for GuestLines {
    type Target = [GuestText];

    fn deref(&self) -> &[GuestText] {
        &self.0
    }
}

impl<T: Into<GuestText>> FromIterator<T> for GuestLines {
    fn from_iter<I: IntoIterator<Item = T>>(lines: I) -> Self {
        let mut kept = std::collections::VecDeque::new();
        for line in lines {
            if kept.len() == GUEST_LINES_MAX {
                kept.pop_front();
            }
            kept.push_back(line.into());
        }
        Self(kept.into())
    }
}

impl<T: Into<GuestText>> From<Vec<T>> for GuestLines {
    fn from(lines: Vec<T>) -> Self {
        lines.into_iter().collect()
    }
}

impl<T> PartialEq<Vec<T>> for GuestLines
where
    GuestText: PartialEq<T>,
{
    fn eq(&self, other: &Vec<T>) -> bool {
        self.0 == *other
    }
}

impl<T, const N: usize> PartialEq<[T; N]> for GuestLines
where
    GuestText: PartialEq<T>,
{
    fn eq(&self, other: &[T; N]) -> bool {
        self.0 == *other
    }
}

impl<'de> Deserialize<'de> for GuestLines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<GuestText>::deserialize(deserializer).map(Self::from)
    }
}

/// What happens to a character that is shown.
enum Shown {
    Unchanged,
    /// A blank or a line break.
    Blank,
    /// A variation selector: it has no meaning without its character.
    Dropped,
    /// A control, a format character, an invisible or an unassigned one.
    Replaced,
}

fn shown(c: char) -> Shown {
    match c {
        ' '..='~' => Shown::Unchanged,
        '\u{fe00}'..='\u{fe0f}' => Shown::Dropped,
        // Letters and marks that are invisible.
        '\u{034f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{ffa0}'
        | '\u{e0100}'..='\u{e01ef}' => Shown::Replaced,
        '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' => Shown::Blank,
        _ => match c.general_category() {
            GeneralCategory::SpaceSeparator | GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
                Shown::Blank
            }
            GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned => Shown::Replaced,
            GeneralCategory::UppercaseLetter
            | GeneralCategory::LowercaseLetter
            | GeneralCategory::TitlecaseLetter
            | GeneralCategory::ModifierLetter
            | GeneralCategory::OtherLetter
            | GeneralCategory::NonspacingMark
            | GeneralCategory::SpacingMark
            | GeneralCategory::EnclosingMark
            | GeneralCategory::DecimalNumber
            | GeneralCategory::LetterNumber
            | GeneralCategory::OtherNumber
            | GeneralCategory::ConnectorPunctuation
            | GeneralCategory::DashPunctuation
            | GeneralCategory::OpenPunctuation
            | GeneralCategory::ClosePunctuation
            | GeneralCategory::InitialPunctuation
            | GeneralCategory::FinalPunctuation
            | GeneralCategory::OtherPunctuation
            | GeneralCategory::MathSymbol
            | GeneralCategory::CurrencySymbol
            | GeneralCategory::ModifierSymbol
            | GeneralCategory::OtherSymbol
            | GeneralCategory::PrivateUse => Shown::Unchanged,
        },
    }
}

/// Whether a character is shown as itself. Controls (C0, DEL, C1), bidirectional controls, zero-width and other format characters,
/// line and paragraph separators, invisible letters and unassigned code points are not.
pub fn is_shown_unchanged(c: char) -> bool {
    matches!(shown(c), Shown::Unchanged)
}

fn is_combining(c: char) -> bool {
    !c.is_ascii() && matches!(c.general_category(), GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark)
}

/// Makes a text one line that is safe to show, of at most `bytes_max` bytes (at least 3): blanks and line breaks become spaces; each
/// run of characters that [are not shown unchanged](is_shown_unchanged) becomes one U+FFFD; a text that is cut ends with `…`.
pub fn clean_line(text: &str, bytes_max: usize) -> String {
    const CUT: char = '…';
    let mut clean = String::with_capacity(text.len().min(bytes_max));
    let mut marks = 0;
    // The longest part after which the cut mark fits.
    let mut fits = 0;
    for c in text.chars() {
        let next = match shown(c) {
            Shown::Unchanged => c,
            Shown::Blank => ' ',
            Shown::Dropped => continue,
            Shown::Replaced if clean.ends_with(char::REPLACEMENT_CHARACTER) => continue,
            Shown::Replaced => char::REPLACEMENT_CHARACTER,
        };
        marks = if is_combining(next) { marks + 1 } else { 0 };
        if marks > COMBINING_MARKS_MAX {
            continue;
        }
        if clean.len() + next.len_utf8() > bytes_max {
            clean.truncate(fits);
            clean.push(CUT);
            break;
        }
        clean.push(next);
        if clean.len() + CUT.len_utf8() <= bytes_max {
            fits = clean.len();
        }
    }
    clean
}

/// Makes a text of several lines safe to show: as [`clean_line`] without a bound, and line feeds stay.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == '\n' || is_shown_unchanged(c) && c.is_ascii()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(|line| clean_line(line, usize::MAX)).collect::<Vec<_>>().join("\n"))
}

/// Escapes the characters of a JSON text that are not shown unchanged as `\uXXXX`, so that it is safe on a terminal and means the
/// same. The text must be JSON on one line, or be without quotes.
pub fn escape_json(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || is_shown_unchanged(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "\u{1b}]0;TITLE\u{7}\u{1b}[2Ja\u{9b}31mb\u{202e}c\u{2028}d\u{200b}e\u{feff}f\u{e0041}g\r\nh\u{8}\u{7f}";

    #[test]
    fn a_guests_text_moves_no_terminal_and_reorders_no_line() {
        let text = GuestText::new(HOSTILE);
        assert_eq!(text, "�]0;TITLE�[2Ja�31mb�c d�e�f�g  h�");
        assert!(text.chars().all(is_shown_unchanged));
    }

    #[test]
    fn every_character_is_shown_or_replaced_and_cleaning_twice_changes_nothing() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            let clean = clean_line(&text, 100);
            assert!(clean.chars().all(is_shown_unchanged), "{c:?}: {clean:?}");
            assert_eq!(clean_line(&clean, 100), clean, "{c:?}");
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in ["Hello, world", "Grüße aus Zürich", "日本語のテキスト", "שלום", "नमस्ते", "◆ │ ● ✓ 🙂", "e\u{301}"]
        {
            assert_eq!(clean_line(text, 1000), text);
        }
        assert_eq!(clean_line("⚠\u{fe0f} no\u{a0}break", 100), "⚠ no break");
    }

    #[test]
    fn a_text_is_cut_at_its_limit_on_a_characters_boundary() {
        for bytes_max in 3..40 {
            for text in ["ä".repeat(100), "x".repeat(100), "\u{9b}y".repeat(100), "🙂".repeat(100)] {
                let clean = clean_line(&text, bytes_max);
                assert!(clean.len() <= bytes_max && clean.ends_with('…'), "{bytes_max}: {clean:?}");
            }
        }
        assert_eq!(clean_line("exact", 5), "exact");
        assert_eq!(clean_line("longer", 5), "lo…");
        assert_eq!(GuestText::new(&"x".repeat(1 << 20)).len(), GUEST_TEXT_BYTES_MAX);
    }

    #[test]
    fn stacked_marks_are_limited() {
        let clean = clean_line(&format!("a{}b", "\u{301}".repeat(1_000)), 1_000);
        assert_eq!(clean, format!("a{}b", "\u{301}".repeat(COMBINING_MARKS_MAX)));
    }

    #[test]
    fn parsed_text_is_clean_and_a_lone_surrogate_is_an_error() {
        let json = serde_json::to_string(HOSTILE).unwrap();
        assert_eq!(serde_json::from_str::<GuestText>(&json).unwrap(), GuestText::new(HOSTILE));
        assert!(serde_json::from_str::<GuestText>(r#""\ud800""#).is_err());
        let lines: GuestLines = serde_json::from_value((0..100).map(|n| format!("{n}\u{1b}")).collect()).unwrap();
        assert_eq!((lines.len(), lines[0].as_str()), (GUEST_LINES_MAX, "60�"));
    }

    #[test]
    fn escaped_json_means_the_same_and_contains_nothing_unsafe() {
        let json = serde_json::to_string(HOSTILE).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.chars().all(is_shown_unchanged), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), HOSTILE);
        assert_eq!(clean_lines("a\u{9b}\nb"), "a�\nb");
    }
}
