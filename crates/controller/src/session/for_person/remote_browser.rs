//! What keeps a person from acting in the remote browser: its page is being opened, or the gate does not let the browser reach it. The hosts
//! that a browser requests of its own accord, and those of parts of a page, are left out: only the page's own host counts.

use super::{SituationInput, host_situation};
use crate::session::{
    active_session::{MachineHost, MachineSignIn},
    egress_faults::EgressFault,
};
use anteroom_wire::{
    Problem,
    agent::BrowserPageState,
    provider::Lane,
    situation::{GOOGLE_MAY_REFUSE, IfPageRefuses, PersonAction, Situation},
};
use std::time::Duration;

/// The gate and the agent report independently: a request can be recorded this long after the page that it belongs to.
const LATE: Duration = Duration::from_secs(2);
/// The host of Google's pages for signing in.
const GOOGLE_PAGE: &str = "accounts.google.com";

impl<'a> SituationInput<'a> {
    /// What keeps the person from acting in the remote browser, and the host of the page; `None`: nothing, or the method does not use it.
    pub(in crate::session) fn remote_browser(&self) -> Option<(Situation, &'a str)> {
        let sign_in = self.sign_in()?;
        if !self.has_lane(Lane::Desktop) {
            return None;
        }
        let Some(page) = &sign_in.page else {
            // The browser was not asked to open a page, or the machine does not report it.
            let fault = self.sign_in_page_hosts().find_map(|host| self.egress_faults.of_host(&host))?;
            return Some((page_situation(fault), fault.host.as_str()));
        };
        let fault = self.egress_faults.of_host(&page.host);
        let reported_at = page.reported.at;
        match page.state {
            BrowserPageState::NotOpened => Some((Situation::PageNotOpened, page.host.as_str())),
            BrowserPageState::Opening => match fault.filter(|fault| fault.at >= reported_at) {
                Some(fault) => Some((page_situation(fault), fault.host.as_str())),
                None => Some((Situation::PageOpening, page.host.as_str())),
            },
            BrowserPageState::Shown => {
                let fault = fault.filter(|fault| fault.at <= reported_at + LATE)?;
                Some((page_situation(fault), fault.host.as_str()))
            }
        }
    }

    /// The same where the person can sign in only there.
    pub(super) fn only_page(&self) -> Option<(Situation, Option<&'a str>)> {
        let has_own = self.has_lane(Lane::Link) || self.has_lane(Lane::DeviceCode);
        let is_first = self.provider.is_some_and(|provider| provider.lanes.first() == Some(&Lane::Desktop));
        let (situation, host) = self.remote_browser().filter(|_| is_first && !has_own)?;
        Some((situation, Some(host)))
    }

    /// A tool whose code is entered elsewhere asks the provider for the result: without a connection it never learns of it.
    pub(super) fn code_is_not_polled(&self) -> Option<(Situation, Option<&'a str>)> {
        let reported = &self.sign_in()?.reported_status;
        reported.device_code.as_ref()?;
        let host = host_of(&reported.url.as_ref()?.url)?;
        self.egress_faults.of_host(&host).map(host_situation)
    }

    /// What to do if the page refuses: Google's page in the remote browser where the same tool can be signed in from the person's own one,
    /// else what the descriptor says about the method.
    pub(in crate::session) fn if_page_refuses(
        &self,
        situation: Situation,
        other_methods: &[String],
    ) -> Option<IfPageRefuses> {
        let is_open = matches!(situation, Situation::ToolStarting | Situation::YourTurn);
        let provider = self.provider.filter(|_| is_open)?;
        let page = self.sign_in().and_then(|sign_in| sign_in.page.as_ref());
        let is_google = page.is_some_and(|page| page.host.eq_ignore_ascii_case(GOOGLE_PAGE));
        if is_google && self.has_lane(Lane::Desktop) && (self.has_lane(Lane::Link) || self.has_lane(Lane::DeviceCode)) {
            return Some(IfPageRefuses { sentence: GOOGLE_MAY_REFUSE.to_owned(), method: None, in_own_browser: true });
        }
        let hint = provider.if_refused.as_ref()?;
        let method = hint.method.as_ref().map(ToString::to_string).filter(|method| other_methods.contains(method));
        Some(IfPageRefuses { sentence: hint.sentence.clone(), method, in_own_browser: false })
    }

    /// Whether the machine's browser cannot show the page of the sign-in.
    pub(super) fn is_desktop_cut_off(&self) -> bool {
        let is_page = matches!(self.remote_browser(), Some((situation, _)) if situation != Situation::PageOpening);
        let hosts = self.provider.map_or(&[][..], |provider| &provider.sign_in_hosts);
        let is_sign_in_host = |fault: &EgressFault| {
            let includes = |is_https| hosts.iter().any(|host| host.includes(is_https, &fault.host, fault.port));
            includes(true) || includes(false)
        };
        is_page || self.egress_faults.present().any(is_sign_in_host)
    }

    /// The other methods with which the person can go on.
    pub(in crate::session) fn other_methods(&self) -> Vec<String> {
        let present = self.provider.map(|provider| provider.method.to_string());
        let is_cut_off = self.is_desktop_cut_off();
        let others = self.methods.iter().filter(|method| Some(&method.id) != present.as_ref());
        let open = others.filter(|method| !(is_cut_off && method.lanes.first() == Some(&Lane::Desktop)));
        open.map(|method| method.id.clone()).collect()
    }

    /// What the person can do about the page, the recommended action first.
    pub(in crate::session) fn page_actions(&self, situation: Situation) -> Vec<PersonAction> {
        let has_address = self.sign_in().is_some_and(|sign_in| {
            sign_in.reported_status.url.is_some() || sign_in.reported_status.browser_url.is_some()
        });
        let helps = !matches!(situation, Situation::PageDenied | Situation::DataUsedUp);
        let again = (has_address && helps).then_some(PersonAction::ReopenPage);
        let start = (situation == Situation::DataUsedUp).then_some(PersonAction::StartSession);
        let other = (!self.other_methods().is_empty() && situation != Situation::PageOpening)
            .then_some(PersonAction::ChangeMethod);
        again.into_iter().chain(start).chain(other).collect()
    }

    fn sign_in(&self) -> Option<&'a MachineSignIn> {
        self.machine.filter(|machine| machine.host != MachineHost::External).map(|machine| &machine.sign_in)
    }

    fn has_lane(&self, lane: Lane) -> bool {
        self.provider.is_some_and(|provider| provider.lanes.contains(&lane))
    }

    /// The hosts of the addresses that the tool has shown.
    fn sign_in_page_hosts(&self) -> impl Iterator<Item = String> + use<'a> {
        let reported = self.sign_in().map(|sign_in| &sign_in.reported_status);
        let browser_url = reported.and_then(|reported| reported.browser_url.as_deref());
        let url = reported.and_then(|reported| reported.url.as_ref()).map(|found| found.url.as_str());
        browser_url.into_iter().chain(url).filter_map(host_of)
    }
}

/// The host of an address, in lower case.
fn host_of(address: &str) -> Option<String> {
    url::Url::parse(address).ok()?.host_str().map(str::to_owned)
}

fn page_situation(fault: &EgressFault) -> Situation {
    if fault.is_unreachable() {
        Situation::PageUnreachable
    } else if fault.problem == Problem::EgressLimit {
        Situation::DataUsedUp
    } else {
        Situation::PageDenied
    }
}
