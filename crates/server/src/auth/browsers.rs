//! Browsers that are signed in. A cookie is accepted only with the key of its browser, which only pages of this server's origin have:
//! browsers send cookies to every port of a host, and to whatever is on a host later.

use super::{Auth, CSRF_HEADER, cookie_header};
use anteroom_controller::{api_error::ApiError, caller::Caller, unix_time};
use anteroom_store::{BrowserRow, NewBrowser, Role, Sha256Hex, StoreError};
use anteroom_wire::{CallerId, Problem};
use axum::http::{HeaderMap, HeaderValue, header};

/// Length of a browser's key: 256 bits as hex digits.
const KEY_CHARS: usize = 64;
/// Browsers in one list.
pub(crate) const BROWSERS_MAX: u32 = 200;

/// What a browser sends about itself when it signs in.
#[derive(Debug, Clone)]
pub struct BrowserInfo {
    /// The hash of its key.
    pub key: Sha256Hex,
    /// The browser and its operating system, for people.
    pub description: String,
    /// The client's address.
    pub address: String,
    /// Where the page is shown.
    pub context: PageContext,
}

/// Where a page is shown, which decides the cookie that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageContext {
    /// In a tab or window of its own.
    TopLevel,
    /// In a frame of another site, which the settings permit.
    Embedded,
}

impl PageContext {
    /// The attributes of the cookie, beginning with `; `. Browsers send a `SameSite=Strict` cookie to no frame of another site; a
    /// partitioned one only to frames of the same site (CHIPS).
    fn cookie_attributes(self, auth: &Auth) -> &'static str {
        match self {
            Self::TopLevel if auth.addresses.is_https() => "; SameSite=Strict; Secure",
            Self::TopLevel => "; SameSite=Strict",
            // Browsers accept `Secure` on loopback without TLS.
            Self::Embedded => "; SameSite=None; Secure; Partitioned",
        }
    }
}

impl BrowserInfo {
    /// From a login request of a page in a tab of its own.
    ///
    /// # Errors
    /// The key is not 64 hex digits.
    pub fn new(key: &str, headers: &HeaderMap, address: String) -> Result<Self, ApiError> {
        if key.len() != KEY_CHARS || !key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ApiError::new(Problem::Malformed, "browser_key must be 64 characters of 0-9 and a-f"));
        }
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("");
        Ok(Self {
            key: Sha256Hex::of_bytes(key.as_bytes()),
            description: describe(agent),
            address,
            context: PageContext::TopLevel,
        })
    }
}

/// The names of browser and operating system in a `User-Agent` header. Several names occur in the headers of others, so the order
/// matters.
fn describe(agent: &str) -> String {
    let find = |names: &[(&str, &'static str)]| {
        names.iter().find(|(part, _)| agent.contains(part)).map_or("unknown", |(_, name)| name)
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iOS"),
        ("iPad", "iPadOS"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    format!("{browser} on {system}")
}

/// Signs a browser in as this caller, which exists and was made with a link.
///
/// # Errors
/// The database cannot be written.
pub async fn sign_in(auth: &Auth, caller: CallerId, info: BrowserInfo) -> Result<(), StoreError> {
    let BrowserInfo { key, description, address, context: _ } = info;
    let now_ms = unix_time::now_unix_ms();
    let new = NewBrowser { caller, key, description, address, person: None, confirmed_at_ms: now_ms, now_ms };
    auth.store.create_browser(&new).await
}

/// Whether the request comes from the browser that signed in as this caller, and that was used recently. Records the use.
///
/// # Errors
/// The database cannot be used.
pub(super) async fn is_own_browser(auth: &Auth, headers: &HeaderMap, caller: &CallerId) -> Result<bool, StoreError> {
    let Some(browser) = auth.store.get_browser(caller).await? else { return Ok(false) };
    let now = unix_time::now_unix_ms();
    let key = headers.get(CSRF_HEADER).map(|key| Sha256Hex::of_bytes(key.as_bytes()));
    if browser.person.is_some_and(|person| auth.issuer.as_deref() != Some(person.issuer.as_str())) {
        return Ok(false);
    }
    if key.as_ref() != Some(&browser.key) || now > browser.last_used_at_ms.saturating_add(auth.browser_idle_ms_max) {
        return Ok(false);
    }
    auth.store.record_browser_use(caller, browser.last_used_at_ms, now).await?;
    Ok(true)
}

/// The browsers that the caller may list and sign out: those of the same person, or, after a login link, those that signed in
/// with a link and the same role. Helpers of a session are different people: each has only its own browser. Empty if the caller is not a
/// browser.
///
/// # Errors
/// The database cannot be read.
pub async fn list_own_browsers(auth: &Auth, caller: &Caller) -> Result<Vec<BrowserRow>, StoreError> {
    let Some(current) = auth.store.get_browser(&caller.id).await? else { return Ok(Vec::new()) };
    let now = unix_time::now_unix_ms();
    let used_after = now.saturating_sub(auth.browser_idle_ms_max);
    let mut browsers = auth.store.list_browsers(current.person.as_ref(), now, used_after, BROWSERS_MAX).await?;
    browsers.retain(|browser| match &current.role {
        _ if current.person.is_some() => true,
        Role::Helper(_) => browser.caller == current.caller,
        Role::Operator | Role::Auditor | Role::Backend | Role::User | Role::Viewer(_) => browser.role == current.role,
    });
    Ok(browsers)
}

/// Signs a browser out: its cookie is not accepted any more.
///
/// # Errors
/// It is not the caller's own, or the database cannot be used.
pub async fn sign_out(auth: &Auth, caller: &Caller, id: &CallerId) -> Result<(), ApiError> {
    let own = list_own_browsers(auth, caller).await?;
    if !own.iter().any(|browser| browser.caller == *id) {
        return Err(ApiError::new(Problem::NotOwner, "it is not one of your browsers that are signed in"));
    }
    auth.store.revoke_caller(id, unix_time::now_unix_ms()).await?;
    auth.live_callers.check_soon();
    Ok(())
}

/// Requires that the person confirmed recently that it is present, if the caller is a browser: a browser that was left alone must not
/// hand out secrets.
///
/// # Errors
/// The last sign-in is too long ago, or the database cannot be read.
pub async fn require_confirmation(auth: &Auth, caller: &Caller) -> Result<(), ApiError> {
    match auth.store.get_browser(&caller.id).await? {
        Some(browser) => require_recent_confirmation(auth, &browser),
        None => Ok(()),
    }
}

/// As [`require_confirmation`], but only of people who signed in with the OpenID provider: they can confirm at any time. A viewer's
/// browser would need a new link.
///
/// # Errors
/// The last confirmation is too long ago, or the database cannot be read.
pub async fn require_confirmation_of_person(auth: &Auth, caller: &Caller) -> Result<(), ApiError> {
    let browser = auth.store.get_browser(&caller.id).await?;
    browser
        .filter(|browser| browser.person.is_some())
        .map_or(Ok(()), |browser| require_recent_confirmation(auth, &browser))
}

fn require_recent_confirmation(auth: &Auth, browser: &BrowserRow) -> Result<(), ApiError> {
    if unix_time::now_unix_ms() <= browser.confirmed_at_ms.saturating_add(auth.confirmation_ms_max) {
        return Ok(());
    }
    let detail = format!("the last sign-in must be at most {} s ago", auth.confirmation_ms_max / 1_000);
    Err(ApiError::new(Problem::ConfirmationRequired, detail))
}

/// The value of `Set-Cookie` that sets or, with an empty token and no lifetime, deletes a browser's cookie.
///
/// # Errors
/// The name or token is not a valid header value.
pub(crate) fn set_cookie(
    auth: &Auth,
    name: &str,
    token: &str,
    lifetime_s: u64,
    context: PageContext,
) -> Result<HeaderValue, ApiError> {
    let (name, attributes) = (cookie_header::full_name(auth, name), context.cookie_attributes(auth));
    let header = format!("{name}={token}; Path=/; Max-Age={lifetime_s}; HttpOnly{attributes}");
    HeaderValue::from_str(&header).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_are_described_by_browser_and_system() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "Chrome on Linux",
            ),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox on Windows"),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1",
                "Safari on iOS",
            ),
            ("<script>", "unknown on unknown"),
        ] {
            assert_eq!(describe(agent), expected, "{agent}");
        }
    }
}
