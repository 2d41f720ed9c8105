//! What a client accepts: the values of `Accept`, `Accept-Encoding` and `Accept-Language` with their qualities (RFC 9110 §12.5).

use axum::http::{HeaderMap, HeaderName, header};

/// Values of one header that are read; a client has no reason to send more.
const VALUES_MAX: usize = 64;

/// The quality of a value in thousandths: 0 is not acceptable, 1000 is preferred.
type Quality = u16;

/// The values of a header, in the order in which they were sent.
#[derive(Debug)]
struct Accepted(Vec<(String, Quality)>);

impl Accepted {
    fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        Self(texts.flat_map(|text| text.split(',')).take(VALUES_MAX).filter_map(parse_value).collect())
    }

    fn quality(&self, value: &str) -> Option<Quality> {
        self.0.iter().find(|(name, _)| name == value).map(|(_, quality)| *quality)
    }
}

/// A value without its parameters, and its quality. `None`: it is empty, or its quality is not well formed.
fn parse_value(text: &str) -> Option<(String, Quality)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let quality = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| parse_quality(value.trim()))
    });
    Some((name, quality.unwrap_or(Some(1_000))?))
}

/// `0`, `0.5`, `1.000`: at most three decimals, at most 1.
fn parse_quality(text: &str) -> Option<Quality> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_well_formed =
        matches!(whole, "0" | "1") && decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    let thousandths: Quality = format!("{whole}{decimals:0<3}").parse().ok()?;
    (is_well_formed && thousandths <= 1_000).then_some(thousandths)
}

/// How the content of a response is encoded. The first one is preferred where a client has no preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    Brotli,
    Gzip,
    Identity,
}

impl ContentEncoding {
    const ALL: [Self; 3] = [Self::Brotli, Self::Gzip, Self::Identity];

    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    fn quality(self, accepted: &Accepted) -> Quality {
        let named = accepted.quality(self.as_str());
        match self {
            Self::Brotli => named.or_else(|| accepted.quality("*")).unwrap_or(0),
            Self::Gzip => named.or_else(|| accepted.quality("x-gzip")).or_else(|| accepted.quality("*")).unwrap_or(0),
            // Acceptable unless it is excluded, but a client that names others prefers them.
            Self::Identity => named.or_else(|| accepted.quality("*").filter(|quality| *quality == 0)).unwrap_or(1),
        }
    }

    /// The acceptable encodings, the preferred one first. Empty: the client accepts none of them.
    pub(super) fn acceptable(headers: &HeaderMap) -> Vec<Self> {
        let accepted = Accepted::of(headers, &header::ACCEPT_ENCODING);
        let mut acceptable: Vec<_> = Self::ALL.into_iter().filter(|encoding| encoding.quality(&accepted) > 0).collect();
        acceptable.sort_by_key(|encoding| std::cmp::Reverse(encoding.quality(&accepted)));
        acceptable
    }
}

/// The values of a header in lower case that are acceptable, the preferred one first.
pub(super) fn values_by_quality(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let Accepted(mut values) = Accepted::of(headers, name);
    values.retain(|(_, quality)| *quality > 0);
    values.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    values.into_iter().map(|(value, _)| value).collect()
}

/// Whether the client prefers HTML to JSON, as a browser does when a person opens an address. `*/*` alone is no preference.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let accepted = Accepted::of(headers, &header::ACCEPT);
    let best = |names: &[&str]| names.iter().find_map(|name| accepted.quality(name));
    let html = best(&["text/html", "application/xhtml+xml", "text/*"]).unwrap_or(0);
    let json = best(&["application/json", "application/problem+json", "application/*"]);
    // Browsers name `*/*` last, with less than 1.
    html > 0 && json.is_none_or(|json| html > json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn encodings_are_ordered_by_quality_then_by_size() {
        use ContentEncoding::{Brotli, Gzip, Identity};
        for (accepted, expected) in [
            (&[][..], &[Identity][..]),
            (&[""], &[Identity]),
            (&["br"], &[Brotli, Identity]),
            (&["gzip, deflate, br, zstd"], &[Brotli, Gzip, Identity]),
            (&["gzip", "br"], &[Brotli, Gzip, Identity]),
            (&["GZIP"], &[Gzip, Identity]),
            (&["x-gzip"], &[Gzip, Identity]),
            (&["br;q=0.5, gzip;q=0.8"], &[Gzip, Brotli, Identity]),
            (&["br;q=0, gzip"], &[Gzip, Identity]),
            (&["br ; Q=0.0 , gzip;q=1.000"], &[Gzip, Identity]),
            (&["identity, br;q=0.9"], &[Identity, Brotli]),
            (&["*"], &[Brotli, Gzip, Identity]),
            (&["*;q=0"], &[]),
            (&["identity;q=0"], &[]),
            (&["identity;q=0, gzip"], &[Gzip]),
            (&["gzip;q=1, *;q=0"], &[Gzip]),
            (&["br;q=2, gzip;q=0.1234"], &[Identity]),
            (&["br;q=, gzip;q=x"], &[Identity]),
            (&["deflate, zstd"], &[Identity]),
        ] {
            let acceptable = ContentEncoding::acceptable(&headers(header::ACCEPT_ENCODING, accepted));
            assert_eq!(acceptable, expected, "{accepted:?}");
        }
    }

    #[test]
    fn html_is_preferred_by_browsers_and_not_by_programs() {
        for (accepted, expected) in [
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"][..], true),
            (&["text/html"], true),
            (&["TEXT/HTML;level=1"], true),
            (&["text/html;q=0.9, application/json;q=0.5"], true),
            (&["application/json;q=0.5", "text/html"], true),
            (&["text/*"], true),
            (&[], false),
            (&["*/*"], false),
            (&["application/json"], false),
            (&["application/json, text/html;q=0.9, */*;q=0.1"], false),
            (&["text/html, application/json"], false),
            (&["text/html;q=0, */*"], false),
            (&["text/event-stream"], false),
            (&["image/avif,image/webp,*/*;q=0.8"], false),
            (&["texthtml, ;;;, q=1"], false),
        ] {
            assert_eq!(prefers_html(&headers(header::ACCEPT, accepted)), expected, "{accepted:?}");
        }
    }
}
