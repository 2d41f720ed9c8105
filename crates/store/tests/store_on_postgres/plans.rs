//! Every statement text of this crate is explained on both databases, as the server has logged it in a scenario, or as it is in the
//! sources. Those of a start, a viewer, a delivery and a host of a cluster use indices.

mod cluster;

use crate::{
    database::OWN_SERVER,
    fixture::{HOUR, NOW, StoreFixture, entry, settings},
    own_server::OwnServer,
    statement_texts::{StatementText, statement_texts},
};
use anteroom_store::{
    CallerFilter, CallerKind, CredentialFilter, ErasedUser, ExpectedState, IdempotencyKey, LoginScope, NewLoginToken,
    NewMessage, NewSession, NewTicket, OwnerFilter, Regarding, SessionChange, SessionFilter, Sha256Hex, Store,
    TicketPurpose,
};
use anteroom_wire::{MessageId, TimelineKind};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use std::collections::BTreeSet;

/// Files whose statements are for SQLite alone.
const SQLITE_ONLY: &[&str] = &["before_migration.rs", "contents.rs", "database_file.rs", "sqlite.rs"];
/// Files whose statements are for PostgreSQL alone.
const POSTGRES_ONLY: &[&str] = &["postgres.rs", "postgres/connector.rs", "postgres/whole.rs"];
/// What only one of them knows.
const OF_SQLITE: &[&str] = &["sqlite_master"];
const OF_POSTGRES: &[&str] = &["pg_", "current_setting"];

#[tokio::test]
async fn every_statement_is_explained_on_both_databases_and_those_of_hot_paths_use_indices() {
    let server = OwnServer::start(&["-c", "log_min_duration_statement=0"]).await;
    OWN_SERVER.set(server.directory()).unwrap();
    let fixture = StoreFixture::new().await;
    let mut marks = vec![read_log(&server).len()];
    hot(&fixture).await;
    marks.push(read_log(&server).len());
    cluster::of_hosts(&fixture).await;
    marks.push(read_log(&server).len());
    cluster::rest(&fixture).await;
    rest(&fixture).await;
    let log = read_log(&server);
    let [hot, of_hosts, rest] = [&log[marks[0]..marks[1]], &log[marks[1]..marks[2]], &log[marks[2]..]].map(texts);
    assert!(
        hot.len() > 25 && of_hosts.len() > 10 && rest.len() > 40,
        "{} {} {}",
        hot.len(),
        of_hosts.len(),
        rest.len()
    );
    let (mut sql, mut file) = (fixture.sql().await, sqlite(&fixture).await);
    for set in ["SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan"] {
        sql.execute(set).await.unwrap();
    }
    let mut faults = Vec::new();
    for (texts, scanned) in [(&hot, "Seq Scan"), (&of_hosts, "Seq Scan on sessions"), (&rest, "a scan of any kind")] {
        for text in texts {
            match explain(&mut sql, text).await {
                Ok(plan) if !plan.contains(scanned) => {}
                other => faults.push(format!("{text}\n{other:?}")),
            }
            // What a connection asks PostgreSQL about itself.
            if OF_POSTGRES.iter().any(|part| text.contains(part)) {
                continue;
            }
            let scans = |line: &str| line.starts_with("SCAN sessions") && !line.contains(" INDEX ");
            match explain_in_sqlite(&mut file, text).await {
                Ok(plan) if *texts == rest || !plan.lines().any(scans) => {}
                other => faults.push(format!("SQLite: {text}\n{other:?}")),
            }
        }
    }
    let logged: Vec<_> = hot.iter().chain(&of_hosts).chain(&rest).collect();
    for source in statement_texts() {
        if !logged.iter().any(|text| source.is_in(text)) && !explain_source(&mut sql, &mut file, &source).await {
            faults.push(format!("neither a statement nor a part of one in the scenario: {source:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A file of SQLite with the same tables.
async fn sqlite(fixture: &StoreFixture) -> AnyConnection {
    let path = fixture.directory.path().join("anteroom.db");
    Store::open(&path, settings()).await.unwrap().close().await;
    AnyConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

/// Whether the text is a statement by itself, of each database that runs it.
async fn explain_source(sql: &mut AnyConnection, file: &mut AnyConnection, source: &StatementText) -> bool {
    let is_only = |files: &[&str], parts: &[&str]| {
        files.contains(&source.file.as_str()) || parts.iter().any(|part| source.text.contains(part))
    };
    let (of_sqlite, of_postgres) = (is_only(SQLITE_ONLY, OF_SQLITE), is_only(POSTGRES_ONLY, OF_POSTGRES));
    (of_sqlite || explain(sql, &source.text).await.is_ok())
        && (of_postgres || explain_in_sqlite(file, &source.text).await.is_ok())
}

async fn explain_in_sqlite(file: &mut AnyConnection, text: &str) -> Result<String, sqlx::Error> {
    let now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
    let text = text.replace(" FOR UPDATE SKIP LOCKED", "").replace(now, "1");
    let plan = file.fetch_all(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).await?;
    Ok(plan.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n"))
}

/// What happens for each session and each viewer.
async fn hot(fixture: &StoreFixture) {
    let store = &fixture.store;
    let token = Sha256Hex::of_bytes(b"token-1");
    assert!(store.find_caller_by_secret(CallerKind::ApiToken, &token, NOW).await.unwrap().is_some());
    let key = IdempotencyKey { key: "key".to_owned(), request: Sha256Hex::of_bytes(b"request") };
    let new = NewSession { idempotency: Some(key.clone()), ..fixture.new_session() };
    let row = fixture.create(&new).await;
    store.find_by_idempotency_key(&fixture.owner, &key).await.unwrap().unwrap();
    fixture.done(&row.id, ExpectedState::Active, SessionChange::new(), TimelineKind::CliStarted).await;
    store.append_entry(&row.id, entry(TimelineKind::CliExited)).await.unwrap();
    store.list_timeline(&row.id, 0, 100).await.unwrap();
    store.record_session_use(&row.id, NOW + 1, None).await.unwrap();
    let ticket = NewTicket {
        hash: Sha256Hex::of_bytes(b"ticket"),
        session: row.id.clone(),
        caller: fixture.owner.clone(),
        purpose: TicketPurpose::Desktop,
        expires_at_ms: NOW + HOUR,
    };
    store.create_ticket(&ticket).await.unwrap();
    store.redeem_ticket(&ticket.hash, &row.id, TicketPurpose::Desktop, NOW).await.unwrap().unwrap();
    let scope = LoginScope::Session { session: row.id.clone() };
    let link = NewLoginToken { hash: token.clone(), scope, creator: None, expires_at_ms: NOW + HOUR };
    store.create_login_token(&link).await.unwrap();
    store.redeem_login_token(&link.hash, NOW).await.unwrap().unwrap();
    store.get_browser(&fixture.owner).await.unwrap();
    store.has_consented(&fixture.owner).await.unwrap();
    let (session, credential) = fixture.completed(b"secret").await;
    store.find_session_by_agent_token(&token).await.unwrap();
    store.get_session(&session.id).await.unwrap().unwrap();
    store.get_credential(&credential).await.unwrap().unwrap();
    store.get_credential_of_session(&session.id).await.unwrap().unwrap();
    store.lease_credential(&credential, &fixture.owner, NOW).await.unwrap().unwrap();
    let message = NewMessage {
        id: MessageId::from_parts(NOW, [1; 10]),
        kind: "something.happened".to_owned(),
        receiver: "default".to_owned(),
        regarding: Regarding::Both(session.id, credential),
        created_at_ms: NOW,
        due_at_ms: NOW,
    };
    store.enqueue_messages(std::slice::from_ref(&message)).await.unwrap();
    store.list_due_messages(NOW, None, 10).await.unwrap();
    store.record_message_delivered(&message.id, NOW).await.unwrap();
    store.list_sessions_past_deadline(NOW).await.unwrap();
    store.list_active_sessions().await.unwrap();
}

/// Lists, counts, jobs and erasures.
async fn rest(fixture: &StoreFixture) {
    let store = &fixture.store;
    let (session, credential) = fixture.completed(b"secret").await;
    let filter = SessionFilter { text: Some("ada"), caller: Some("Ada"), ..SessionFilter::of(OwnerFilter::All) };
    store.find_sessions(&filter, 10, Some(&session.id)).await.unwrap();
    store.count_sessions(&filter).await.unwrap();
    store.list_sessions(OwnerFilter::Owner(&fixture.owner), 10, None).await.unwrap();
    store.count_ended_sessions(0).await.unwrap();
    store.count_sessions_by_status().await.unwrap();
    store.count_credentials_by_health(NOW).await.unwrap();
    store.count_records_by_key().await.unwrap();
    store.list_callers(&CallerFilter { valid_at_ms: Some(NOW), ..CallerFilter::default() }, 10, None).await.unwrap();
    store.find_ended_callers(std::slice::from_ref(&fixture.owner), NOW).await.unwrap();
    store.count_callers(&CallerFilter::default()).await.unwrap();
    store.list_credentials(OwnerFilter::Owner(&fixture.owner), 10).await.unwrap();
    store.count_credentials(&CredentialFilter::of(OwnerFilter::All)).await.unwrap();
    store.list_unreported_machine_ends(0, 10).await.unwrap();
    store.list_entries_of_kinds(&[TimelineKind::CliStarted], 0, 10).await.unwrap();
    store.list_abandoned_messages(10).await.unwrap();
    store.list_browsers(None, NOW, 0, 10).await.unwrap();
    store.list_helpers(&session.id, NOW, 10).await.unwrap();
    store.list_keys_in_use().await.unwrap();
    store.list_sealed_with_key(fixture.ring.primary_key_id(), None, 10).await.unwrap();
    store.list_sealed_credentials(None, 10).await.unwrap();
    store.list_unchecked_credentials(&session.provider, NOW, 10).await.unwrap();
    store.list_expiring_credentials(NOW, NOW, 10).await.unwrap();
    store.list_leases(&credential, 10).await.unwrap();
    store.find_last_sign_in(&credential).await.unwrap();
    store.delete_expired_credentials(NOW, 10, |_| Vec::new()).await.unwrap();
    store.delete_messages_before(NOW).await.unwrap();
    store.purge_expired(NOW).await.unwrap();
    store.check_rows().await.unwrap();
    store.count_rows_of_older_keys().await.unwrap();
    store.set_audit_head("head").await.unwrap();
    store.get_audit_head().await.unwrap();
    store.delete_credential(&credential, NOW).await.unwrap();
    store.erase_ended_sessions(NOW + HOUR, 10).await.unwrap();
    let user = ErasedUser { user_id: "ada@example.org", owner: Some(&fixture.owner) };
    store.list_sessions_of_user(user).await.unwrap();
    store.erase_user(user).await.unwrap();
    store.revoke_caller(&fixture.owner, NOW).await.unwrap();
}

fn read_log(server: &OwnServer) -> String {
    std::fs::read_to_string(format!("{}/log", server.directory())).unwrap()
}

/// The texts of prepared statements in a log.
fn texts(log: &str) -> BTreeSet<String> {
    let statements = log.lines().filter_map(|line| line.split_once(" execute sqlx_s_")?.1.split_once(": "));
    let texts = statements.map(|(_, text)| text.to_owned());
    texts
        .filter(|text| ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|verb| text.starts_with(verb)))
        .collect()
}

/// The plan for any values of the parameters.
async fn explain(sql: &mut AnyConnection, text: &str) -> Result<String, sqlx::Error> {
    let parameters = (1..).take_while(|number| text.contains(&format!("${number}"))).count();
    let list = |values: &[&str]| if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    let mut types = vec!["unknown"; parameters];
    while let Err(error) = sql.execute(AssertSqlSafe(format!("PREPARE explained{} AS {text}", list(&types)))).await {
        // A parameter that is only compared with NULL; the program gives its type.
        let message = error.to_string();
        let number = message.split_once("data type of parameter $").and_then(|(_, rest)| rest.split(' ').next());
        let number =
            number.and_then(|number| number.parse::<usize>().ok()).filter(|number| types[number - 1] == "unknown");
        let Some(number) = number else { return Err(error) };
        types[number - 1] = "text";
    }
    let explain = format!("EXPLAIN EXECUTE explained{}", list(&vec!["NULL"; parameters]));
    let plan = sql.fetch_all(AssertSqlSafe(explain)).await?;
    sql.execute("DEALLOCATE explained").await?;
    Ok(plan.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n"))
}
