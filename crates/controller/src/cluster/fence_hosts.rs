//! Fences hosts that are silent: takes their sessions away, so that other hosts go on with them.

use super::membership::Membership;
use crate::{api_error::chain, unix_time};
use anteroom_cluster::{DatabaseLook, FenceOutcome, FenceStep, Fencing, Member, Observer, Suspect, boottime_ms};
use anteroom_store::{Fence, Store};

/// Takes the steps for each suspect.
pub(super) async fn fence_suspects(
    store: &Store,
    member: &Membership,
    observer: &mut Observer,
    suspects: Vec<Suspect>,
) {
    for suspect in suspects {
        let (host, silent_ms) = (suspect.member.host.clone(), suspect.silent_ms);
        match fence(store, member, suspect).await {
            FenceOutcome::Fenced => {
                tracing::warn!(outcome = "fenced", host = %host, silent_ms, "silent host fenced: other hosts take its sessions over");
            }
            FenceOutcome::NotFenced => observer.saw_alive(&host, boottime_ms()),
            FenceOutcome::Unknown => {
                tracing::warn!(outcome = "not_fenced", host = %host, silent_ms, "silent host not fenced: the database or etcd cannot be read");
            }
        }
    }
}

/// Does what [`Fencing`] says.
async fn fence(store: &Store, member: &Membership, suspect: Suspect) -> FenceOutcome {
    let Member { host, incarnation, .. } = suspect.member.clone();
    let mut fencing = Fencing::new(suspect, member.liveness, member.times);
    loop {
        match fencing.step() {
            FenceStep::LookAtDatabase => fencing.looked_at_database(look_at_database(store, &host).await),
            FenceStep::ReadEtcd => fencing.read_etcd(read_etcd(member, fencing.suspect()).await.as_ref()),
            FenceStep::Fence { heartbeats } => {
                let fence = Fence {
                    host: &host,
                    incarnation,
                    silent_ms: member.times.fence_after_ms(),
                    by: &member.name,
                    at_ms: unix_time::now_unix_ms(),
                };
                let fenced = store.fence_silent_host(&fence, heartbeats).await;
                if let Err(error) = &fenced {
                    tracing::warn!(outcome = "not_fenced", host = %host, error = %chain(error), "silent host not fenced");
                }
                fencing.fenced(fenced.ok().map(|released| released.is_some()));
            }
            FenceStep::Done(outcome) => return outcome,
        }
    }
}

/// The host's heartbeats in the database, by the database's clock.
async fn look_at_database(store: &Store, host: &anteroom_wire::HostId) -> Option<DatabaseLook> {
    let rows = store.list_hosts().await.ok()?;
    let now_ms = store.database_time_ms().await.ok()?;
    let row = rows.into_iter().find(|row| row.id == *host)?;
    let silent_ms = now_ms.saturating_sub(row.heartbeat_at_ms.unwrap_or(row.joined_at_ms));
    Some(DatabaseLook { silent_ms, heartbeats: row.heartbeats })
}

/// The suspect as etcd has it now.
async fn read_etcd(member: &Membership, suspect: &Suspect) -> Option<Member> {
    let found = member.registers.etcd.as_ref()?.read().await.ok()?;
    let of_suspect = |heartbeat: &anteroom_cluster::Heartbeat| {
        heartbeat.host == suspect.member.host && heartbeat.incarnation == suspect.member.incarnation
    };
    let mark = found.into_iter().find(|observed| of_suspect(&observed.heartbeat)).map(|observed| observed.mark);
    Some(Member { mark, ..suspect.member.clone() })
}
