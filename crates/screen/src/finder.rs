//! Finds addresses and codes on the terminal's screen, and masks what must not be told.

mod joined;

use crate::Look;
use anteroom_wire::provider::SignInRules;
use regex_lite::Regex;

/// The longest address.
pub const URL_BYTES_MAX: usize = 8 * 1024;
const CODE_CHARS_MAX: usize = 64;
/// Runs of letters and digits from this length on look like a token.
const TOKEN_CHARS_MIN: usize = 20;

/// The host of a web address that may be opened: `http` or `https`, up to 8 KiB, no blanks or control characters.
pub fn web_host(url: &str) -> Option<String> {
    if url.len() > URL_BYTES_MAX || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host_port = authority.rsplit('@').next()?;
    let host = match host_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host_port.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// A provider's patterns.
#[derive(Debug, Clone)]
pub struct Finder {
    url: Option<Regex>,
    code: Option<Regex>,
}

/// What stands on a screen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The last address.
    pub url: Option<Piece>,
    /// The same as a hyperlink, whole by itself.
    pub link: Option<String>,
    /// The last code.
    pub code: Option<Piece>,
}

/// A find on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What was found.
    pub text: String,
    /// Nothing follows it, and the program may go on writing there.
    pub may_grow: bool,
}

impl Finder {
    /// Compiles a provider's patterns.
    ///
    /// # Errors
    /// A pattern that is none; says which.
    pub fn new(rules: &SignInRules) -> Result<Self, String> {
        let compile = |name: &str, pattern: &Option<String>| {
            let compiled = pattern.as_deref().map(Regex::new).transpose();
            compiled.map_err(|error| format!("sign_in.{name} is not a regular expression: {error}"))
        };
        Ok(Self { url: compile("url", &rules.url)?, code: compile("code", &rules.code)? })
    }

    /// Whether there is nothing to look for.
    pub fn is_idle(&self) -> bool {
        self.url.is_none() && self.code.is_none()
    }

    /// The last address, hyperlink and code on the screen. Lines that the *terminal* wrapped are joined in the look; those that the
    /// *program* broke within an address are joined here.
    pub fn look(&self, look: &Look) -> Found {
        let text = joined::joined(&look.lines, look.width);
        let grows_at_end =
            look.cursor_in_text || look.lines.last().is_some_and(|line| joined::is_full(line, look.width));
        let piece = |pattern: &Regex| last_match(pattern, &text, grows_at_end);
        let url = self.url.as_ref().and_then(piece).filter(|url| web_host(&url.text).is_some());
        let link = self.url.as_ref().and_then(|pattern| last_link(pattern, &look.links));
        let code = self.code.as_ref().and_then(piece);
        let code =
            code.filter(|code| code.text.chars().count() <= CODE_CHARS_MAX && !code.text.chars().any(char::is_control));
        Found { url, link, code }
    }
}

fn last_match(pattern: &Regex, text: &[String], grows_at_end: bool) -> Option<Piece> {
    let (at, found) =
        text.iter().enumerate().rev().find_map(|(at, line)| Some((at, pattern.captures_iter(line).last()?)))?;
    let group = found.get(1).or_else(|| found.get(0))?;
    let at_end = at + 1 == text.len() && group.end() == text[at].len();
    Some(Piece { text: group.as_str().trim().to_owned(), may_grow: at_end && grows_at_end })
}

/// A hyperlink that begins as the pattern says; the pattern need not reach its end.
fn last_link(pattern: &Regex, links: &[String]) -> Option<String> {
    let fits = |link: &&String| {
        let begins = pattern.captures(link).and_then(|found| Some(found.get(1).or_else(|| found.get(0))?.start() == 0));
        begins == Some(true) && web_host(link).is_some()
    };
    links.iter().rev().find(fits).cloned()
}

/// A line for people: an address loses its query and fragment, anything that looks like a token is masked.
pub fn masked(line: &str) -> String {
    line.split_inclusive(char::is_whitespace).map(mask_word).collect()
}

fn mask_word(word: &str) -> String {
    let word = match (word.contains("://"), word.find(['?', '#'])) {
        (true, Some(query)) => format!("{}?…{}", &word[..query], trailing_blank(word)),
        (_, _) => word.to_owned(),
    };
    let mut out = String::new();
    let mut run = String::new();
    for c in word.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '=') {
            run.push(c);
            continue;
        }
        let digits = run.chars().any(|c| c.is_ascii_digit());
        let letters = run.chars().any(|c| c.is_ascii_alphabetic());
        out.push_str(if run.len() >= TOKEN_CHARS_MIN && digits && letters { "•••" } else { &run });
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn trailing_blank(word: &str) -> &str {
    &word[word.trim_end().len()..]
}

#[cfg(test)]
mod tests;
