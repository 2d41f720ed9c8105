//! Finds the callback of a sign-in in a text that a user pastes: the whole address, or only its end, with what is around it.

use super::{CallbackError, CallbackUrl, callback_url::percent_decoded, check_callback_url};
use crate::sign_in::pasted_text::{clean, is_wrapper, unwrap, without_blanks, words};

/// The most pieces of one address that are joined.
const PIECES_MAX: usize = 64;
/// The most characters that are taken off the end of an address.
const TRAILING_MAX: usize = 8;
/// The most places at which the callback is looked for.
const STARTS_MAX: usize = 16;
/// Parameters with which a copied query begins (RFC 6749 §4.1.2, RFC 9207).
const FIRST_PARAMETERS: [&str; 8] =
    ["code=", "state=", "error=", "error_description=", "scope=", "iss=", "session_state=", "authuser="];
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The callback for which a tool waits.
struct Expected {
    /// As in the `redirect_uri`.
    authority: String,
    port: u16,
    /// Not empty.
    path: String,
    state: Option<String>,
}

impl Expected {
    fn new(sign_in_url: &str, descriptor_path: Option<&str>) -> Option<Self> {
        let sign_in = CallbackUrl::parse(sign_in_url)?;
        let uri = sign_in.query_value("redirect_uri")?;
        let callback = CallbackUrl::parse(&uri).filter(CallbackUrl::is_loopback)?;
        let path = if callback.path.is_empty() { "/" } else { callback.path };
        descriptor_path.is_none_or(|expected| expected == path).then(|| Self {
            authority: callback.authority.to_owned(),
            port: callback.port,
            path: path.to_owned(),
            state: sign_in.query_value("state"),
        })
    }

    /// The address with this query, if the query is of this sign-in.
    fn address(&self, query: &str) -> Option<String> {
        let address = format!("http://{}{}?{query}", self.authority, self.path);
        let fits = CallbackUrl::parse(&address).is_some_and(|parsed| parsed.query_value("state") == self.state);
        fits.then_some(address)
    }
}

/// Whether a sign-in URL redirects to a listener of the tool.
pub(crate) fn waits_for_callback(sign_in_urls: &[&str]) -> bool {
    sign_in_urls.iter().any(|url| Expected::new(url, None).is_some())
}

/// The callback in the text, as the address that the tool listens at; `None`: the text has no callback.
///
/// # Errors
/// [`CallbackError::Mismatch`], [`CallbackError::NotExpected`]: it has one that is not of this sign-in.
pub(crate) fn find_callback(
    text: &str,
    sign_in_urls: &[&str],
    descriptor_path: Option<&str>,
) -> Result<Option<String>, CallbackError> {
    let cleaned = clean(text);
    let decoded = (!cleaned.contains("://")).then(|| percent_decoded(&cleaned)).flatten();
    let mut is_of_another = false;
    for sign_in_url in sign_in_urls {
        let Some(expected) = Expected::new(sign_in_url, descriptor_path) else { continue };
        for view in [Some(&cleaned), Some(&without_blanks(&cleaned)), decoded.as_ref()].into_iter().flatten() {
            for tail in tails(view, &expected) {
                if let Some(address) = queries(tail).iter().find_map(|query| expected.address(query)) {
                    return Ok(Some(address));
                }
                is_of_another = true;
            }
        }
    }
    for word in words(&cleaned) {
        let with_scheme = if word.contains("://") { word.to_owned() } else { format!("http://{word}") };
        let Some(address) = CallbackUrl::parse(&with_scheme).filter(CallbackUrl::is_loopback_name) else { continue };
        if word.contains("://") || address.query.is_some() {
            check_callback_url(&address, sign_in_urls, descriptor_path)?;
        }
    }
    if is_of_another { Err(CallbackError::Mismatch(vec!["state"])) } else { Ok(None) }
}

/// What follows the `?` of each callback in the text, up to the next one.
fn tails<'a>(text: &'a str, expected: &Expected) -> Vec<&'a str> {
    let mut starts = address_starts(text, expected);
    if starts.is_empty() {
        starts = query_starts(text);
    }
    starts.truncate(STARTS_MAX);
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    starts.iter().zip(ends).filter_map(|((_, query), end)| text.get(*query..end)).collect()
}

/// Where each address with the expected port and path begins, and where its query does. The name of the host does not matter: the
/// address is requested in this machine.
fn address_starts(text: &str, expected: &Expected) -> Vec<(usize, usize)> {
    let needles = [format!("{}?", expected.path), "?".to_owned()];
    let with_no_path = expected.path == "/";
    let mut starts = Vec::new();
    for needle in &needles[..if with_no_path { 2 } else { 1 }] {
        for (at, _) in text.match_indices(needle.as_str()) {
            if let Some(start) = authority_start(&text[..at], expected, !with_no_path) {
                starts.push((start, at + needle.len()));
            }
        }
    }
    starts.sort_unstable();
    starts
}

/// Where the address begins whose authority ends at the end of `before`.
fn authority_start(before: &str, expected: &Expected, may_be_path_only: bool) -> Option<usize> {
    let port = format!(":{}", expected.port);
    let is_default = matches!(expected.port, 80 | 443);
    let host_end = match before.strip_suffix(&port) {
        Some(host) => host,
        None if is_default && ends_with_loopback(before).is_some() => before,
        None => {
            let at_start = before.chars().next_back().is_none_or(|c| c.is_whitespace() || is_wrapper(c));
            return (may_be_path_only && at_start).then_some(before.len());
        }
    };
    let host_start = match ends_with_loopback(host_end) {
        Some(length) => host_end.len() - length,
        None => host_end.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).len(),
    };
    if host_start == host_end.len() {
        return None;
    }
    let Some(scheme) = before[..host_start].strip_suffix("://") else { return Some(host_start) };
    let lower = scheme.to_ascii_lowercase();
    let length = ["https", "http"].iter().find(|known| lower.ends_with(**known)).map_or(0, |known| known.len());
    Some(scheme.len() - length)
}

fn ends_with_loopback(text: &str) -> Option<usize> {
    let ends = |name: &str| {
        let tail = text.len().checked_sub(name.len()).and_then(|at| text.get(at..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(name))
    };
    LOOPBACK_NAMES.iter().find(|name| ends(name)).map(|name| name.len())
}

/// Where each query begins that has no address before it.
fn query_starts(text: &str) -> Vec<(usize, usize)> {
    let mut starts = Vec::new();
    let mut at = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let lead = |piece: &str| {
            let query = piece.trim_start_matches(|c: char| is_wrapper(c) || matches!(c, '?' | '&' | '#'));
            FIRST_PARAMETERS.iter().any(|name| query.starts_with(name)).then(|| piece.len() - query.len())
        };
        let is_query = lead(word).is_some() && ["code=", "error="].iter().any(|name| word.contains(name));
        let mut piece_at = at;
        for piece in word.split_inclusive('?').filter(|_| is_query) {
            if let Some(lead) = lead(piece) {
                starts.push((piece_at + lead, piece_at + lead));
            }
            piece_at += piece.len();
        }
        at += word.len();
    }
    starts
}

/// The queries that the text after a `?` may mean, the most likely one first. An address that was broken into lines is joined; words
/// that follow it are left out.
fn queries(tail: &str) -> Vec<String> {
    let cut = tail.find(|c: char| matches!(c, '"' | '<' | '>' | '`') || matches!(c, '\u{201c}'..='\u{201f}'));
    let tail = tail.get(..cut.unwrap_or(tail.len())).unwrap_or_default();
    let mut pieces: Vec<(&str, bool)> = Vec::new();
    let mut is_after_line = false;
    for piece in tail.split_inclusive([' ', '\n']) {
        let text = piece.trim_end();
        if !text.is_empty() && pieces.len() < PIECES_MAX {
            pieces.push((text, is_after_line));
            is_after_line = false;
        }
        is_after_line |= piece.ends_with('\n');
    }
    let following = pieces.iter().skip(1);
    let likely =
        1 + following.take_while(|(text, is_after_line)| *is_after_line || text.contains(['&', '=', '%'])).count();
    let counts = [likely].into_iter().chain((1..=pieces.len()).rev().filter(|count| *count != likely));
    let joined = counts.map(|count| pieces.iter().take(count).map(|(text, _)| *text).collect::<String>());
    joined.flat_map(|query| without_trailing(&query)).filter(|query| !query.is_empty()).collect()
}

/// The query without its fragment, and the same without one or more characters that may be a sentence's.
fn without_trailing(query: &str) -> Vec<String> {
    let mut query = query.split('#').next().unwrap_or_default();
    let mut all = vec![query.to_owned()];
    for _ in 0..TRAILING_MAX {
        match query.strip_suffix(|c: char| is_wrapper(c) || matches!(c, '.' | '&' | '?')) {
            Some(shorter) => query = shorter,
            None => break,
        }
        all.push(query.to_owned());
    }
    all
}

/// Whether the text is the address of a page on which the person has not finished signing in: one on the host of a sign-in URL, without a
/// code.
pub(crate) fn is_sign_in_page(text: &str, sign_in_urls: &[&str]) -> bool {
    let cleaned = clean(text);
    let whole = without_blanks(unwrap(&cleaned));
    words(&cleaned).chain([whole.as_str()]).any(|word| {
        let with_scheme = if word.contains("://") { word.to_owned() } else { format!("https://{word}") };
        // A word with a dot or a slash alone may be a code.
        let is_address = |page: &CallbackUrl<'_>| word.contains("://") || page.query.is_some();
        let Some(page) = CallbackUrl::parse(&with_scheme).filter(is_address) else { return false };
        let asks = ["client_id", "redirect_uri", "response_type"].iter().any(|name| page.query_value(name).is_some());
        let is_unfinished = asks || page.query_value("code").is_none();
        sign_in_urls
            .iter()
            .filter_map(|url| CallbackUrl::parse(url))
            .any(|known| known.host.eq_ignore_ascii_case(page.host) && (is_unfinished || known.path == page.path))
    })
}

#[cfg(test)]
mod tests;
