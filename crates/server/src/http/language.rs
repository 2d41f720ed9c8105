//! The language of the pages: the person's choice in a cookie, else what the browser prefers (RFC 9110 §12.5.4).

use super::accept::values_by_quality;
use crate::auth::parse_cookie_header;
use axum::http::{HeaderMap, header};

/// Set by the pages (`web/src/language.ts`).
const COOKIE_NAME: &str = "anteroom_language";

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::English, Self::German];

    /// Its name in `Accept-Language` and in the cookie (RFC 5646).
    fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or(tag);
        Self::ALL.into_iter().find(|language| language.tag() == primary)
    }

    /// The language in which a page is sent. English, if the browser prefers none of the languages.
    pub(super) fn of(request: &HeaderMap) -> Self {
        // Over TLS, too, any cookie counts: a page in another language reveals nothing.
        let cookies = parse_cookie_header(request, false);
        let chosen = cookies.iter().find(|(name, _)| *name == COOKIE_NAME).and_then(|(_, tag)| Self::of_tag(tag));
        let preferred =
            || values_by_quality(request, &header::ACCEPT_LANGUAGE).iter().find_map(|tag| Self::of_tag(tag));
        chosen.or_else(preferred).unwrap_or(Self::English)
    }

    /// The name of the file of a page in this language.
    pub(super) fn file(self, page: &str) -> String {
        match self {
            Self::English => format!("{page}.html"),
            Self::German => format!("{page}.de.html"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_cookie_counts_before_the_browsers_languages_and_english_is_the_default() {
        use Language::{English, German};
        for (accepted, cookie, expected) in [
            ("", "", English),
            ("de-DE,de;q=0.9,en;q=0.8", "", German),
            ("DE-at", "", German),
            ("en-GB,en;q=0.9,de;q=0.8", "", English),
            ("fr-FR,fr;q=0.9,de;q=0.5,en;q=0.3", "", German),
            ("en;q=0.3, de;q=0.7", "", German),
            ("de;q=0, fr", "", English),
            ("fr, *", "", English),
            ("den, deu", "", English),
            (";;q=,de;q=x", "", English),
            ("de-DE", "anteroom_language=en", English),
            ("en", "a=b; anteroom_language=de", German),
            ("de", "anteroom_language=fr", German),
            ("en", "anteroom_language=", English),
            ("en", "language=de", English),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(accepted));
            headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
            assert_eq!(Language::of(&headers), expected, "{accepted:?} {cookie:?}");
        }
    }
}
