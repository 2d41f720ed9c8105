//! The hosts that machines asked for and did not reach.

use super::{ENTRIES_MAX, created_since};
use crate::{
    session::{browser_hosts::is_browsers_own, grant_host, server_context::ServerContext},
    unix_time::{UnixMs, format_rfc3339},
};
use anteroom_store::StoreError;
use anteroom_wire::{
    Problem, ProviderId, SessionId, TimelineKind,
    agent::EgressBy,
    api::{RefusedHost, RefusedHostList},
    provider::Provider,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Port, where the descriptor names none.
const HTTPS_PORT: u16 = 443;

/// One host that machines of one provider asked for, with one result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    host: String,
    port: u16,
    provider: ProviderId,
    reason: String,
}

#[derive(Debug)]
struct Requests {
    sessions: HashSet<SessionId>,
    newest: SessionId,
    last_at_ms: UnixMs,
}

/// Hosts that machines asked for at `since_ms` or later and did not reach, the most frequent first. Those that Chromium requests of its
/// own accord are left out.
///
/// # Errors
/// The database cannot be read.
pub async fn list_refused_hosts(
    server_context: &ServerContext,
    since_ms: UnixMs,
) -> Result<RefusedHostList, StoreError> {
    let created_since_ms = created_since(server_context, since_ms);
    let kinds = [TimelineKind::EgressDenied];
    let entries = server_context.store.list_entries_of_kinds(&kinds, created_since_ms, ENTRIES_MAX).await?;
    let is_partial = entries.len() >= ENTRIES_MAX as usize;
    let mut providers: HashMap<SessionId, Option<ProviderId>> = HashMap::new();
    let mut found: BTreeMap<Request, Requests> = BTreeMap::new();
    for (session, entry) in entries.iter().filter(|(_, entry)| entry.at_ms >= since_ms) {
        if !providers.contains_key(session) {
            let row = match server_context.store.get_session(session).await {
                // Changed outside of this program: it is left out, as in lists.
                Err(StoreError::TamperedRow { .. }) => None,
                row => row?,
            };
            providers.insert(session.clone(), row.map(|row| row.provider));
        }
        let Some(provider) = providers.get(session).and_then(Option::clone) else { continue };
        let Some(request) = parse_request(&entry.data, provider) else { continue };
        let by = entry.data["by"].as_str().and_then(EgressBy::parse);
        if is_browsers_own(&request.host, &request.reason, by) {
            continue;
        }
        // The entries of the newest session are first.
        let requests = found.entry(request).or_insert_with(|| Requests {
            sessions: HashSet::new(),
            newest: session.clone(),
            last_at_ms: entry.at_ms,
        });
        requests.sessions.insert(session.clone());
        requests.last_at_ms = requests.last_at_ms.max(entry.at_ms);
    }
    let mut hosts: Vec<_> =
        found.into_iter().map(|(request, requests)| refused_host(server_context, request, requests)).collect();
    // Stable: hosts with the same number stay in the order of their names.
    hosts.sort_by_key(|host| std::cmp::Reverse(host.sessions));
    Ok(RefusedHostList { hosts, is_partial })
}

fn parse_request(data: &Value, provider: ProviderId) -> Option<Request> {
    Some(Request {
        host: data.get("host")?.as_str()?.to_owned(),
        port: data.get("port")?.as_u64()?.try_into().ok()?,
        provider,
        reason: data.get("reason")?.as_str()?.to_owned(),
    })
}

fn refused_host(server_context: &ServerContext, request: Request, requests: Requests) -> RefusedHost {
    let providers = server_context.providers();
    let descriptor = providers.get(&request.provider);
    let is_denied = request.reason == Problem::EgressDenied.code();
    let descriptor_change =
        descriptor.filter(|_| is_denied).map(|provider| descriptor_change(provider, &request.host, request.port));
    let grantable =
        is_denied && grant_host::is_grantable(server_context, &requests.newest, &request.host, request.port);
    let Request { host, port, provider, reason } = request;
    RefusedHost {
        host,
        port,
        provider,
        reason,
        sessions: requests.sessions.len() as u64,
        last_at: format_rfc3339(requests.last_at_ms),
        newest: requests.newest,
        descriptor_change,
        grantable,
    }
}

/// The text of the configuration that allows the provider's machines one more host. An array of the configuration replaces that of the
/// descriptor, so it has all of the provider's hosts.
fn descriptor_change(provider: &Provider, host: &str, port: u16) -> String {
    let mut text = format!("[providers.{}]\negress = [\n", provider.id);
    for rule in &provider.egress {
        if let Ok(rule) = toml::Value::try_from(rule) {
            text.push_str(&format!("  {rule},\n"));
        }
    }
    let host = toml::Value::String(host.to_owned());
    let ports = if port == HTTPS_PORT { String::new() } else { format!(", ports = [{port}]") };
    text.push_str(&format!("  {{ host = {host}{ports} }},  # new\n]\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, providers::Providers};

    #[test]
    fn the_shown_configuration_allows_the_host_in_addition_to_the_others() {
        let before = Providers::load(&Config::default()).unwrap();
        let codex: ProviderId = "codex".parse().unwrap();
        for (host, port) in [("new.example", 443), ("other.example", 8443)] {
            let text = descriptor_change(before.get(&codex).unwrap(), host, port);
            let config: Config = toml::from_str(&text).unwrap();
            let after = Providers::load(&config).unwrap();
            let rules = |providers: &Providers| {
                let rules = providers.get(&codex).unwrap().egress.iter();
                rules.map(|rule| (rule.host.clone(), rule.ports.clone())).collect::<Vec<_>>()
            };
            let ports = if port == HTTPS_PORT { vec![] } else { vec![port] };
            assert_eq!(rules(&after), [rules(&before), vec![(host.to_owned(), ports)]].concat());
        }
    }
}
