//! Files that are embedded in the binary, with their compressed forms (`web/build.mjs` makes them), and their conditional responses.

use super::accept::ContentEncoding;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use rust_embed::RustEmbed;
use std::borrow::Cow;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct WebAssets;

/// A file in the form in which it is sent.
pub(super) struct EmbeddedFile {
    content: Bytes,
    encoding: ContentEncoding,
    etag: String,
    media_type: String,
}

/// Why there is no file to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFile {
    /// No file has this name.
    Missing,
    /// The client accepts none of the file's encodings.
    NotAcceptable,
}

/// The ending of the name of a file in this encoding.
fn ending(encoding: ContentEncoding) -> &'static str {
    match encoding {
        ContentEncoding::Brotli => ".br",
        ContentEncoding::Gzip => ".gz",
        ContentEncoding::Identity => "",
    }
}

impl EmbeddedFile {
    /// The file in the encoding that the client prefers.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn find(name: &str, request: &HeaderMap) -> Result<Self, NoFile> {
        // A compressed form has no address of its own.
        if name.ends_with(".br") || name.ends_with(".gz") || WebAssets::get(name).is_none() {
            return Err(NoFile::Missing);
        }
        let acceptable = ContentEncoding::acceptable(request);
        acceptable.into_iter().find_map(|encoding| Self::in_encoding(name, encoding)).ok_or(NoFile::NotAcceptable)
    }

    /// The file, not compressed.
    pub(super) fn find_plain(name: &str) -> Option<Self> {
        Self::in_encoding(name, ContentEncoding::Identity)
    }

    fn in_encoding(name: &str, encoding: ContentEncoding) -> Option<Self> {
        let file = WebAssets::get(&format!("{name}{}", ending(encoding)))?;
        let etag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..12]));
        let media_type = mime_guess::from_path(name).first_or_octet_stream();
        let is_text = media_type.type_() == mime_guess::mime::TEXT;
        let media_type = if is_text { format!("{media_type}; charset=utf-8") } else { media_type.to_string() };
        // Not copied: many clients that read it slowly take no memory.
        let content = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        };
        Some(Self { content, encoding, etag, media_type })
    }

    /// The bytes, in the file's encoding.
    pub(super) fn into_content(self) -> Bytes {
        self.content
    }

    /// The response; 304 if the client has this form already.
    pub(super) fn into_response(self, request: &HeaderMap, cache_control: &'static str) -> Response {
        let etag = HeaderValue::try_from(&self.etag).ok();
        let mut response = if has_etag(request, &self.etag) {
            let caching = [(header::VARY, "accept-encoding"), (header::CACHE_CONTROL, cache_control)];
            (StatusCode::NOT_MODIFIED, caching).into_response()
        } else {
            self.into_unconditional_response(cache_control)
        };
        response.headers_mut().extend(etag.map(|etag| (header::ETAG, etag)));
        response
    }

    /// The response, without an ETag.
    pub(super) fn into_unconditional_response(self, cache_control: &'static str) -> Response {
        let caching = [(header::VARY, "accept-encoding"), (header::CACHE_CONTROL, cache_control)];
        let mut response = (caching, self.content).into_response();
        if let Ok(kind) = HeaderValue::try_from(self.media_type) {
            // Replaces that of bytes.
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        if self.encoding != ContentEncoding::Identity {
            let encoding = HeaderValue::from_static(self.encoding.as_str());
            response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
        }
        response
    }
}

/// Whether `If-None-Match` contains this ETag: a list, or `*`; the comparison is weak (RFC 9110 §13.1.2).
fn has_etag(request: &HeaderMap, etag: &str) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut known = values.flat_map(|value| value.split(',')).map(str::trim);
    known.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_etags_are_compared_weakly() {
        for (known, expected) in [
            (&[r#""abc""#][..], true),
            (&[r#"W/"abc""#], true),
            (&[r#""x", "abc""#], true),
            (&[r#""x""#, r#""abc""#], true),
            (&["*"], true),
            (&[r#""ab""#], false),
            (&["abc"], false),
            (&[], false),
        ] {
            let headers: HeaderMap =
                known.iter().map(|value| (header::IF_NONE_MATCH, HeaderValue::from_static(value))).collect();
            assert_eq!(has_etag(&headers, r#""abc""#), expected, "{known:?}");
        }
    }
}
