//! Encodes and decodes queries and forms: `application/x-www-form-urlencoded` (WHATWG URL, §5).

/// `key=value&…`, encoded.
pub(crate) fn encode_query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        escape(key, &mut text);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

fn escape(value: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        // RFC 3986 §2.3: unreserved characters are not escaped.
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(DIGITS[usize::from(byte >> 4)]));
            into.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// The first value of `key` in a query.
pub(crate) fn query_value(query: &str, key: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name) == key).then(|| unescape(value))
    })
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (escaped, byte) {
            (Some(byte), _) => {
                out.push(byte);
                at += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_values_are_decoded_to_the_same_text() {
        for text in ["", "plain", "a b+c", "ä/%&=?#", "100%", "\u{1F600}"] {
            assert_eq!(query_value(&encode_query(&[("first", "x"), ("key&", text)]), "key&").as_deref(), Some(text));
        }
        assert_eq!(query_value("a=1&a=2&b", "a").as_deref(), Some("1"));
        assert_eq!(query_value("a=1&b", "b").as_deref(), Some(""));
        assert_eq!(query_value("a=%zz%4", "a").as_deref(), Some("%zz%4"));
        assert_eq!(query_value("a=1", "b"), None);
    }
}
