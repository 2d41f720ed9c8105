//! On which host a session starts. Pure: no clock, no I/O.
//!
//! A host that is suitable and has room is drawn at random, four times, and the emptiest of the four is asked. To ask the emptiest of all
//! would send every session of a second to the same host, since what hosts know about each other is up to a heartbeat old. The host that
//! is asked takes the session or says why not, and what room it has then; nothing is reserved for it before, so nothing can be promised twice.

use crate::{Capacity, ClusterTimes, Heartbeat, HostLabels, Room, SplitMix64};
use anteroom_wire::HostId;
use std::{cmp::Ordering, collections::BTreeMap, fmt};

/// So many hosts are drawn.
const DRAWN_MAX: usize = 4;
/// A host keeps a session that was started at it while its load exceeds that of the best other host by no more than this.
const OWN_LOAD_PERCENT_MAX: u64 = 10;

/// What a session requires of its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRequest {
    /// Its zone, if one is required, and labels that it must have with these values.
    pub labels: HostLabels,
    /// The provider whose tool is used.
    pub provider: String,
    /// The machine image that is preferred, a digest.
    pub image: Option<String>,
    /// The version of the protocol between hosts that the asking host speaks.
    pub peer_protocol: u32,
}

/// A host as another one knows it.
#[derive(Debug, Clone, Copy)]
pub struct KnownHost<'a> {
    /// Its newest heartbeat.
    pub heartbeat: &'a Heartbeat,
    /// The room in its last answer to the asking host.
    pub room: Option<Room>,
    /// How long it is silent, milliseconds.
    pub silent_ms: u64,
    /// Sessions that the asking host has offered to it and that it has not answered yet.
    pub unanswered: u32,
}

impl KnownHost<'_> {
    /// Its capacity as the asking host reckons it.
    pub fn capacity(&self) -> Capacity {
        let answered = self.room.filter(|room| room.is_newer_than(self.heartbeat));
        let reported = answered.map_or(self.heartbeat.capacity, |room| room.capacity);
        Capacity { waiting: reported.waiting.saturating_add(self.unanswered), ..reported }
    }
}

/// Why a host was left out. The later the reason, the closer the host is to being suitable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOut {
    /// It speaks no protocol that this host speaks.
    OtherProtocol,
    /// It is in another zone.
    OtherZone,
    /// It lacks a label, or has another value of it.
    OtherLabels,
    /// The provider's tool is not in its image.
    NoTool,
    /// It takes no new sessions.
    Draining,
    /// Its last heartbeat is older than the renew deadline.
    Silent,
    /// It has no room.
    Full,
}

impl LeftOut {
    /// Whether the host may become suitable by itself, so that a session can wait for it.
    pub fn may_pass(self) -> bool {
        match self {
            Self::OtherProtocol | Self::OtherZone | Self::OtherLabels | Self::NoTool => false,
            Self::Draining | Self::Silent | Self::Full => true,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherProtocol => "no host with a compatible version",
            Self::OtherZone => "no host in that zone",
            Self::OtherLabels => "no host with these labels",
            Self::NoTool => "no host with that tool in its machine image",
            Self::Draining => "all suitable hosts are draining",
            Self::Silent => "the suitable hosts are silent",
            Self::Full => "no suitable host has room",
        })
    }
}

/// Whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement<'a> {
    /// At most four hosts, the best first.
    pub hosts: Vec<&'a HostId>,
    /// How many hosts were left out, by reason.
    pub left_out: BTreeMap<LeftOut, usize>,
}

impl Placement<'_> {
    /// Why there is no host: the reason of those that came closest. `None`: there is one, or the cluster has no hosts.
    pub fn no_host(&self) -> Option<LeftOut> {
        if self.hosts.is_empty() { self.left_out.keys().next_back().copied() } else { None }
    }
}

/// Chooses the hosts to ask for a session, the best first. `me` is the asking host, which may be among them.
pub fn place<'a>(
    known: impl IntoIterator<Item = KnownHost<'a>>,
    request: &HostRequest,
    me: &HostId,
    times: ClusterTimes,
    random: &mut SplitMix64,
) -> Placement<'a> {
    let mut placement = Placement::default();
    let mut suitable = Vec::new();
    for host in known {
        match left_out(host, request, times) {
            Some(reason) => *placement.left_out.entry(reason).or_default() += 1,
            None => suitable.push(host),
        }
    }
    let drawn = suitable.len().min(DRAWN_MAX);
    for at in 0..drawn {
        let other = at + random.below(suitable.len() - at);
        suitable.swap(at, other);
    }
    suitable.truncate(drawn);
    suitable.sort_by(|a, b| compare(a, b, request, me));
    placement.hosts = suitable.into_iter().map(|host| &host.heartbeat.host).collect();
    placement
}

/// Whether the host at which a session was started keeps it: to begin at once is better than to be spread a little more evenly.
pub fn keeps_session(own: Capacity, best: Capacity) -> bool {
    let (own_max, best_max) = (u64::from(own.machines_max), u64::from(best.machines_max));
    let excess_max = own_max * best_max * OWN_LOAD_PERCENT_MAX;
    own.has_room() && own.taken() * best_max * 100 <= best.taken() * own_max * 100 + excess_max
}

/// Why the host cannot take the session.
fn left_out(host: KnownHost<'_>, request: &HostRequest, times: ClusterTimes) -> Option<LeftOut> {
    let KnownHost { heartbeat, silent_ms, .. } = host;
    let has = |(name, value): (&String, &String)| heartbeat.labels.labels.get(name) == Some(value);
    // A version and the one before it speak to each other.
    let reasons = [
        (LeftOut::OtherProtocol, heartbeat.peer_protocol.abs_diff(request.peer_protocol) > 1),
        (LeftOut::OtherZone, request.labels.zone.is_some() && request.labels.zone != heartbeat.labels.zone),
        (LeftOut::OtherLabels, !request.labels.labels.iter().all(has)),
        (LeftOut::NoTool, !heartbeat.providers.contains(&request.provider)),
        (LeftOut::Draining, heartbeat.draining),
        (LeftOut::Silent, silent_ms > times.renew_deadline_ms()),
        (LeftOut::Full, !host.capacity().has_room()),
    ];
    reasons.into_iter().find_map(|(reason, applies)| applies.then_some(reason))
}

/// The emptier host is first, then the asking host, then one with the preferred image.
fn compare(a: &KnownHost<'_>, b: &KnownHost<'_>, request: &HostRequest, me: &HostId) -> Ordering {
    // (taken + 1) / machines_max, without a division.
    let load = |of: Capacity, other: Capacity| (of.taken() + 1) * u64::from(other.machines_max);
    let (of_a, of_b) = (a.capacity(), b.capacity());
    let (a, b) = (a.heartbeat, b.heartbeat);
    let is_other = |of: &Heartbeat| of.host != *me;
    let has_other_image = |of: &Heartbeat| request.image.as_ref().is_some_and(|image| *image != of.image);
    load(of_a, of_b)
        .cmp(&load(of_b, of_a))
        .then_with(|| is_other(a).cmp(&is_other(b)))
        .then_with(|| has_other_image(a).cmp(&has_other_image(b)))
        .then_with(|| a.host.cmp(&b.host))
}

#[cfg(test)]
mod tests;
