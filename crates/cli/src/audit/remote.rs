//! Reads the audit trail of a server on another host, page by page.

use crate::client::ApiClient;
use anteroom_audit::{Filter, Record};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

/// Records of one request.
const PAGE_RECORDS: usize = 1_000;

/// What `GET /api/audit` returns.
#[derive(Debug, Deserialize)]
struct Page {
    records: Vec<Record>,
}

/// The newest records, the oldest of them first.
///
/// # Errors
/// The server does not answer, or the token has not the scope `audit`.
pub(super) async fn newest(client: &ApiClient, filter: &Filter, lines: usize) -> anyhow::Result<Vec<Record>> {
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
    let newest: Page = client.get(&path(&Filter::default(), None, 1)).await?;
    let end = newest.records.first().map_or(0, |record| record.seq);
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
    query.append_pair("limit", &limit.to_string());
    format!("/api/audit?{}", query.finish())
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
