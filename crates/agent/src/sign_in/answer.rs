//! The answer to a tool's question in a text that a user pastes: a code with the words around it in a mail, or the address of the page that
//! shows it.

use super::{
    callback::{CallbackUrl, is_sign_in_page},
    pasted_text::{clean, half_of_doubled, is_wrapper, unwrap, without_blanks, words},
    tool,
};
use crate::api_error::ApiError;
use anteroom_wire::{Problem, Secret, provider::PromptQuestion};

/// A line that a program broke has at least this many characters.
const BROKEN_LINE_CHARS_MIN: usize = 16;
/// The most pieces of a code that was copied with blanks in it.
const PIECES_MAX: usize = 8;

/// The answer that matches the question's pattern.
///
/// # Errors
/// [`Problem::WrongAnswer`] with the expected format, [`Problem::WrongCallback`], [`Problem::SignInPagePasted`].
pub(crate) fn matching_answer(text: &str, question: &PromptQuestion, known_urls: &[&str]) -> Result<Secret, ApiError> {
    if is_sign_in_page(text, known_urls) {
        return Err(ApiError::new(Problem::SignInPagePasted, ""));
    }
    if let Some(answer) = find_answer(text, question.pattern.as_deref(), known_urls).map_err(ApiError::internal)? {
        return Ok(answer);
    }
    if is_of_another_sign_in(text, known_urls) {
        return Err(ApiError::new(Problem::WrongCallback, "not the same as in this sign-in: state"));
    }
    Err(ApiError::new(Problem::WrongAnswer, question.expected_format.clone().unwrap_or_default()))
}

/// The part of the text that matches all of the pattern: the text itself, the only word that does, or the code in the address of the page
/// that shows it. Without a pattern the whole text is the answer.
///
/// # Errors
/// The pattern is not a regular expression.
pub(crate) fn find_answer(
    text: &str,
    pattern: Option<&str>,
    known_urls: &[&str],
) -> Result<Option<Secret>, regex_lite::Error> {
    let matches = |answer: &str| {
        let is_plain = !answer.is_empty() && !answer.chars().any(char::is_control);
        tool::matches_pattern(pattern, answer).map(|matches| matches && is_plain)
    };
    let text = text.trim();
    if pattern.is_none() {
        return Ok(matches(text)?.then(|| Secret::new(text.to_owned())));
    }
    let cleaned = clean(text);
    let cleaned = unwrap(&cleaned);
    let whole = [half_of_doubled(text), Some(text), half_of_doubled(cleaned), Some(cleaned)];
    for answer in whole.into_iter().flatten() {
        if matches(answer)? {
            return Ok(Some(Secret::new(answer.to_owned())));
        }
    }
    let is_another = is_of_another_sign_in(text, known_urls);
    let in_addresses = codes_in_addresses(cleaned).into_iter().filter(|_| !is_another);
    for answer in broken_lines(cleaned).into_iter().chain(in_addresses) {
        if matches(&answer)? {
            return Ok(Some(Secret::new(answer)));
        }
    }
    if is_another {
        return Ok(None);
    }
    Ok(only_matching_word(cleaned, &matches)?.map(|answer| Secret::new(answer.to_owned())))
}

/// The only word that matches; of several, the only one that is no plain word. If none matches, all words joined, unless they are a sentence.
fn only_matching_word<E>(cleaned: &str, matches: &impl Fn(&str) -> Result<bool, E>) -> Result<Option<String>, E> {
    let mut found: Vec<&str> = Vec::new();
    for word in words(cleaned).filter(|word| !is_address(word)) {
        // Also without the label before it and the full stop after it.
        let bare = unwrap(word.trim_end_matches(|c: char| is_wrapper(c) || c == '.'));
        let labelled = bare.rsplit_once([':', '=']).map(|(_, value)| unwrap(value));
        let forms = [Some(word), Some(bare), labelled];
        for form in forms.into_iter().flatten() {
            let form = half_of_doubled(form).unwrap_or(form);
            if matches(form)? {
                if !found.contains(&form) {
                    found.push(form);
                }
                break;
            }
        }
    }
    if found.len() > 1 {
        found.retain(|word| !is_plain_word(word));
    }
    let pieces: Vec<&str> = words(cleaned).collect();
    let joined = without_blanks(cleaned);
    match found[..] {
        [only] => {
            // Without words before it, what follows may be the rest of it.
            let may_continue = cleaned.starts_with(only) && pieces.iter().any(|piece| *piece != only);
            return Ok(if may_continue && matches(&joined)? { None } else { Some(only.to_owned()) });
        }
        [] => {}
        _ => return Ok(None),
    }
    let is_sentence = pieces.iter().any(|piece| is_plain_word(piece) || is_address(piece));
    let may_join = (2..=PIECES_MAX).contains(&pieces.len()) && !is_sentence;
    Ok(if may_join && matches(&joined)? { Some(joined) } else { None })
}

/// A word of a sentence, in which no code is expected.
fn is_plain_word(word: &str) -> bool {
    let mut chars = word.chars();
    let first = chars.next().is_some_and(char::is_alphabetic);
    first
        && chars.next().is_some()
        && word.chars().skip(1).all(|c| c.is_lowercase() || matches!(c, '-' | '.' | '\'' | ':'))
}

fn is_address(word: &str) -> bool {
    word.contains("://") || word.contains('@') || word.starts_with("www.")
}

/// A code that a program broke into lines of one length.
fn broken_lines(cleaned: &str) -> Option<String> {
    let lines: Vec<&str> = cleaned.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (last, others) = lines.split_last().filter(|(_, others)| !others.is_empty())?;
    let length = others.first()?.len();
    let is_broken = length >= BROKEN_LINE_CHARS_MIN
        && others.iter().all(|line| line.len() == length)
        && last.len() <= length
        && lines.iter().all(|line| !line.contains(' '))
        && !others.contains(last);
    is_broken.then(|| lines.concat())
}

/// `code#state` and `code` of each address or query in the text.
fn codes_in_addresses(cleaned: &str) -> Vec<String> {
    let mut codes = Vec::new();
    for query in queries(cleaned) {
        let Some(address) = CallbackUrl::parse(&query) else { continue };
        let Some(code) = address.query_value("code") else { continue };
        codes.extend(address.query_value("state").map(|state| format!("{code}#{state}")));
        codes.push(code);
    }
    codes
}

/// Whether an address or a query in the text has a `state` that no address of the sign-in has.
fn is_of_another_sign_in(text: &str, known_urls: &[&str]) -> bool {
    let expected: Vec<_> = known_urls.iter().filter_map(|url| CallbackUrl::parse(url)?.query_value("state")).collect();
    let mut states = queries(&clean(text)).into_iter().filter_map(|query| {
        let address = CallbackUrl::parse(&query)?;
        address.query_value("code").and(address.query_value("state"))
    });
    !expected.is_empty() && states.any(|state| !expected.contains(&state))
}

/// The addresses and queries in the text that have a code, each as an address. The text may be one that was broken into lines.
fn queries(cleaned: &str) -> Vec<String> {
    let joined = without_blanks(cleaned);
    let is_one =
        cleaned.contains("://") && words(cleaned).skip(1).all(|word| !is_plain_word(word) && !is_address(word));
    let joined = is_one.then_some(unwrap(&joined));
    let all = joined.into_iter().chain(words(cleaned)).filter(|word| word.contains("code="));
    let with_host = all.filter_map(|word| match word.split_once('?') {
        Some((_, query)) => Some(query),
        None if word.contains("://") => None,
        None => Some(word),
    });
    with_host.map(|query| format!("https://page.invalid/?{}", query.trim_start_matches(['&', '#', '?']))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &[
        "https://a.example/authorize?state=the-state&redirect_uri=https%3A%2F%2Fa.example%2Fcode",
        "https://a.example/z-opaque",
    ];

    fn question(pattern: Option<&str>) -> PromptQuestion {
        let expected_format = Some("A code with a # in the middle".into());
        PromptQuestion {
            label: "The code".into(),
            secret: false,
            pattern: pattern.map(Into::into),
            expected_format,
            rejected: None,
        }
    }

    fn answer(text: &str, pattern: Option<&str>) -> Result<String, ApiError> {
        matching_answer(text, &question(pattern), KNOWN).map(|answer| answer.expose().to_owned())
    }

    #[test]
    fn answer_must_match_the_whole_pattern() {
        let pattern = Some(r"[A-Za-z0-9_-]+#[A-Za-z0-9_-]+");
        assert_eq!(answer("abc#def", pattern).unwrap(), "abc#def");
        assert_eq!(answer("anything at all", None).unwrap(), "anything at all");
        let error = answer("abc", pattern).unwrap_err();
        assert_eq!((error.problem, error.detail.as_str()), (Problem::WrongAnswer, "A code with a # in the middle"));
        assert_eq!(answer("abc#def ghi", pattern).unwrap_err().problem, Problem::WrongAnswer);
    }

    #[test]
    fn url_of_the_page_that_shows_the_code_contains_the_answer() {
        let page = "https://a.example/code/callback?code=ab%2Fc&state=the-state";
        assert_eq!(answer(page, Some(r"[a-z/]+#[a-z-]+")).unwrap(), "ab/c#the-state");
        assert_eq!(answer(page, Some(r"[a-z/]{4}")).unwrap(), "ab/c");
        assert_eq!(answer(page, Some("[0-9]+")).unwrap_err().problem, Problem::WrongAnswer);
        assert_eq!(answer(page, None).unwrap(), page, "without a pattern every text is the answer");
        let no_state = "https://a.example/code/callback?code=abc";
        assert_eq!(answer(no_state, Some("[a-z]+")).unwrap(), "abc");
        let line_feed = "https://a.example/code/callback?code=ab%0Ac&state=the-state";
        assert_eq!(answer(line_feed, Some(r"[\s\S]+c")).unwrap_err().problem, Problem::WrongAnswer);
    }

    #[test]
    fn page_of_another_sign_in_is_rejected() {
        let page = "https://a.example/code/callback?code=abc&state=of-yesterday";
        let error = answer(page, Some(r"[a-z]+#[a-z-]+")).unwrap_err();
        assert_eq!(error.problem, Problem::WrongCallback);
        assert!(error.detail.contains("state") && !error.detail.contains("yesterday"), "{}", error.detail);
    }

    #[test]
    fn r04_a_code_is_found_among_the_words_around_it() {
        let halves = Some(r"[A-Za-z0-9_-]{3,}#[A-Za-z0-9_-]{3,}");
        for text in [
            "abc1#def2",
            " abc1#def2\n",
            "\"abc1#def2\"",
            "<abc1#def2>",
            "“abc1#def2”.",
            "abc1#def2abc1#def2",
            "abc1#def2 abc1#def2",
            "abc1#def2\nabc1#def2",
            "Your code is abc1#def2.",
            "Code: abc1#def2 (valid for ten minutes)",
            "code:abc1#def2",
            "abc1&num;def2",
            "abc1&#35;def2",
            "\u{200b}abc1#def2\u{feff}",
            "abc1#\ndef2",
            "https://a.example/code/callback?code=abc1&state=def2",
            "a.example/code/callback?code=abc1&amp;state=def2",
            "<https://a.example/code/callback?code=abc1&state=def2>",
            "?code=abc1&state=def2",
            "code=abc1&state=def2",
            "Look: https://a.example/code?code=abc1&state=def2 is the page",
        ] {
            let found = matching_answer(text, &question(halves), &["https://a.example/login?state=def2"]);
            assert_eq!(found.map(|answer| answer.expose().to_owned()).ok().as_deref(), Some("abc1#def2"), "{text:?}");
        }
        let google = Some("[A-Za-z0-9_/.-]{16,}");
        for text in [
            "4/0AbCdEfGhIjKlMnOp",
            "4/0AbCdEfGhIjKlMnOp4/0AbCdEfGhIjKlMnOp",
            "Please copy this code: 4/0AbCdEfGhIjKlMnOp",
            "Hello,\nyour authorization code for internationalization is\n\n   4/0AbCdEfGhIjKlMnOp\n\nThe team (team@mail.example.com)",
            "4/0AbCdEfGhI jKlMnOp",
            "https://codeassist.google.com/authcode?code=4%2F0AbCdEfGhIjKlMnOp&scope=x",
        ] {
            assert_eq!(answer(text, google).ok().as_deref(), Some("4/0AbCdEfGhIjKlMnOp"), "{text:?}");
        }
        let broken = "4/0AbCdEfGhIjKlMnOpQ\nrStUvWxYz0123456789a\nbc";
        assert_eq!(answer(broken, google).ok(), Some(broken.replace('\n', "")));
        assert_eq!(answer("123 456", Some("[0-9]{6}")).ok().as_deref(), Some("123456"));
    }

    #[test]
    fn r04_a_text_without_one_code_is_not_an_answer() {
        let google = Some("[A-Za-z0-9_/.-]{16,}");
        for text in [
            "hello there my friend",
            "https://www.example/some/long/path/of/a/page",
            "4/0AbCdEfGhIjKlMnOp or 4/0ZyXwVuTsRqPoNmLk",
            "ada.lovelace@mail.example.com",
        ] {
            assert_eq!(answer(text, google).unwrap_err().problem, Problem::WrongAnswer, "{text:?}");
        }
        for url in KNOWN {
            let as_answer = matching_answer(url, &question(None), KNOWN);
            assert_eq!(as_answer.unwrap_err().problem, Problem::SignInPagePasted, "{url}");
        }
        let claude = "https://a.example/cai/authorize?code=true&client_id=1&state=the-state";
        let known = ["https://a.example/cai/authorize?code=true&state=the-state"];
        let error = matching_answer(claude, &question(Some("[a-z]+#[a-z-]+")), &known).unwrap_err();
        assert_eq!(error.problem, Problem::SignInPagePasted);
    }
}
