//! Finds addresses and codes on the terminal's screen, and masks what must not be told.

use anteroom_wire::provider::SignInRules;
use regex_lite::Regex;

/// The longest address.
pub(crate) const URL_BYTES_MAX: usize = 8 * 1024;
const CODE_CHARS_MAX: usize = 64;
/// Runs of letters and digits from this length on look like a token.
const TOKEN_CHARS_MIN: usize = 20;

/// The host of a web address that may be opened: `http` or `https`, up to 8 KiB, no blanks or control characters.
pub(crate) fn web_host(url: &str) -> Option<String> {
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
pub(crate) struct Finder {
    url: Option<Regex>,
    code: Option<Regex>,
}

/// What stands on a screen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) url: Option<String>,
    pub(crate) code: Option<String>,
}

impl Finder {
    /// Fails on a pattern that is none; says which.
    pub(crate) fn new(rules: &SignInRules) -> Result<Self, String> {
        let compile = |name: &str, pattern: &Option<String>| {
            let compiled = pattern.as_deref().map(Regex::new).transpose();
            compiled.map_err(|error| format!("sign_in.{name} is not a regular expression: {error}"))
        };
        Ok(Self { url: compile("url", &rules.url)?, code: compile("code", &rules.code)? })
    }

    /// Whether there is anything to look for.
    pub(crate) fn is_idle(&self) -> bool {
        self.url.is_none() && self.code.is_none()
    }

    /// Looks at `lines` of a terminal `width` columns wide; the last of several counts. Lines that the *terminal* wrapped
    /// are already joined; those that the *program* broke at the last column are joined here.
    pub(crate) fn look(&self, lines: &[String], width: usize) -> Found {
        let text = joined(lines, width);
        let url = self.url.as_ref().and_then(|pattern| last_match(pattern, &text));
        let url = url.filter(|url| web_host(url).is_some());
        let code = self.code.as_ref().and_then(|pattern| last_match(pattern, &text));
        let code = code.filter(|code| code.chars().count() <= CODE_CHARS_MAX && !code.chars().any(char::is_control));
        Found { url, code }
    }
}

fn last_match(pattern: &Regex, text: &[String]) -> Option<String> {
    let found = text.iter().rev().find_map(|line| pattern.captures_iter(line).last())?;
    let group = found.get(1).or_else(|| found.get(0))?;
    Some(group.as_str().trim().to_owned())
}

/// A program that lays out its own lines breaks a long address exactly at the last column.
fn joined(lines: &[String], width: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let begins_plain = line.chars().next().is_some_and(|c| !c.is_whitespace());
        match out.last_mut() {
            Some(last) if goes_on && begins_plain => last.push_str(line),
            Some(_) | None => out.push(line.clone()),
        }
        let ends_in_address = out
            .last()
            .is_some_and(|last| last.rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://")));
        goes_on = width > 0 && line.chars().count() == width && ends_in_address;
    }
    out
}

/// A line for people: an address loses its query and fragment, anything that looks like a token is masked.
pub(crate) fn masked(line: &str) -> String {
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
mod tests {
    use super::*;

    fn finder() -> Finder {
        let rules = SignInRules {
            url: Some(r"https://\S+".into()),
            code: Some(r"one-time code:? +([A-Z0-9]{4}-[A-Z0-9]{4,5})".into()),
            ..SignInRules::default()
        };
        Finder::new(&rules).unwrap()
    }

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn an_address_and_a_code_are_found() {
        let screen = lines(&["Open https://a.example/device?x=1 and enter", "  your one-time code: AB12-CD345", ""]);
        let found = finder().look(&screen, 80);
        assert_eq!(found.url.as_deref(), Some("https://a.example/device?x=1"));
        assert_eq!(found.code.as_deref(), Some("AB12-CD345"));
    }

    #[test]
    fn an_address_that_the_program_broke_at_the_last_column_is_whole() {
        let url = format!("https://a.example/oauth?{}", "abcdefghij".repeat(6));
        let (one, two) = url.split_at(40);
        let (two, three) = two.split_at(40);
        let screen = lines(&[one, two, three, "", "Paste the code here"]);
        assert_eq!(finder().look(&screen, 40).url.as_deref(), Some(&url[..]));
        // A line that does not reach the last column ends the address.
        assert_eq!(
            finder().look(&lines(&["https://a.example/x", "Paste"]), 40).url.as_deref(),
            Some("https://a.example/x")
        );
        // A full line of prose takes nothing with it.
        let prose = lines(&["x".repeat(40).as_str(), "https://a.example/y"]);
        assert_eq!(finder().look(&prose, 40).url.as_deref(), Some("https://a.example/y"));
    }

    #[test]
    fn only_web_addresses_can_be_opened() {
        assert_eq!(web_host("https://u:p@A.example:8443/x?y#z").as_deref(), Some("a.example"));
        assert_eq!(web_host("http://[::1]:1/x").as_deref(), Some("::1"));
        for bad in [
            "file:///etc/passwd",
            "javascript://a/%0aalert(1)",
            "https://",
            "https:///x",
            "https://a b",
            "a",
            "https://a\n",
        ] {
            assert_eq!(web_host(bad), None, "{bad:?}");
        }
        assert_eq!(web_host(&format!("https://a/{}", "x".repeat(URL_BYTES_MAX))), None);
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let rules = SignInRules { url: Some("(".into()), ..SignInRules::default() };
        assert!(Finder::new(&rules).is_err_and(|error| error.contains("sign_in.url")));
    }

    #[test]
    fn queries_and_tokens_are_masked() {
        assert_eq!(masked("see https://a.example/x?code=secret now"), "see https://a.example/x?… now");
        assert_eq!(masked("token sk-ant-oat01-abcdefghijklmnop done"), "token ••• done");
        assert_eq!(
            masked("Login successful. Press Enter (internationalisation)"),
            "Login successful. Press Enter (internationalisation)"
        );
    }
}
