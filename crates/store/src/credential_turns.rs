//! The turns of the uses of a credential, for all hosts of a cluster: one row for each session and lease that uses a credential or waits
//! for it. A server without a cluster keeps them in memory.
//!
//! Write transactions run one at a time, so what one has read is so until it ends. A row counts while its host is in the row's incarnation
//! and was not fenced: a host that dies frees its turns at its fence, after its keepers have ended its machines.

use crate::{
    Store, StoreError, WriteKind,
    connection::Connection,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{CredentialId, SessionId};
use sqlx::any::AnyRow;

/// Whose turn is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnOwner {
    /// The id of its row: the session's, or a random text of a lease.
    pub id: String,
    /// The credential.
    pub credential: CredentialId,
    /// The session that uses it; `None`: it is read for a lease.
    pub session: Option<SessionId>,
    /// A random number of this server process.
    pub process: u64,
}

/// What an owner has or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnOutcome {
    /// It has the turn.
    Held,
    /// It waits.
    Waits {
        /// The session that has the turn; `None`: it is read for a lease, or a lease waits.
        session: Option<SessionId>,
        /// The place in the line; 1 is next.
        position: u32,
    },
    /// It was not added: so many sessions wait.
    Full {
        /// Their number.
        waiting: usize,
    },
}

/// A row that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    id: String,
    session: Option<SessionId>,
    process: u64,
    is_held: bool,
}

/// The host of the row `credential_turns` is in the row's incarnation.
macro_rules! counts {
    () => {
        "EXISTS (SELECT 1 FROM hosts WHERE hosts.id = credential_turns.host_id AND hosts.incarnation = credential_turns.host_incarnation \
         AND hosts.fenced < hosts.incarnation AND hosts.left_at_ms IS NULL)"
    };
}

const OPERATION: &str = "take the turn of a credential";

impl Store {
    /// Takes the turn if it is free, else joins or keeps its place in the line. `waiting_max`: so many sessions may wait before a new one
    /// is refused; 0: take it now or not at all.
    ///
    /// # Errors
    /// This host is in no cluster, or was fenced; or the database cannot be written.
    pub async fn take_credential_turn(
        &self,
        owner: &TurnOwner,
        waiting_max: Option<usize>,
    ) -> Result<TurnOutcome, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error(OPERATION))?;
        let line = list(&mut connection, &owner.credential).await?;
        drop(connection);
        // Most looks find what they found before: then nothing is written.
        let is_written = line.iter().any(|turn| turn.id == owner.id && turn.process == owner.process);
        if let waits @ TurnOutcome::Waits { .. } = outcome(&line, owner)
            && is_written
        {
            return Ok(waits);
        }
        let mut transaction = self.begin_write(WriteKind::CredentialTurn, OPERATION).await?;
        remove_those_of_dead_hosts(&mut transaction, &owner.credential).await?;
        let line = list(&mut transaction, &owner.credential).await?;
        let found = outcome(&line, owner);
        let waiting = line.iter().filter(|turn| turn.session.is_some() && !turn.is_held && turn.id != owner.id).count();
        if found != TurnOutcome::Held && waiting_max.is_some_and(|most| waiting >= most) {
            transaction.finish_unchanged();
            return Ok(TurnOutcome::Full { waiting });
        }
        self.write_turn(&mut transaction, owner, found == TurnOutcome::Held).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(found)
    }

    /// Holds the turn of a session whose machine has the credential already, also if another session holds it.
    ///
    /// # Errors
    /// As [`Store::take_credential_turn`].
    pub async fn hold_credential_turn(&self, owner: &TurnOwner) -> Result<(), StoreError> {
        let mut transaction = self.begin_write(WriteKind::CredentialTurn, OPERATION).await?;
        self.write_turn(&mut transaction, owner, true).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Gives the turn or the place in the line back, unless a later process has it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn release_credential_turn(&self, owner: &TurnOwner) -> Result<(), StoreError> {
        let mut transaction = self.begin_write(WriteKind::CredentialTurn, OPERATION).await?;
        sqlx::query("DELETE FROM credential_turns WHERE id = $1 AND process = $2")
            .bind(owner.id.as_str())
            .bind(to_sql_integer(owner.process))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Gives back what earlier processes of this host have left.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn release_turns_of_earlier_processes(&self, process: u64) -> Result<(), StoreError> {
        let Some(holder) = self.holder() else { return Ok(()) };
        let mut transaction = self.begin_write(WriteKind::CredentialTurn, OPERATION).await?;
        sqlx::query("DELETE FROM credential_turns WHERE host_id = $1 AND process <> $2")
            .bind(holder.host.as_str())
            .bind(to_sql_integer(process))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Whether a session or a lease of any host uses the credential or waits for it.
    ///
    /// # Errors
    /// The database cannot be read or has a corrupt row.
    pub async fn is_credential_in_use(&self, credential: &CredentialId) -> Result<bool, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error(OPERATION))?;
        Ok(!list(&mut connection, credential).await?.is_empty())
    }

    async fn write_turn(
        &self,
        connection: &mut Connection,
        owner: &TurnOwner,
        is_held: bool,
    ) -> Result<(), StoreError> {
        let Some(holder) = self.holder() else {
            return Err(query_error(OPERATION)(sqlx::Error::RowNotFound));
        };
        let done = sqlx::query(
            "INSERT INTO credential_turns (id, credential_id, session_id, host_id, host_incarnation, process, number, held) \
             SELECT $1, $2, $3, id, incarnation, CAST($6 AS BIGINT), \
             (SELECT COALESCE(MAX(number), 0) + 1 FROM credential_turns WHERE credential_id = $2), CAST($7 AS BIGINT) \
             FROM hosts WHERE id = $4 AND incarnation = $5 AND fenced < incarnation AND left_at_ms IS NULL \
             ON CONFLICT (id) DO UPDATE SET host_id = excluded.host_id, host_incarnation = excluded.host_incarnation, \
             process = excluded.process, held = excluded.held",
        )
        .bind(owner.id.as_str())
        .bind(owner.credential.as_str())
        .bind(owner.session.as_ref().map(SessionId::as_str))
        .bind(holder.host.as_str())
        .bind(to_sql_integer(holder.incarnation))
        .bind(to_sql_integer(owner.process))
        .bind(i64::from(is_held))
        .execute(connection)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 { Err(StoreError::HostFenced(holder.host)) } else { Ok(()) }
    }
}

/// What the owner gets if it asks now.
fn outcome(line: &[Turn], owner: &TurnOwner) -> TurnOutcome {
    let others = || line.iter().filter(|turn| turn.id != owner.id);
    let holder = others().find(|turn| turn.is_held && turn.session.is_some());
    let session = holder.and_then(|turn| turn.session.clone());
    if owner.session.is_none() {
        // It only reads, as other leases do.
        return if holder.is_none() { TurnOutcome::Held } else { TurnOutcome::Waits { session, position: 1 } };
    }
    let before = line.iter().take_while(|turn| turn.id != owner.id);
    let before = before.filter(|turn| !turn.is_held && turn.session.is_some()).count();
    let is_read = others().any(|turn| turn.session.is_none());
    if before == 0 && holder.is_none() && !is_read {
        return TurnOutcome::Held;
    }
    TurnOutcome::Waits { session, position: u32::try_from(before + 1).unwrap_or(u32::MAX) }
}

async fn remove_those_of_dead_hosts(connection: &mut Connection, credential: &CredentialId) -> Result<(), StoreError> {
    let text = concat!("DELETE FROM credential_turns WHERE credential_id = $1 AND NOT ", counts!());
    let done = sqlx::query(text).bind(credential.as_str()).execute(connection).await;
    done.map(drop).map_err(query_error(OPERATION))
}

async fn list(connection: &mut Connection, credential: &CredentialId) -> Result<Vec<Turn>, StoreError> {
    let text = concat!(
        "SELECT id, session_id, process, held FROM credential_turns WHERE credential_id = $1 AND ",
        counts!(),
        " ORDER BY number"
    );
    let rows = sqlx::query(text).bind(credential.as_str()).fetch_all(connection).await;
    let decode = |row: &AnyRow| {
        let reader = RowReader::new(row, "credential_turns", "id");
        Ok(Turn {
            id: reader.text("id")?,
            session: reader.parsed_or_null("session_id")?,
            process: reader.number("process")?,
            is_held: reader.number::<u8>("held")? != 0,
        })
    };
    rows.map_err(query_error(OPERATION))?.iter().map(decode).collect()
}
