//! How the screen of a sign-in is read.

use serde::{Deserialize, Serialize};

/// How the sign-in address and a device code are found on the terminal's screen (wrapped lines are joined).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInRules {
    /// Regular expression; group 1, or the complete match, is the address.
    #[serde(default)]
    pub url: Option<String>,
    /// Regular expression; group 1, or the complete match, is the device code.
    #[serde(default)]
    pub code: Option<String>,
    /// The lifetime of a device code, seconds.
    #[serde(default)]
    pub code_s_max: Option<u64>,
    /// The source of the link for the user's own browser. The machine's browser always gets what the tool passed to `BROWSER`.
    #[serde(default)]
    pub link_from: LinkFrom,
    /// The path of the tool's OAuth callback on the machine's loopback (`/callback`); the port is in the address's `redirect_uri`.
    /// Absent: the tool has no callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_path: Option<String>,
    /// Regular expression on the screen: the tool shows that it is signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Regular expression on the screen: the tool shows that the sign-in failed; group 1, or the complete match, is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Regular expression on that reason and on the last lines of the tool: the user declined. OAuth's `access_denied` always counts.
    /// Not sent to the agent; see [`Provider::for_agent`](super::Provider::for_agent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<String>,
    /// Regular expression on the same texts: the code expired or was used already. OAuth's `expired_token` and `invalid_grant` always count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<String>,
    /// Regular expression on the same texts: the provider does not let this account use the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_refused: Option<String>,
}

/// The source of the link for the user's own browser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkFrom {
    /// The address that the tool passed to `BROWSER`, otherwise a hyperlink (OSC 8) or text on the screen.
    #[default]
    Any,
    /// Only the screen: the address passed to `BROWSER` works only in the machine.
    Screen,
}
