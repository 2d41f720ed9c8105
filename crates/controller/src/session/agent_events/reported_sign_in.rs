//! Applies what a guest reports about its sign-in to the session's state, after checking it against the provider's descriptor: an
//! address by its host, a code by its rule, a prompt by its id. The texts that a user sees are the descriptor's.

use crate::session::{
    active_session::{MachineSignIn, Moment, SignInChange},
    sign_in_address::SignInAddress,
};
use anteroom_wire::{
    GuestText,
    agent::{
        BrowserPage, BrowserPageState, KEY_ENTRY_PROMPT_ID, PasteResult, SignInEvent, SignInStatus, SignInUrl,
        UrlSource,
    },
    provider::{LinkFrom, Provider},
};
use regex_lite::Regex;
use tokio::time::Instant;

/// The most characters of a device code.
pub const CODE_CHARS_MAX: usize = 64;

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is recorded on the timeline.
    Recorded,
    /// It adds nothing: a more complete address is known already, or the same was recorded before.
    Repeated,
    /// It does not fit to the provider's descriptor.
    Rejected,
}

/// Applies a report to the state of the machine's sign-in.
pub(super) fn apply(sign_in: &mut MachineSignIn, provider: &Provider, event: &SignInEvent) -> Applied {
    match event {
        SignInEvent::MethodSwitched { method } => sign_in.reset_for_method(method),
        SignInEvent::Url(url) => return apply_url(sign_in, provider, url),
        SignInEvent::DeviceCode { code } => return apply_code(sign_in, provider, code),
        SignInEvent::PromptOpened { id, ask } => match ask {
            Some(ask) if is_question(provider, &ask.id) && ask.id == *id => {
                sign_in.reported_status.prompt = Some(ask.clone());
                sign_in.is_answered = false;
            }
            None if is_prompt(provider, id) => {}
            Some(_) | None => return Applied::Rejected,
        },
        SignInEvent::PromptClosed { id } => {
            if !is_question(provider, id) {
                return Applied::Rejected;
            }
            if sign_in.reported_status.prompt.as_ref().is_some_and(|open| open.id == *id) {
                sign_in.reported_status.prompt = None;
            }
        }
        SignInEvent::KeysPressed { id, .. } => {
            if !is_prompt(provider, id) {
                return Applied::Rejected;
            }
        }
        SignInEvent::PasteAccepted(pasted) => return apply_paste(sign_in, provider, pasted),
        SignInEvent::Outcome(outcome) => {
            sign_in.reported_status.outcome = Some(outcome.clone());
            sign_in.ended_at.get_or_insert_with(Instant::now);
            sign_in.is_answered = false;
        }
        SignInEvent::PasteRejected { .. } => {}
        SignInEvent::BrowserOpening { host } => return apply_page(sign_in, host, BrowserPageState::Opening),
        SignInEvent::BrowserOpened { host } => return apply_page(sign_in, host, BrowserPageState::Shown),
        SignInEvent::BrowserNotOpened { host, .. } => return apply_page(sign_in, host, BrowserPageState::NotOpened),
    }
    Applied::Recorded
}

fn apply_paste(sign_in: &mut MachineSignIn, provider: &Provider, pasted: &PasteResult) -> Applied {
    match pasted {
        PasteResult::Prompt { id } if !is_prompt(provider, id) => return Applied::Rejected,
        // Only this server interprets a text so.
        PasteResult::Setting { .. } => return Applied::Rejected,
        PasteResult::Prompt { .. } | PasteResult::Callback { .. } | PasteResult::Stdin | PasteResult::Terminal => {
            sign_in.is_answered |= pasted.is_answer();
        }
    }
    Applied::Recorded
}

fn apply_page(sign_in: &mut MachineSignIn, host: &GuestText, state: BrowserPageState) -> Applied {
    if sign_in.set_page(BrowserPage { host: host.clone(), state }) { Applied::Recorded } else { Applied::Repeated }
}

fn apply_url(sign_in: &mut MachineSignIn, provider: &Provider, url: &SignInUrl) -> Applied {
    let Some(address) = SignInAddress::check(provider, &url.url) else { return Applied::Rejected };
    let change = sign_in.changes.observe(&url.url);
    if change == SignInChange::Refused {
        return Applied::Rejected;
    }
    let reported = &mut sign_in.reported_status;
    match address {
        SignInAddress::Unexpected(origin) => sign_in.unexpected_origin = Some(origin),
        SignInAddress::Named(address) => {
            // A text on the screen may be a shorter form of the address that the browser got.
            if reported.url.as_ref().is_some_and(|known| url.source < known.source) {
                return Applied::Repeated;
            }
            let is_from_url_opener = url.source == UrlSource::BrowserCommand;
            if is_from_url_opener {
                reported.browser_url = Some(address.clone());
            }
            if !(is_from_url_opener && provider.sign_in.link_from == LinkFrom::Screen) {
                reported.url = Some(SignInUrl { url: address, source: url.source });
            }
        }
    }
    if change != SignInChange::New {
        return Applied::Repeated;
    }
    sign_in.is_answered = false;
    sign_in.clear_failure();
    Applied::Recorded
}

fn apply_code(sign_in: &mut MachineSignIn, provider: &Provider, code: &GuestText) -> Applied {
    let change = sign_in.changes.observe(code);
    if change == SignInChange::Refused || !is_code(provider, code) {
        return Applied::Rejected;
    }
    sign_in.reported_status.device_code = Some(code.clone());
    sign_in.device_code_at = Some(Moment::now());
    if change != SignInChange::New {
        return Applied::Repeated;
    }
    sign_in.is_answered = false;
    sign_in.clear_failure();
    Applied::Recorded
}

/// Replaces the state by what an agent reports as a whole, after a restart of the server.
pub fn replace_status(sign_in: &mut MachineSignIn, provider: &Provider, status: SignInStatus) {
    let mut checked = status;
    if let Some(page) = checked.browser_page.take() {
        sign_in.set_page(page);
        sign_in.page_time = None;
    }
    checked.device_code = checked.device_code.filter(|code| is_code(provider, code));
    checked.prompt = checked.prompt.filter(|prompt| is_question(provider, &prompt.id));
    let mut named = |address: String| match SignInAddress::check(provider, &address)? {
        SignInAddress::Named(address) => Some(address),
        SignInAddress::Unexpected(origin) => {
            sign_in.unexpected_origin = Some(origin);
            None
        }
    };
    checked.url = checked.url.and_then(|found| Some(SignInUrl { url: named(found.url)?, source: found.source }));
    checked.browser_url = checked.browser_url.and_then(named);
    sign_in.reported_status = checked;
}

/// Whether the provider has a prompt of this id that the user answers.
fn is_question(provider: &Provider, id: &GuestText) -> bool {
    (*id == KEY_ENTRY_PROMPT_ID && provider.key_entry.is_some()) || provider.questions().any(|(known, _)| *id == known)
}

/// Whether the provider has a prompt of this id.
fn is_prompt(provider: &Provider, id: &GuestText) -> bool {
    is_question(provider, id) || provider.prompts.iter().any(|rule| *id == rule.id)
}

/// Whether the code is one that the provider's rule can find.
fn is_code(provider: &Provider, code: &GuestText) -> bool {
    let pattern = provider.sign_in.code.as_deref().map(|pattern| first_group(pattern).unwrap_or(pattern));
    let pattern = pattern.and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
    code.chars().count() <= CODE_CHARS_MAX && pattern.is_some_and(|pattern| pattern.is_match(code))
}

/// The pattern of the first capturing group.
fn first_group(pattern: &str) -> Option<&str> {
    let (mut start, mut depth, mut in_class, mut escaped) = (None, 0_u32, false, false);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => {
                depth += 1;
                let rest = pattern.get(at + 1..)?;
                let captures = !rest.starts_with('?') || rest.starts_with("?P<") || rest.starts_with("?<");
                if start.is_none() && captures {
                    let name_end = if rest.starts_with('?') { rest.find('>')? + 1 } else { 0 };
                    start = Some((at + 1 + name_end, depth));
                }
            }
            ')' => {
                if let Some((from, opened)) = start
                    && opened == depth
                {
                    return pattern.get(from..at);
                }
                depth = depth.checked_sub(1)?;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, providers::Providers};
    use anteroom_wire::agent::OpenPrompt;

    fn provider(id: &str) -> Provider {
        Providers::load(&Config::default()).unwrap().get(&id.parse().unwrap()).unwrap().clone()
    }

    fn url(source: UrlSource, url: &str) -> SignInEvent {
        SignInEvent::Url(SignInUrl { source, url: url.into() })
    }

    #[test]
    fn the_pattern_of_a_code_is_the_rules_first_group() {
        for (pattern, group) in [
            (r"enter code ([A-Z0-9]{4}-[A-Z0-9]{4})", Some("[A-Z0-9]{4}-[A-Z0-9]{4}")),
            (r"(?m)^\s*(?:a|b)\(([A-Z](?:x)[()])\s*$", Some("[A-Z](?:x)[()]")),
            (r"(?P<code>[A-Z]+)", Some("[A-Z]+")),
            ("[A-Z]+", None),
        ] {
            assert_eq!(first_group(pattern), group, "{pattern}");
        }
    }

    #[test]
    fn a_code_must_have_the_form_of_the_providers_codes() {
        let codex = provider("codex");
        for (code, is_valid) in [
            ("ABCD-12345", true),
            ("CALL +1 555 0100 NOW", false),
            ("abcd-12345", false),
            ("ABCD-12345\u{1b}[31m", false),
        ] {
            assert_eq!(is_code(&codex, &code.into()), is_valid, "{code}");
        }
        assert!(!is_code(&provider("claude_code"), &"ABCD-12345".into()), "this tool has no codes");
    }

    #[test]
    fn a_prompt_that_the_descriptor_does_not_name_is_rejected() {
        let claude = provider("claude_code");
        let mut sign_in = MachineSignIn::default();
        let opened = |id: &str| {
            let ask = OpenPrompt {
                id: id.into(),
                label: "Your Google password".into(),
                secret: true,
                expected_format: None,
                rejection: None,
            };
            SignInEvent::PromptOpened { id: id.into(), ask: Some(ask) }
        };
        assert_eq!(apply(&mut sign_in, &claude, &opened("password")), Applied::Rejected);
        assert_eq!(apply(&mut sign_in, &claude, &opened(KEY_ENTRY_PROMPT_ID)), Applied::Rejected, "no key is entered");
        assert_eq!(sign_in.reported_status.prompt, None);
        assert_eq!(apply(&mut sign_in, &claude, &opened("paste_code")), Applied::Recorded);
        assert!(sign_in.reported_status.prompt.is_some());
    }

    #[test]
    fn an_unexpected_address_replaces_no_address_of_the_provider() {
        let claude = Provider { sign_in: Default::default(), ..provider("claude_code") };
        let mut sign_in = MachineSignIn::default();
        let good = "https://claude.ai/oauth/authorize?code=true";
        assert_eq!(apply(&mut sign_in, &claude, &url(UrlSource::BrowserCommand, good)), Applied::Recorded);
        let evil = url(UrlSource::BrowserCommand, "https://claude.ai.evil.example/");
        assert_eq!(apply(&mut sign_in, &claude, &evil), Applied::Recorded);
        assert_eq!(apply(&mut sign_in, &claude, &evil), Applied::Repeated, "one entry for each address");
        assert_eq!(apply(&mut sign_in, &claude, &url(UrlSource::Screen, "javascript:1")), Applied::Rejected);
        let shorter = url(UrlSource::Screen, "https://claude.ai/oauth/authorize");
        assert_eq!(apply(&mut sign_in, &claude, &shorter), Applied::Repeated);
        assert_eq!(sign_in.reported_status.url.unwrap().url, good);
        assert_eq!(sign_in.unexpected_origin.unwrap(), "claude.ai.evil.example");
    }

    #[test]
    fn the_changes_of_addresses_and_codes_are_limited() {
        let claude = provider("claude_code");
        let mut sign_in = MachineSignIn::default();
        let applied = (0..1_000)
            .map(|n| apply(&mut sign_in, &claude, &url(UrlSource::Hyperlink, &format!("https://claude.ai/{n}"))));
        let recorded = applied.filter(|applied| *applied == Applied::Recorded).count();
        assert_eq!(recorded, crate::session::active_session::SIGN_IN_CHANGES_MAX);
    }
}
