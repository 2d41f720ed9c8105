//! What a tool says about its own failure, in its last lines or in the reason that a rule of its descriptor found.
//!
//! The last line that names a cause counts: a tool prints its verdict at the end, after attempts that failed before.

use super::timeline_view::{TimelineView, data_last_lines, data_number, data_text};
use anteroom_store::TimelineRow;
use anteroom_wire::{
    TimelineKind,
    diagnosis::Verdict,
    provider::{Provider, SignInRules},
};
use regex_lite::Regex;
use std::sync::LazyLock;

/// A cause that tools name.
#[derive(Debug)]
struct NamedCause {
    verdict: Verdict,
    /// A clause after "because".
    because: &'static str,
    /// The texts that name it, in small letters.
    pattern: LazyLock<Option<Regex>>,
}

macro_rules! named_cause {
    ($verdict:ident, $because:expr, $pattern:literal) => {
        NamedCause {
            verdict: Verdict::$verdict,
            because: $because,
            pattern: LazyLock::new(|| Regex::new($pattern).ok()),
        }
    };
}

const DECLINED: &str = "access was declined at the provider";
const EXPIRED: &str = "its code was no longer valid";
const ACCOUNT_REFUSED: &str = "the provider does not let this account use it";

/// OAuth's error codes (RFC 6749 §4.1.2.1 and §5.2, RFC 8628 §3.5), and the words of TLS libraries and of the C library.
static CAUSES: [NamedCause; 5] = [
    named_cause!(SignInDeclined, DECLINED, r"access_denied|authorization_declined"),
    named_cause!(
        CodeExpired,
        EXPIRED,
        r"expired_token|invalid_grant|\bcode\b.{0,40}\bexpired\b|\bexpired\b.{0,20}\bcode\b|device (auth\w*|code|login|flow).{0,20}timed out|\b(authorization|authentication|sign-?in|log-?in) timed out"
    ),
    named_cause!(
        CertificateNotValidNow,
        "the dates of a certificate do not include the present time of this host's clock",
        r"not yet valid|not valid yet|not_yet_valid|notvalidyet|certificate.{0,20}expired|cert_has_expired"
    ),
    named_cause!(
        UnknownAuthority,
        "a certificate is by an authority that the machine does not trust",
        r"unknown ?issuer|unknown[ _](certificate[ _])?(authority|ca)\b|authority_invalid|self[ _-]signed[ _]cert|unable[ _]to[ _]get[ _](local[ _])?issuer|unable[ _]to[ _]verify[ _](the[ _]first|leaf)"
    ),
    named_cause!(
        GuestDiskFull,
        "no space was left on a disk of the machine",
        r"no space left on device|enospc|disk quota exceeded"
    ),
];

/// Words of a line about a connection.
static CONNECTION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"connect|network|fetch|reach|resolv|proxy|tunnel|tim(ed|e) ?out|dns|socket|hostname|unavailable|offline|internet|enotfound|econn|eai_again|sending request|dial tcp|\b(403|407|502|503|504)\b",
    )
    .ok()
});

/// A failure of the tool that its own words explain.
#[derive(Debug)]
pub(super) struct ExplainedFailure<'a> {
    pub(super) verdict: Verdict,
    pub(super) because: &'static str,
    /// The exit of the tool, or its report of a failure.
    pub(super) entry: &'a TimelineRow,
    /// The exit code; `None`: the tool still runs.
    pub(super) code: Option<i64>,
}

/// How a tool names causes in its own way: the patterns of its descriptor, of all methods.
#[derive(Debug, Clone, Default)]
pub struct ToolWords<'a> {
    /// The user declined.
    pub declined: Vec<&'a str>,
    /// The code is no longer valid.
    pub expired: Vec<&'a str>,
    /// The provider does not let the account use the tool.
    pub account_refused: Vec<&'a str>,
}

impl<'a> ToolWords<'a> {
    /// The words of a provider's tool.
    pub fn of(provider: &'a Provider) -> Self {
        let methods = provider.methods.values().filter_map(|method| method.sign_in.as_ref());
        let rules: Vec<&SignInRules> = std::iter::once(&provider.sign_in).chain(methods).collect();
        Self {
            declined: rules.iter().filter_map(|rules| rules.declined.as_deref()).collect(),
            expired: rules.iter().filter_map(|rules| rules.expired.as_deref()).collect(),
            account_refused: rules.iter().filter_map(|rules| rules.account_refused.as_deref()).collect(),
        }
    }

    /// The patterns, each with its verdict and a clause after "because".
    fn patterns(&self) -> Vec<(Regex, Verdict, &'static str)> {
        // The refusal of an account names its reason; a provider may report it as declined or expired.
        let causes = [
            (&self.account_refused, Verdict::AccountRefused, ACCOUNT_REFUSED),
            (&self.declined, Verdict::SignInDeclined, DECLINED),
            (&self.expired, Verdict::CodeExpired, EXPIRED),
        ];
        let of_cause = |(patterns, verdict, because): (&Vec<&'a str>, Verdict, &'static str)| {
            let compiled: Vec<_> = patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect();
            compiled.into_iter().map(move |pattern| (pattern, verdict, because))
        };
        causes.into_iter().flat_map(of_cause).collect()
    }
}

/// The last failure of the tool, if its own words name the cause.
pub(super) fn explain_failure<'a>(
    timeline: &TimelineView<'a>,
    exit: Option<(&'a TimelineRow, i64)>,
    words: &ToolWords<'_>,
) -> Option<ExplainedFailure<'a>> {
    let reported = last_report(timeline);
    let (entry, code) = match exit {
        Some((_, 0)) => return None,
        Some((exit, code)) => (exit, Some(code)),
        None => (reported?, None),
    };
    let own = words.patterns();
    let mut lines = reported.map(|entry| data_text(entry, "why")).into_iter().collect::<Vec<_>>();
    lines.extend(data_last_lines(entry));
    lines.into_iter().rev().find_map(|line| {
        let (verdict, because) = cause_in_line(line, &own)?;
        Some(ExplainedFailure { verdict, because, entry, code })
    })
}

/// The cause that the last of these lines names which names one.
pub(in crate::session) fn named_cause(text: &str, words: &ToolWords<'_>) -> Option<Verdict> {
    let own = words.patterns();
    text.lines().rev().find_map(|line| cause_in_line(line, &own)).map(|(verdict, _)| verdict)
}

fn cause_in_line(line: &str, own: &[(Regex, Verdict, &'static str)]) -> Option<(Verdict, &'static str)> {
    let text = line.to_lowercase();
    let is_named = |cause: &&NamedCause| cause.pattern.as_ref().is_some_and(|pattern| pattern.is_match(&text));
    let by_descriptor = own.iter().find(|(pattern, ..)| pattern.is_match(line));
    let by_descriptor = by_descriptor.map(|(_, verdict, because)| (*verdict, *because));
    by_descriptor.or_else(|| CAUSES.iter().find(is_named).map(|cause| (cause.verdict, cause.because)))
}

/// The tool's report of a failure in its present run, unless it has shown something to act on since.
fn last_report<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let is_progress = |entry: &&TimelineRow| {
        matches!(
            entry.kind,
            TimelineKind::CliStarted
                | TimelineKind::MethodSwitched
                | TimelineKind::SignInUrl
                | TimelineKind::DeviceCode
                | TimelineKind::PromptOpened
                | TimelineKind::ToolSignedIn
                | TimelineKind::CandidateAccepted
                | TimelineKind::ToolFailed
        )
    };
    timeline.machine.iter().rfind(is_progress).filter(|entry| entry.kind == TimelineKind::ToolFailed)
}

/// Whether the last lines of a tool speak of a connection; if it printed none, a connection can be the cause too.
pub(super) fn may_concern_a_connection(exit: &TimelineRow) -> bool {
    let lines = data_last_lines(exit);
    let is_connection = |line: &&str| {
        // An address that the tool showed is no statement about a connection.
        let words = line.split_whitespace().filter(|word| !word.contains("://")).collect::<Vec<_>>().join(" ");
        CONNECTION.as_ref().is_some_and(|pattern| pattern.is_match(&words.to_lowercase()))
    };
    lines.is_empty() || lines.iter().any(is_connection)
}

/// The exit code of a shell that does not find the command, and of one that may not execute it.
const COMMAND_NOT_FOUND: [i64; 2] = [127, 126];

/// Whether the entry says that the tool's program could not be started: the agent's report without an exit code, or a shell's exit
/// code with its sentence.
pub(super) fn is_program_missing(entry: &TimelineRow, cli: &str) -> bool {
    let code = data_number(entry, "code");
    if entry.kind == TimelineKind::ChildExited {
        return code.is_none() && (cli.is_empty() || data_text(entry, "name") == cli);
    }
    let words = ["not found", "no such file or directory", "permission denied", "cannot execute"];
    let says_so = |line: &str| words.iter().any(|word| line.to_lowercase().contains(word));
    entry.kind == TimelineKind::CliExited
        && code.is_some_and(|code| COMMAND_NOT_FOUND.contains(&code))
        && data_last_lines(entry).into_iter().any(says_so)
}
