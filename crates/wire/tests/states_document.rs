//! docs/states.md is generated from the statuses of a session and the reasons why it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

use anteroom_wire::{EndReason, api::SessionStatus};
use std::fmt::Write;

const HEAD: &str = "# States of a session

Written by a test of `crates/wire/tests/states_document.rs`. `status` of `GET /api/auth/session/{id}` is computed for each answer, from the session and its machine.

```
 vm_creating ─▶ vm_created ─▶ vm_started ─▶ authenticating ─▶ completed
      ▲                            │    ◀────────┘ the tool ended: its person can try again
      └──── vm_stopped ◀───────────┘ the machine was lost: another one is started
 from each of them: ─▶ failed · cancelled · expired
```

| `status` | final | meaning |
|---|---|---|
";

const POLLING: &str = "
A status that is not final may follow any other one: after a failed sign-in `vm_started` comes again, after a lost machine `vm_stopped` and `vm_creating`. Decide by *final* only, and show `for_person` to people.
A final one never changes; its session is kept for `retention.sessions_s_max`.

## Follow a session

| how | for |
|---|---|
| [webhook](webhook.md): `session.waiting`, `session.failed`, `session.ended` | backends; nothing is missed, also after a restart |
| `GET /api/auth/session/{id}/events` with `Accept: text/event-stream` | programs that wait for one session; `Last-Event-ID` resumes |
| `GET /api/sessions/events` | programs that follow all sessions of their caller |
| `GET /api/auth/session/{id}` once a second | scripts; more than 200 reads a second of one caller get 429 with `Retry-After` ([limits.md](limits.md)) |

Reading, polling and event streams do not keep a session alive. It is in use while a page of its person is open, and by input, pastes and heartbeats (`POST …/heartbeat`); `idle_deadline_at` in its state is when it ends otherwise.

## Why it ended

`reason.code` of a final status. A completed use of a credential has `use_completed`; `credential_use` (`use` in webhook messages) distinguishes it from a sign-in.

| code | sentence |
|---|---|
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for status in SessionStatus::ALL {
        let is_final = if status.is_ended() { "yes" } else { "no" };
        writeln!(text, "| `{}` | {is_final} | {} |", status.as_str(), status.meaning()).unwrap();
    }
    text += POLLING;
    for reason in EndReason::ALL {
        writeln!(text, "| `{}` | {} |", reason.code(), reason.sentence()).unwrap();
    }
    text
}

#[test]
fn docs_states_matches_the_statuses() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        std::fs::write(path, document()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == document(), "docs/states.md is not current: run this test with ANTEROOM_WRITE_DOCS=1");
}
