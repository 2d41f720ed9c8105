//! Reads the audit trail of a server on another host, page by page, and follows it.

use crate::{
    client::{ApiClient, ClientError},
    output::record,
};
use anteroom_audit::{Filter, Record};
use anteroom_wire::ProblemBody;
use serde::Deserialize;
use std::{io, process::ExitCode};
use url::form_urlencoded::Serializer;

/// Records of one request.
const PAGE_RECORDS: usize = 1_000;

/// What `GET /api/audit` returns.
#[derive(Debug, Deserialize)]
struct Page {
    records: Vec<Record>,
}

/// Prints the newest records, and with `follow` those that are written from now on.
///
/// # Errors
/// As [`newest`], and if the server ends the stream.
pub(super) async fn tail(
    client: &ApiClient,
    mut filter: Filter,
    follow: bool,
    lines: usize,
    mut print: impl FnMut(&Record) -> io::Result<()>,
) -> anyhow::Result<ExitCode> {
    let end = newest_number(client).await?;
    filter.before = Some(end.saturating_add(1));
    let records = newest(client, &filter, lines).await?;
    let is_open = records.iter().all(|entry| record(print(entry)));
    if !follow || !is_open {
        return Ok(ExitCode::SUCCESS);
    }
    let filter = Filter { before: None, ..filter };
    let mut closed: Option<ProblemBody> = None;
    let path = query("/api/audit/events", &filter, Some(end), None);
    let followed = client.follow_events(&path, |event, data| match event {
        // Of a newer server, a record may have another form.
        "record" => serde_json::from_str(data).map_or(true, |entry| record(print(&entry))),
        "closed" => {
            closed = serde_json::from_str(data).ok();
            false
        }
        _ => true,
    });
    followed.await?;
    closed.map_or(Ok(ExitCode::SUCCESS), |problem| Err(ClientError::Api(problem).into()))
}

/// The number of the newest record; 0: there is none.
async fn newest_number(client: &ApiClient) -> anyhow::Result<u64> {
    let newest: Page = client.get(&path(&Filter::default(), None, 1)).await?;
    Ok(newest.records.first().map_or(0, |record| record.seq))
}

/// The newest records, the oldest of them first.
///
/// # Errors
/// The server does not answer, or the token has not the scope `audit`.
async fn newest(client: &ApiClient, filter: &Filter, lines: usize) -> anyhow::Result<Vec<Record>> {
    let (mut found, mut filter) = (Vec::new(), filter.clone());
    while found.len() < lines {
        let limit = PAGE_RECORDS.min(lines - found.len());
        let page: Page = client.get(&path(&filter, None, limit)).await?;
        filter.before = page.records.last().map(|record| record.seq);
        let is_last = page.records.len() < limit;
        found.extend(page.records);
        if is_last {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

/// Passes all records to `print` until it returns `false`, the oldest first. Those that this reading adds to the trail are left out.
///
/// # Errors
/// As [`newest`].
pub(super) async fn for_each(
    client: &ApiClient,
    filter: &Filter,
    mut print: impl FnMut(&Record) -> bool,
) -> anyhow::Result<()> {
    let end = newest_number(client).await?;
    let mut after = filter.after;
    loop {
        let page: Page = client.get(&path(filter, Some(after), PAGE_RECORDS)).await?;
        if !page.records.iter().filter(|record| record.seq <= end).all(&mut print) {
            return Ok(());
        }
        match page.records.last() {
            Some(last) if last.seq < end => after = last.seq,
            Some(_) | None => return Ok(()),
        }
    }
}

fn path(filter: &Filter, after: Option<u64>, limit: usize) -> String {
    query("/api/audit", filter, after, Some(limit))
}

fn query(path: &str, filter: &Filter, after: Option<u64>, limit: Option<usize>) -> String {
    let mut query = Serializer::new(String::new());
    let numbers = [("after", after), ("before", filter.before), ("since_ms", filter.since_ms)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        query.append_pair(name, &number.to_string());
    }
    let texts =
        [("actor", &filter.actor), ("action", &filter.action), ("session", &filter.session), ("peer", &filter.peer)];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
        query.append_pair(name, text);
    }
    if let Some(limit) = limit {
        query.append_pair("limit", &limit.to_string());
    }
    format!("{path}?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_carries_the_filter() {
        let filter = Filter { since_ms: Some(7), actor: Some("a b&c".into()), ..Filter::default() };
        assert_eq!(path(&filter, Some(3), 10), "/api/audit?after=3&since_ms=7&actor=a+b%26c&limit=10");
    }
}
