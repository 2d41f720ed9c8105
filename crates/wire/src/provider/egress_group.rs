//! Hosts that the sign-in pages of an account service need together, so that a descriptor names the service and not each host.

use super::{EgressRule, Lane, Provider};
use serde::{Deserialize, Serialize};

/// An account service whose sign-in pages the machine's browser may have to show. Only names, only port 443.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressGroup {
    /// Google accounts.
    GoogleSignIn,
    /// Microsoft accounts, of organisations and personal.
    MicrosoftSignIn,
    /// Apple accounts.
    AppleSignIn,
    /// GitHub accounts.
    GithubSignIn,
}

impl EgressGroup {
    /// All groups.
    pub const ALL: [Self; 4] = [Self::GoogleSignIn, Self::MicrosoftSignIn, Self::AppleSignIn, Self::GithubSignIn];

    /// Its name in descriptors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GoogleSignIn => "google_sign_in",
            Self::MicrosoftSignIn => "microsoft_sign_in",
            Self::AppleSignIn => "apple_sign_in",
            Self::GithubSignIn => "github_sign_in",
        }
    }

    /// Its hosts, each with what the browser needs it for. The first ones, up to [`EgressGroup::pages`], are the pages.
    pub fn hosts(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::GoogleSignIn => &[
                ("accounts.google.com", "the page of the sign-in with a Google account"),
                ("accounts.youtube.com", "the end of the sign-in with a Google account passes through it"),
                ("www.google.com", "the check for robots on the page of Google"),
                ("ssl.gstatic.com", "images and scripts of the page of Google"),
                ("www.gstatic.com", "images and scripts of the page of Google"),
                ("fonts.gstatic.com", "fonts of the page of Google"),
                ("fonts.googleapis.com", "styles of the fonts of the page of Google"),
                ("lh3.googleusercontent.com", "the picture of the Google account"),
            ],
            Self::MicrosoftSignIn => &[
                ("login.microsoftonline.com", "the page of the sign-in with a Microsoft account of an organisation"),
                ("login.live.com", "the page of the sign-in with a personal Microsoft account"),
                ("account.live.com", "the confirmation of a personal Microsoft account"),
                ("aadcdn.msauth.net", "scripts and styles of the page for organisations"),
                ("aadcdn.msftauth.net", "scripts and styles of the page for organisations"),
                ("logincdn.msauth.net", "scripts and styles of the page for personal accounts"),
                ("logincdn.msftauth.net", "scripts and styles of the page for personal accounts"),
                ("aadcdn.msauthimages.net", "the pictures of the organisation on its page"),
                ("aadcdn.msftauthimages.net", "the pictures of the organisation on its page"),
            ],
            Self::AppleSignIn => &[
                ("appleid.apple.com", "the page of the sign-in with an Apple account"),
                ("idmsa.apple.com", "the form on the page of Apple, which checks the password"),
                ("appleid.cdn-apple.com", "scripts and styles of the page of Apple"),
                ("www.apple.com", "fonts of the page of Apple"),
            ],
            Self::GithubSignIn => &[
                ("github.com", "the page of the sign-in with a GitHub account. It also serves repositories"),
                (
                    "github.githubassets.com",
                    "scripts and styles of the page of GitHub (\"GitHub Assets\" in its documentation \"Configuring your proxy server or firewall for Copilot\")",
                ),
                ("avatars.githubusercontent.com", "the picture of the account (\"Avatars\" in the same documentation)"),
            ],
        }
    }

    /// The hosts that nothing but this sign-in needs and that show a page: a descriptor that lists one needs the whole group. A tool may
    /// need `github.com` without a browser.
    fn pages(self) -> &'static [&'static str] {
        match self {
            Self::GoogleSignIn => &["accounts.google.com"],
            Self::MicrosoftSignIn => &["login.microsoftonline.com", "login.live.com"],
            Self::AppleSignIn => &["appleid.apple.com"],
            Self::GithubSignIn => &["github.githubassets.com"],
        }
    }
}

impl Provider {
    /// The descriptor with the hosts of its groups in `egress`. A host that is listed already is not listed twice.
    #[must_use]
    pub fn with_egress_groups(mut self) -> Self {
        for group in std::mem::take(&mut self.egress_groups) {
            for (host, reason) in group.hosts() {
                if !self.egress.iter().any(|rule| rule.allows(host, 443)) {
                    let reason = format!("The browser: {reason}.");
                    self.egress.push(EgressRule { host: (*host).to_owned(), ports: Vec::new(), reason });
                }
            }
        }
        self
    }

    /// Groups of which the machine's browser can open the page and not all that the page needs, with the hosts that are missing.
    pub fn incomplete_egress_groups(&self) -> Vec<(EgressGroup, Vec<&'static str>)> {
        let methods = self.method_labels().into_iter().filter_map(|(name, _)| self.with_method(name));
        if !methods.into_iter().any(|method| method.lanes.contains(&Lane::Desktop)) {
            return Vec::new();
        }
        let grants = |host: &str| self.egress.iter().any(|rule| rule.allows(host, 443));
        let missing = |group: EgressGroup| {
            let hosts = group.hosts().iter().map(|(host, _)| *host);
            hosts.filter(|host| !grants(host)).collect::<Vec<_>>()
        };
        let has_page = |group: &EgressGroup| group.pages().iter().any(|host| grants(host));
        let groups = EgressGroup::ALL.into_iter().filter(has_page).map(|group| (group, missing(group)));
        groups.filter(|(_, missing)| !missing.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(lane: &str, egress: &str) -> Provider {
        let text = format!(
            r#"
            id = "x"
            name = "X"
            cli = "x"
            argv = ["x"]
            lanes = ["{lane}"]
            next_action = "Do."
            policy = "store"
            credential = {{ paths = ["x"], required = ["/a"] }}
            {egress}
            "#
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn r11_a_group_grants_each_of_its_hosts_once_and_only_at_port_443() {
        let grouped = provider(
            "desktop",
            r#"egress_groups = ["microsoft_sign_in", "google_sign_in"]
            egress = [{ host = "login.live.com", reason = "Mine." }]"#,
        )
        .with_egress_groups();
        let hosts: Vec<_> = grouped.egress.iter().map(|rule| rule.host.as_str()).collect();
        for host in [
            "login.microsoftonline.com",
            "login.live.com",
            "aadcdn.msauth.net",
            "aadcdn.msftauth.net",
            "logincdn.msauth.net",
            "logincdn.msftauth.net",
            "aadcdn.msauthimages.net",
            "aadcdn.msftauthimages.net",
            "accounts.google.com",
        ] {
            assert_eq!(hosts.iter().filter(|listed| **listed == host).count(), 1, "{host} in {hosts:?}");
        }
        assert!(grouped.egress_groups.is_empty() && grouped.egress[0].reason == "Mine.");
        assert!(grouped.egress.iter().all(|rule| rule.ports.is_empty() && !rule.reason.is_empty()));
        assert_eq!(grouped.validation_errors(), Vec::<String>::new());
        assert_eq!(grouped.incomplete_egress_groups(), []);
    }

    #[test]
    fn r11_a_page_without_the_hosts_that_it_needs_is_named() {
        let egress = r#"egress = [{ host = "login.live.com" }, { host = "login.microsoftonline.com" }, { host = "github.com" }]"#;
        let [(group, missing)] = &provider("desktop", egress).incomplete_egress_groups()[..] else {
            panic!("one group")
        };
        assert_eq!(group.as_str(), "microsoft_sign_in");
        assert!(missing.contains(&"aadcdn.msauth.net") && !missing.contains(&"login.live.com"), "{missing:?}");
        assert_eq!(provider("terminal", egress).incomplete_egress_groups(), [], "no browser of the machine");
    }

    #[test]
    fn r11_names_of_groups_are_those_of_descriptors() {
        for group in EgressGroup::ALL {
            assert_eq!(serde_json::to_value(group).unwrap(), group.as_str());
        }
    }
}
