//! Names that callers choose: of tokens, users and helpers. They are shown to others.

use crate::api_error::ApiError;
use anteroom_wire::{Problem, guest_text::clean_line};
use std::borrow::Cow;
use unicode_script::{Script, UnicodeScript};
use unicode_security::{
    GeneralSecurityProfile, MixedScript, RestrictionLevel, RestrictionLevelDetection,
    general_security_profile::IdentifierType, skeleton,
};

/// Requires that a name is one line that is shown as it is.
///
/// # Errors
/// It is blank, has more than `chars_max` characters, or one that is invisible or changes how its neighbours are shown.
pub fn require_shown(what: &str, name: &str, chars_max: usize) -> Result<(), ApiError> {
    let is_valid = !name.trim().is_empty() && name.chars().count() <= chars_max && clean_line(name, usize::MAX) == name;
    if is_valid {
        return Ok(());
    }
    let detail =
        format!("{what} must have 1 to {chars_max} characters, not only blanks, and no control or invisible ones");
    Err(ApiError::new(Problem::Malformed, detail))
}

/// Requires that the name of a caller that asks for something [is shown as it is](require_shown), and that its letters are those that they
/// look like: each word is in one script (Unicode Technical Standard 39, "highly restrictive"), without compatibility forms of letters,
/// and a word of another script that looks like Latin letters is not next to Latin words.
///
/// # Errors
/// The name is not like that.
pub fn require_clear(what: &str, name: &str, chars_max: usize) -> Result<(), ApiError> {
    require_shown(what, name, chars_max)?;
    let malformed =
        |why: &str| Err(ApiError::new(Problem::Malformed, format!("{what} {why}; write it in one alphabet")));
    if !words(name).all(is_in_one_script) {
        return malformed("has a word with letters of several alphabets, or with special forms of letters");
    }
    let is_latin = |word: &str| word.chars().any(|c| c.script() == Script::Latin);
    if latin_look_alike(name).is_some() && words(name).any(is_latin) {
        return malformed("has a word whose letters look like Latin ones and are not");
    }
    Ok(())
}

/// A name for people who know it in Latin letters: if all of its letters look like these and belong to another script, the script
/// follows.
pub fn with_script(name: &str) -> Cow<'_, str> {
    match latin_look_alike(name) {
        Some(script) if words(name).all(looks_latin) => {
            Cow::Owned(format!("{name} (in {} letters)", script.full_name()))
        }
        Some(_) | None => Cow::Borrowed(name),
    }
}

/// The script of a word that looks like Latin letters, if no other word of the script shows that it is used.
fn latin_look_alike(name: &str) -> Option<Script> {
    let script_of = |word: &str| word.chars().map(|c| c.script()).find(|script| is_other(*script));
    let is_shown = |script| words(name).any(|word| script_of(word) == Some(script) && !looks_latin(word));
    words(name).filter(|word| looks_latin(word)).filter_map(script_of).find(|script| !is_shown(*script))
}

/// Whether the script has letters of its own that are not Latin.
fn is_other(script: Script) -> bool {
    !matches!(script, Script::Latin | Script::Common | Script::Inherited | Script::Unknown)
}

/// Whether a word is made of ASCII characters, or of letters that look like them.
fn looks_latin(word: &str) -> bool {
    skeleton(word).all(|c| c.is_ascii())
}

/// The words of a name: what is between blanks and ASCII punctuation.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| c.is_whitespace() || c.is_ascii_punctuation()).filter(|word| !word.is_empty())
}

fn is_in_one_script(word: &str) -> bool {
    let is_form = |c: char| c.is_alphabetic() && c.identifier_type() == Some(IdentifierType::Not_NFKC);
    let is_single = word.is_single_script() || word.check_restriction_level(RestrictionLevel::HighlyRestrictive);
    is_single && !word.chars().any(is_form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_that_are_shown_as_they_are() {
        for name in ["a", "Ann Lee", "Zoë", "李雷", "user@example.com", "de/7f-3_x+1"] {
            assert!(require_shown("name", name, 20).is_ok(), "{name}");
        }
        let long = "x".repeat(21);
        for name in ["", "  ", "a\nb", "a\u{1b}[2J", "a\u{202e}b", "a\u{200b}", "a\u{a0}b", "\u{2028}", &long] {
            assert!(require_shown("name", name, 20).is_err(), "{name:?}");
        }
    }

    #[test]
    fn honest_names_in_any_script_are_clear_and_shown_unchanged() {
        for name in [
            "Zoë",
            "O'Brien & Søn",
            "Nguyễn Văn A",
            "Straße 7",
            "王小明",
            "山田 Corp",
            "山田Corp",
            "さくらサーバー",
            "김민준",
            "Мария",
            "ООО Ромашка",
            "Мария Smith",
            "мария@example.com",
            "Γιώργος",
            "שלום",
            "محمد",
            "नमस्ते",
            "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
            "build-1 (CO₂) 🚀",
            "e\u{301}lan",
        ] {
            assert!(require_clear("name", name, 40).is_ok(), "{name}");
            assert_eq!(with_script(name), name);
        }
    }

    #[test]
    fn names_with_letters_that_look_like_others_are_refused_or_show_their_script() {
        // One Cyrillic or Greek letter in a Latin word; mathematical and full-width letters; a Cyrillic word next to a Latin one.
        for name in ["AC\u{41c}E", "\u{391}CME", "p\u{430}ypal", "𝐀𝐂𝐌𝐄", "ＡＣＭＥ", "Ⓐcme", "АСМЕ Inc", "Corp. АСМЕ"]
        {
            assert!(require_clear("name", name, 40).is_err(), "{name}");
        }
        // Honest names can look like this, so they are accepted and shown with their script.
        for (name, shown) in [("АСМЕ", "АСМЕ (in Cyrillic letters)"), ("Сара", "Сара (in Cyrillic letters)")]
        {
            assert!(require_clear("name", name, 40).is_ok(), "{name}");
            assert_eq!(with_script(name), shown);
        }
        assert_eq!(with_script("Сара Анна"), "Сара Анна", "the second word shows the alphabet");
    }
}
