//! Finds addresses and codes on the terminal's screen, and masks secrets in text that is reported.

mod wrapped_lines;

use crate::{PatternError, ScreenSnapshot, compile_pattern};
use anteroom_wire::provider::SignInRules;
use regex_lite::Regex;
use wrapped_lines::JoinedLine;

/// The longest address, bytes.
pub const URL_BYTES_MAX: usize = 8 * 1024;
const CODE_CHARS_MAX: usize = 64;
/// A run of letters and digits of at least this length is masked as a token.
const TOKEN_CHARS_MIN: usize = 20;

/// The host of a web address that may be opened: `http` or `https`, up to 8 KiB, no blanks or control characters.
pub fn web_url_host(url: &str) -> Option<String> {
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

/// A provider's compiled patterns for address and code.
#[derive(Debug, Clone)]
pub struct SignInFinder {
    url: Option<Regex>,
    code: Option<Regex>,
}

/// What was found on a screen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FoundSignIn {
    /// The last address in the text.
    pub url: Option<ScreenMatch>,
    /// The last address that is the target of a hyperlink; never cut by the width of the screen.
    pub hyperlink_url: Option<String>,
    /// The last code.
    pub code: Option<ScreenMatch>,
}

/// A match in the text of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenMatch {
    /// The matched text.
    pub text: String,
    /// Nothing follows it, so the program may still be writing it.
    pub maybe_incomplete: bool,
}

impl SignInFinder {
    /// Compiles a provider's patterns.
    ///
    /// # Errors
    /// A pattern is not a regular expression.
    pub fn new(rules: &SignInRules) -> Result<Self, PatternError> {
        let url = compile_pattern("sign_in.url", rules.url.as_deref())?;
        Ok(Self { url, code: compile_pattern("sign_in.code", rules.code.as_deref())? })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.url.is_none() && self.code.is_none()
    }

    /// Finds the last address, hyperlink and code on the screen. Lines that the *terminal* wrapped are already joined in the
    /// snapshot; lines that the *program* broke within an address are joined here. An address that may be cut is not returned.
    pub fn find(&self, snapshot: &ScreenSnapshot) -> FoundSignIn {
        let lines = wrapped_lines::join_wrapped_lines(&snapshot.lines, snapshot.width);
        let grows_at_end = snapshot.cursor_in_text
            || snapshot.lines.last().is_some_and(|line| wrapped_lines::is_full_line(line, snapshot.width));
        let url_in = |lines: &[JoinedLine]| {
            let pattern = self.url.as_ref()?;
            let found = last_match(pattern, lines, grows_at_end)?;
            let text = whole_address(&found)?;
            Some(ScreenMatch { text: text.to_owned(), maybe_incomplete: found.maybe_incomplete })
        };
        let url = url_in(&lines).or_else(|| {
            // An address taller than the screen begins above it.
            let all = [&snapshot.above[..], &snapshot.lines].concat();
            (!snapshot.above.is_empty()).then(|| url_in(&wrapped_lines::join_wrapped_lines(&all, snapshot.width)))?
        });
        let url = url.filter(|url| web_url_host(&url.text).is_some());
        let link = self.url.as_ref().and_then(|pattern| last_link(pattern, &snapshot.links));
        let code = self.code.as_ref().and_then(|pattern| last_match(pattern, &lines, grows_at_end));
        let code = code.map(|code| ScreenMatch { text: code.text.to_owned(), maybe_incomplete: code.maybe_incomplete });
        let code =
            code.filter(|code| code.text.chars().count() <= CODE_CHARS_MAX && !code.text.chars().any(char::is_control));
        FoundSignIn { url, hyperlink_url: link, code }
    }
}

/// The last match of a pattern, and what is around it.
struct LineMatch<'a> {
    text: &'a str,
    /// What follows on the line.
    rest: &'a str,
    maybe_incomplete: bool,
    /// The line below may belong to it or not.
    is_ambiguous: bool,
}

fn last_match<'a>(pattern: &Regex, lines: &'a [JoinedLine], grows_at_end: bool) -> Option<LineMatch<'a>> {
    let (at, found) =
        lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, pattern.captures_iter(&line.text).last()?)))?;
    let line = &lines[at].text;
    let group = found.get(1).or_else(|| found.get(0))?;
    let at_end = at + 1 == lines.len() && group.end() == line.len();
    let (text, rest) = (line[group.start()..group.end()].trim(), &line[group.end()..]);
    let is_ambiguous = lines[at].is_ambiguous && rest.is_empty();
    Some(LineMatch { text, rest, maybe_incomplete: at_end && grows_at_end, is_ambiguous })
}

/// The address at the start of a match, without what closes the sentence around it. `None`: it may be cut.
fn whole_address<'a>(found: &LineMatch<'a>) -> Option<&'a str> {
    let end = found.text.find(|c| !is_address_char(c)).unwrap_or(found.text.len());
    let (address, rest) = found.text.split_at(end);
    let follows = rest.chars().chain(found.rest.chars()).next();
    let is_cut = follows.is_some_and(|c| c == '…' || wrapped_lines::is_border(c)) || address.ends_with("...");
    let address = trim_sentence(address);
    // `%`, or `%` and one digit.
    let in_escape = address.bytes().rev().take(2).any(|b| b == b'%');
    (!is_cut && !in_escape && !found.is_ambiguous).then_some(address)
}

/// Whether an address can contain `c` (RFC 3986; some programs leave other ASCII characters as they are).
fn is_address_char(c: char) -> bool {
    c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c)
}

/// `address` without punctuation and closing brackets of the text around it.
fn trim_sentence(address: &str) -> &str {
    let mut address = address;
    loop {
        let is_open = |open, close| address.matches(open).count() >= address.matches(close).count();
        let keeps = match address.chars().next_back() {
            Some(')') => is_open('(', ')'),
            Some(']') => is_open('[', ']'),
            Some('.' | ',' | ';' | ':' | '!' | '\'' | '*') => false,
            Some(_) | None => true,
        };
        if keeps {
            return address;
        }
        address = &address[..address.len() - 1];
    }
}

/// The last hyperlink whose start the pattern matches; the pattern need not match all of it.
fn last_link(pattern: &Regex, links: &[String]) -> Option<String> {
    let fits = |link: &&String| {
        let at_start =
            pattern.captures(link).and_then(|found| Some(found.get(1).or_else(|| found.get(0))?.start() == 0));
        at_start == Some(true) && web_url_host(link).is_some()
    };
    links.iter().rev().find(fits).cloned()
}

/// `line` with secrets masked: query and fragment of addresses are removed, anything that looks like a token becomes `•••`.
pub fn mask_secrets(line: &str) -> String {
    line.split_inclusive(char::is_whitespace).map(mask_word).collect()
}

fn mask_word(word: &str) -> String {
    // Control characters are dropped: one within a token or an address would hide it here, and is not shown where the text is.
    let word: String = word.chars().filter(|c| !c.is_control() || c.is_whitespace()).collect();
    let word = match (word.contains("://"), word.find(['?', '#'])) {
        (true, Some(query)) => format!("{}?…{}", &word[..query], trailing_blank(&word)),
        (_, _) => word,
    };
    let mut out = String::new();
    let mut run = String::new();
    for c in word.chars().map(Some).chain([None]) {
        if let Some(c) = c
            && (c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '='))
        {
            run.push(c);
            continue;
        }
        let digits = run.chars().any(|c| c.is_ascii_digit());
        let letters = run.chars().any(|c| c.is_ascii_alphabetic());
        out.push_str(if run.len() >= TOKEN_CHARS_MIN && digits && letters { "•••" } else { &run });
        run.clear();
        out.extend(c);
    }
    out
}

fn trailing_blank(word: &str) -> &str {
    &word[word.trim_end().len()..]
}

#[cfg(test)]
mod tests;
