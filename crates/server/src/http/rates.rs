//! Rates of requests: by caller and class of route, and for clients without a caller by address.
//!
//! Each class has a bucket of its own for each caller, so that requests of one class never delay those of another: a caller that starts
//! sessions too fast still reads their status.

use super::error_response::ErrorResponse;
use crate::peer::ClientAddress;
use anteroom_controller::{
    api_error::ApiError,
    caller::Caller,
    limits::{Rate, RateLimits},
};
use anteroom_store::Sha256Hex;
use anteroom_wire::{CallerId, Problem};
use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Valid credentials that are remembered: their holders are identified although others at their address failed too often.
pub(crate) const CREDENTIALS_REMEMBERED_MAX: usize = 4_096;
/// Requests after which buckets that are full again are removed.
const CLEANUP_EVERY: u32 = 4_096;

/// A class of routes whose requests share a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RouteClass {
    /// Everything that changes nothing and is in no other class.
    Read,
    /// Everything that changes something and is in no other class.
    Change,
    /// Starts of sessions.
    Start,
    /// Leases of credentials.
    Lease,
    /// Tickets, and the WebSockets that they open.
    Ticket,
    /// Event streams; the same route without a stream is `Read`.
    Stream,
    /// Logins, login links, and sign-in with the identity provider.
    Login,
    /// Support bundles.
    Bundle,
}

impl RouteClass {
    /// All classes.
    pub(crate) const ALL: [Self; 8] =
        [Self::Read, Self::Change, Self::Start, Self::Lease, Self::Ticket, Self::Stream, Self::Login, Self::Bundle];

    /// Its name in errors and documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
            Self::Start => "start",
            Self::Lease => "lease",
            Self::Ticket => "ticket",
            Self::Stream => "stream",
            Self::Login => "login",
            Self::Bundle => "bundle",
        }
    }

    pub(crate) fn rate(self, limits: &RateLimits) -> Rate {
        match self {
            Self::Read => limits.read,
            Self::Change => limits.change,
            Self::Start => limits.start,
            Self::Lease => limits.lease,
            Self::Ticket => limits.ticket,
            Self::Stream => limits.stream,
            Self::Login => limits.login,
            Self::Bundle => limits.bundle,
        }
    }
}

/// Whose requests share a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Caller(CallerId),
    /// Without a caller: an address, or a network of IPv6.
    Network(IpAddr),
}

/// The rate limits of all clients.
#[derive(Debug)]
pub struct Rates {
    classes: [DefaultKeyedRateLimiter<Client>; RouteClass::ALL.len()],
    failures: DefaultKeyedRateLimiter<IpAddr>,
    blocked: Mutex<HashMap<IpAddr, tokio::time::Instant>>,
    known: Mutex<KnownCredentials>,
    limits: RateLimits,
    requests: AtomicU32,
}

/// Hashes of the newest valid credentials.
#[derive(Debug, Default)]
struct KnownCredentials {
    hashes: HashSet<Sha256Hex>,
    oldest_first: VecDeque<Sha256Hex>,
}

/// A request that came too early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooManyRequests {
    what: &'static str,
    rate: Rate,
    retry_after: Duration,
}

impl Rates {
    /// No client has used anything yet.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            classes: RouteClass::ALL.map(|class| RateLimiter::keyed(quota(class.rate(&limits)))),
            failures: RateLimiter::keyed(quota(limits.failed_identification)),
            blocked: Mutex::default(),
            known: Mutex::default(),
            limits,
            requests: AtomicU32::new(0),
        }
    }

    /// Counts a request of a class. Requests over the operator's socket are not counted.
    ///
    /// # Errors
    /// It comes too early.
    pub(crate) fn check(
        &self,
        class: RouteClass,
        caller: Option<&Caller>,
        address: ClientAddress,
    ) -> Result<(), TooManyRequests> {
        let Some(network) = address.limited_network() else { return Ok(()) };
        self.clean_up();
        let client = caller.map_or(Client::Network(network), |caller| Client::Caller(caller.id.clone()));
        let limiter = &self.classes[class as usize];
        limiter.check_key(&client).map_err(|early| TooManyRequests {
            what: class.as_str(),
            rate: class.rate(&self.limits),
            retry_after: early.wait_time_from(limiter.clock().now()),
        })
    }

    /// Whether the request may be identified: not if too many from its address failed, unless its credential was valid before.
    ///
    /// # Errors
    /// It comes too early.
    pub(crate) fn check_identification(
        &self,
        address: ClientAddress,
        headers: &HeaderMap,
    ) -> Result<(), TooManyRequests> {
        let Some(network) = address.limited_network() else { return Ok(()) };
        let until = self.blocked.lock().get(&network).copied();
        let left = until.map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
        let Some(retry_after) = left.filter(|left| !left.is_zero()) else { return Ok(()) };
        let is_known = credential_hash(headers).is_none_or(|hash| self.known.lock().hashes.contains(&hash));
        let rate = self.limits.failed_identification;
        if is_known { Ok(()) } else { Err(TooManyRequests { what: "failed identification", rate, retry_after }) }
    }

    /// Remembers a valid credential.
    pub(crate) fn record_success(&self, headers: &HeaderMap) {
        let Some(hash) = credential_hash(headers) else { return };
        let mut known = self.known.lock();
        if known.hashes.insert(hash.clone()) {
            known.oldest_first.push_back(hash);
        }
        if known.oldest_first.len() > CREDENTIALS_REMEMBERED_MAX
            && let Some(oldest) = known.oldest_first.pop_front()
        {
            known.hashes.remove(&oldest);
        }
    }

    /// Counts a request whose token, cookie or ticket was not valid.
    pub(crate) fn record_failure(&self, address: ClientAddress) {
        let Some(network) = address.limited_network() else { return };
        if let Err(early) = self.failures.check_key(&network) {
            let until = tokio::time::Instant::now() + early.wait_time_from(self.failures.clock().now());
            self.blocked.lock().insert(network, until);
        }
    }

    /// Removes buckets that are full again, from time to time.
    fn clean_up(&self) {
        if self.requests.fetch_add(1, Relaxed).is_multiple_of(CLEANUP_EVERY) {
            for limiter in &self.classes {
                limiter.retain_recent();
            }
            self.failures.retain_recent();
            let now = tokio::time::Instant::now();
            self.blocked.lock().retain(|_, until| *until > now);
        }
    }
}

/// A hash of what identifies the caller: the `Authorization` and `Cookie` headers. `None`: the request has neither.
fn credential_hash(headers: &HeaderMap) -> Option<Sha256Hex> {
    let values = [header::AUTHORIZATION, header::COOKIE].map(|name| {
        let values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        values.collect::<Vec<_>>().join(&b'\n')
    });
    let is_empty = values.iter().all(Vec::is_empty);
    (!is_empty).then(|| Sha256Hex::of_bytes(&values.join(&b'\0')))
}

fn quota(rate: Rate) -> Quota {
    let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(number(rate.per_s)).allow_burst(number(rate.burst))
}

impl IntoResponse for TooManyRequests {
    fn into_response(self) -> Response {
        let Self { what, rate, retry_after } = self;
        let detail = format!("limit of the class {what:?}: {} requests a second, {} at once", rate.per_s, rate.burst);
        let mut response = ErrorResponse(ApiError::new(Problem::TooManyRequests, detail)).into_response();
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> ClientAddress {
        ClientAddress::Ip(IpAddr::from([192, 0, 2, last]))
    }

    fn bearer(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
    }

    #[test]
    fn every_class_has_its_own_bucket_for_each_client() {
        let limits = RateLimits { start: Rate { per_s: 1, burst: 2 }, ..RateLimits::default() };
        let rates = Rates::new(limits);
        let check = |class, last| rates.check(class, None, address(last)).is_ok();
        assert_eq!([(); 3].map(|()| check(RouteClass::Start, 1)), [true, true, false]);
        assert!(check(RouteClass::Start, 2), "another address");
        assert!(check(RouteClass::Read, 1), "another class");
        let early = rates.check(RouteClass::Start, None, address(1)).unwrap_err().into_response();
        assert_eq!(early.status().as_u16(), 429);
        assert_eq!(early.headers()[header::RETRY_AFTER], "1");
        for (index, class) in RouteClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index, "the order of the buckets");
        }
    }

    #[test]
    fn address_with_many_failures_is_blocked_except_for_credentials_that_were_valid() {
        let limits = RateLimits { failed_identification: Rate { per_s: 1, burst: 2 }, ..RateLimits::default() };
        let rates = Rates::new(limits);
        rates.record_success(&bearer("valid"));
        let check = |token: &str, last| rates.check_identification(address(last), &bearer(token)).is_ok();
        for _ in 0..2 {
            rates.record_failure(address(1));
            assert!(check("guess", 1));
        }
        rates.record_failure(address(1));
        assert!(!check("guess", 1) && check("valid", 1) && check("guess", 2));
        assert!(rates.check_identification(address(1), &HeaderMap::new()).is_ok(), "nothing is guessed");
    }
}
