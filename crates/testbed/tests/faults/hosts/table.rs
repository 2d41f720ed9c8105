//! The table of expected results: one row for each fault, one cell for each phase of a session.

use super::fixture::Phase;
use crate::document;
use std::fmt::Write as _;

/// What becomes of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The same phase, the same machine.
    Same,
    /// Another machine at its host.
    Again,
    /// Another host begins with it.
    Elsewhere,
    /// None of these yet.
    Ends,
}

/// What a viewer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Its socket stays open.
    Stays,
    /// It is closed with this code and a reason that contains these words.
    Closed(u16, &'static str),
    /// Its connection breaks.
    Lost,
}

/// A fault and its results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub fault: &'static str,
    /// In the order of [`Phase::ALL`].
    pub effects: [Effect; 5],
    /// The viewer of the open session through the second host.
    pub viewer: Sight,
    /// The viewer of the open session at the first host.
    pub direct: Sight,
    /// The viewer of the delivering session through the third host.
    pub third: Sight,
    /// What operators see, and where.
    pub words: &'static str,
}

use Effect::{Again, Elsewhere, Same};
use Sight::{Closed, Lost, Stays};

const ALL_SAME: [Effect; 5] = [Same; 5];
/// A session that has ended stays as it is.
const ALL_ELSEWHERE: [Effect; 5] = [Elsewhere, Elsewhere, Elsewhere, Elsewhere, Same];
const ALL_AGAIN: [Effect; 5] = [Same, Again, Again, Again, Same];
pub(crate) const UNREACHABLE: Sight = Closed(4_511, "host_unreachable: host h1 silent since ");
/// The connection between two hosts broke, and the other one answers again.
const BROKE: Sight = Closed(1_012, "");
const CONTACT_LOST: Sight = Closed(4_503, "cluster_contact_lost");

const fn unchanged(fault: &'static str, words: &'static str) -> Row {
    Row { fault, effects: ALL_SAME, viewer: Stays, direct: Stays, third: Stays, words }
}

const fn lost(fault: &'static str, direct: Sight, words: &'static str) -> Row {
    Row { fault, effects: ALL_ELSEWHERE, viewer: UNREACHABLE, direct, third: UNREACHABLE, words }
}

pub(crate) const SERVER_KILLED: Row = Row {
    effects: [Same, Again, Same, Same, Same],
    viewer: BROKE,
    direct: Lost,
    third: BROKE,
    ..unchanged("server killed and started again", "")
};
pub(crate) const KEEPERS_KILLED: Row = Row {
    effects: ALL_AGAIN,
    viewer: BROKE,
    direct: Lost,
    third: BROKE,
    ..unchanged("server and keepers killed, server started again", "")
};
pub(crate) const SERVER_PAUSED: Row = unchanged("server stopped (SIGSTOP) for 2 s", "");
pub(crate) const SERVER_STOPPED: Row = lost(
    "server stopped past the fence, then continued",
    CONTACT_LOST,
    "log: `cluster_contact_lost`; health: `incarnation 2`",
);
pub(crate) const HOST_FROZEN: Row =
    lost("all of the host stopped past the fence, then continued", CONTACT_LOST, "health: `incarnation 2`");
pub(crate) const LINK_CUT: Row = lost("link cut past the fence", CONTACT_LOST, "health: `incarnation 2`");
pub(crate) const SENDS_NOTHING: Row =
    lost("all that the host sends is lost, past the fence", CONTACT_LOST, "health: `incarnation 2`");
pub(crate) const GETS_NOTHING: Row =
    lost("all that is sent to the host is lost, past the fence", CONTACT_LOST, "health: `incarnation 2`");
pub(crate) const NO_ETCD_HERE: Row =
    unchanged("cut off from etcd only", "health: `etcd cannot be written, so heartbeats go to the database`");
pub(crate) const NO_POSTGRES_HERE: Row = unchanged("cut off from PostgreSQL only", "a start: 503; health: `down`");
pub(crate) const NO_PEER: Row = Row { viewer: UNREACHABLE, ..unchanged("cut off from one other host", "") };
pub(crate) const LEADER_KILLED: Row = unchanged("leader of etcd killed", "");
pub(crate) const LEADER_FROZEN: Row = unchanged("leader of etcd stopped for 12 s", "");
pub(crate) const ETCD_GONE: Row = unchanged(
    "etcd cannot be reached by any host",
    "health: `etcd cannot be written, so heartbeats go to the database`, `no host can be fenced`",
);
pub(crate) const OPERATOR_FENCES: Row =
    lost("etcd stopped, the host without power; an operator fences it", Lost, "health: `no host can be fenced`");
pub(crate) const BOTH_GONE: Row = Row {
    effects: ALL_AGAIN,
    viewer: CONTACT_LOST,
    direct: CONTACT_LOST,
    third: CONTACT_LOST,
    ..unchanged("etcd and PostgreSQL stopped past the deadline", "log: `cluster_contact_lost`, `acts again`")
};
pub(crate) const POSTGRES_RESTARTED: Row = unchanged("PostgreSQL restarted", "");
pub(crate) const CLOCK_AHEAD: Row =
    unchanged("clock of the host an hour ahead", "health: `its clock differs by 36… ms from the database's`");
pub(crate) const CLOCK_BEHIND: Row =
    unchanged("clock of the host an hour behind", "health: `its clock differs by -3… ms from the database's`");
pub(crate) const DISK_FULL: Row = unchanged("disk of the host full", "");
pub(crate) const TWO_OF_THREE: Row = lost(
    "links of two hosts of three cut, then of one",
    CONTACT_LOST,
    "health of the third: `2 of 3 hosts are silent, so none is fenced`",
);
pub(crate) const CERTIFICATE_EXPIRED: Row = Row {
    viewer: UNREACHABLE,
    third: UNREACHABLE,
    ..unchanged("certificate of the host expired, then renewed", "list of hosts: `silent`")
};
pub(crate) const REMOVED: Row = lost(
    "link cut past the fence and the host removed, then its link connected again",
    CONTACT_LOST,
    "health: `removed from the cluster`; log of others: `peer_refused`",
);

/// The rows of the document.
const ROWS: [&Row; 23] = [
    &SERVER_KILLED,
    &KEEPERS_KILLED,
    &SERVER_PAUSED,
    &SERVER_STOPPED,
    &HOST_FROZEN,
    &LINK_CUT,
    &SENDS_NOTHING,
    &GETS_NOTHING,
    &NO_PEER,
    &TWO_OF_THREE,
    &CERTIFICATE_EXPIRED,
    &REMOVED,
    &NO_ETCD_HERE,
    &NO_POSTGRES_HERE,
    &LEADER_KILLED,
    &LEADER_FROZEN,
    &ETCD_GONE,
    &OPERATOR_FENCES,
    &BOTH_GONE,
    &POSTGRES_RESTARTED,
    &CLOCK_AHEAD,
    &CLOCK_BEHIND,
    &DISK_FULL,
];

fn effect(effect: Effect) -> &'static str {
    match effect {
        Same | Effect::Ends => "=",
        Again => "↻",
        Elsewhere => "→",
    }
}

fn sight(sight: Sight) -> String {
    match sight {
        Stays => "stays".to_owned(),
        Closed(code, words) => format!("{code} {words}").trim().trim_end_matches(" since").to_owned(),
        Lost => "breaks".to_owned(),
    }
}

#[test]
fn table_of_hosts_is_in_the_document() {
    let phases: Vec<_> = Phase::ALL.iter().map(ToString::to_string).collect();
    let head = format!(
        "| fault of the first host | {} | viewer through another host | viewer at the host | words for operators |",
        phases.join(" | ")
    );
    let mut table = format!("{head}\n|{}\n", "---|".repeat(9));
    for row in ROWS {
        let effects = row.effects.map(effect).join(" | ");
        let (viewer, direct) = (sight(row.viewer), sight(row.direct));
        let words = if row.words.is_empty() { "–" } else { row.words };
        writeln!(table, "| {} | {effects} | {viewer} | {direct} | {words} |", row.fault).unwrap();
    }
    document::compare_section("hosts", &table);
}
