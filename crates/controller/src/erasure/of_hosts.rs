//! The part of an erasure that other hosts of the cluster do: they end the sessions that they hold, and remove the files of machines that
//! they ran.

use super::{end_own, remove_own_files};
use crate::{
    api_error::ApiError,
    session::{context::SessionContext, views_of_hosts::other_host},
};
use anteroom_store::ErasedRows;
use anteroom_wire::{
    HostId, Problem, SessionId,
    hosts::{EraseOnHost, ErasedFiles},
    operator_reports::EraseReport,
};
use futures_util::future::join_all;
use std::collections::BTreeMap;

/// Ends these active sessions, each on the host that holds it, and waits until the machines of all these sessions are removed.
pub(super) async fn end_sessions(
    context: &SessionContext,
    active: &[SessionId],
    all: &[SessionId],
) -> Result<(), ApiError> {
    let (mut own, mut of_others) = (Vec::new(), BTreeMap::<HostId, Vec<SessionId>>::new());
    for id in active {
        let row = context.store.get_session(id).await?;
        match row.and_then(|row| other_host(context, &row)) {
            Some(host) => of_others.entry(host).or_default().push(id.clone()),
            None => own.push(id.clone()),
        }
    }
    let asked = of_others.into_iter().map(|(host, sessions)| async move {
        let question = EraseOnHost { end: sessions, ..EraseOnHost::default() };
        let answer = ask(context, &host, question).await;
        answer.map(drop).ok_or_else(|| {
            let detail = format!("the host {host}, which holds sessions of the user, does not answer; try again");
            ApiError::new(Problem::NotReady, detail)
        })
    });
    let ended = join_all(asked).await;
    end_own(context, &own, all).await?;
    ended.into_iter().collect()
}

/// Removes the files on the other hosts, and adds them to the report.
pub(super) async fn remove_files(context: &SessionContext, rows: &ErasedRows, report: &mut EraseReport) {
    if rows.sessions.is_empty() {
        return;
    }
    let own = context.store.holder().map(|own| own.host);
    let hosts = context.cluster.hosts();
    let others = hosts.iter().filter(|host| host.row.left_at_ms.is_none() && Some(&host.row.id) != own.as_ref());
    let asked = others.map(|host| async move {
        let question = EraseOnHost {
            end: Vec::new(),
            machines: rows.machines.iter().map(ToString::to_string).collect(),
            sessions: rows.sessions.iter().map(ToString::to_string).collect(),
        };
        (host, ask(context, &host.row.id, question).await)
    });
    for (host, answer) in join_all(asked).await {
        match answer {
            Some(ErasedFiles { receipts, bundles }) => {
                report.receipts += receipts;
                report.bundles += bundles;
            }
            None => report.stays.push(format!(
                "Receipts of machines and support bundles on the host {}, which did not answer: they have ids of sessions, not of users.",
                host.row.name
            )),
        }
    }
}

async fn ask(context: &SessionContext, host: &HostId, question: EraseOnHost) -> Option<ErasedFiles> {
    context.cluster.other_hosts().channel()?.erase(host.clone(), question).await
}

/// Does what another host asks for.
///
/// # Errors
/// The machines do not end in time, or the database cannot be written.
pub async fn erase_for(context: &SessionContext, question: &EraseOnHost) -> Result<ErasedFiles, ApiError> {
    let EraseOnHost { end, machines, sessions } = question;
    end_own(context, end, end).await?;
    Ok(remove_own_files(context, machines, sessions))
}
