//! What surrounds a copied address or code: HTML entities, invisible characters, quotes, brackets, blanks and line breaks.

/// The most words of a pasted text that are examined.
const WORDS_MAX: usize = 256;
/// Named HTML entities that occur in addresses and around them.
const ENTITIES: [(&str, char); 13] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("equals", '='),
    ("quest", '?'),
    ("colon", ':'),
    ("sol", '/'),
    ("num", '#'),
    ("period", '.'),
    ("lowbar", '_'),
];
/// The most characters between `&` and `;`.
const ENTITY_BYTES_MAX: usize = 8;
/// A mail that was forwarded may be escaped twice.
const ESCAPED_TIMES_MAX: usize = 3;

/// The text with HTML entities decoded and without invisible characters. Each blank is a space or a line feed.
pub(crate) fn clean(text: &str) -> String {
    let mut decoded = text.to_owned();
    for _ in 0..ESCAPED_TIMES_MAX {
        let next = decode_entities(&decoded);
        if next == decoded {
            break;
        }
        decoded = next;
    }
    let visible = decoded.chars().filter(|c| !is_invisible(*c));
    visible
        .map(|c| {
            if matches!(c, '\n' | '\r') {
                '\n'
            } else if c.is_whitespace() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Soft hyphen, zero-width characters, marks of the direction, byte-order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

fn decode_entities(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        decoded.push_str(before);
        match after.find(';').filter(|end| *end <= ENTITY_BYTES_MAX).and_then(|end| Some((entity(&after[..end])?, end)))
        {
            Some((c, end)) => {
                decoded.push(c);
                rest = &after[end + 1..];
            }
            None => {
                decoded.push('&');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn entity(name: &str) -> Option<char> {
    let number = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        },
        None => return ENTITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, c)| *c),
    };
    number.and_then(char::from_u32).filter(|c| !c.is_control() || c.is_whitespace())
}

/// Whether the character quotes, brackets or ends what is copied, and is not a part of it.
pub(crate) fn is_wrapper(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' | '!' | '*' | '|' | '\\' | '…'
    ) || matches!(c, '\u{2018}'..='\u{201f}' | '«' | '»' | '‹' | '›' | '「' | '」' | '。' | '、')
}

/// The text without blanks, quotes and brackets around it.
pub(crate) fn unwrap(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_wrapper(c))
}

/// The words of a cleaned text, without what is around each.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().map(unwrap).filter(|word| !word.is_empty()).take(WORDS_MAX)
}

/// The text without its blanks.
pub(crate) fn without_blanks(text: &str) -> String {
    text.split_whitespace().collect()
}

/// One half of a text that was pasted twice.
pub(crate) fn half_of_doubled(text: &str) -> Option<&str> {
    let (first, second) = text.split_at_checked(text.len() / 2)?;
    (first == second && !first.is_empty()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_invisible_characters_are_decoded() {
        for (text, expected) in [
            ("a&amp;b", "a&b"),
            ("a&amp;amp;b", "a&b"),
            ("a&#38;b&#x26;c", "a&b&c"),
            ("&lt;x&gt;&nbsp;y", "<x> y"),
            ("?code=1&state=2;", "?code=1&state=2;"),
            ("?a&unknown;b", "?a&unknown;b"),
            ("a\u{200b}b\u{feff}c\u{ad}d", "abcd"),
            ("a\u{a0}b\tc\r\nd", "a b c\n\nd"),
            ("&#7;", "&#7;"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn half_is_found_only_of_a_whole_repetition() {
        assert_eq!(half_of_doubled("abab"), Some("ab"));
        for text in ["", "a", "abc", "abac", "éa"] {
            assert_eq!(half_of_doubled(text), None, "{text:?}");
        }
    }
}
