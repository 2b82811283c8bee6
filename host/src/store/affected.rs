//! Number of rows that an UPDATE or a DELETE changed: each statement names the number that is right.

use sqlx::sqlite::SqliteQueryResult;

use crate::store::error::{Error, Result};

pub(crate) trait AffectedRows: Sized {
    fn count(&self) -> u64;

    /// Checks that the statement changed the one row that its caller knows to exist.
    ///
    /// # Errors
    /// [`Error::Database`]; the transaction must not be committed.
    fn exactly_one(self, table: &'static str) -> Result<()> {
        match self.count() {
            1 => Ok(()),
            count => Err(unexpected(table, count, "1")),
        }
    }

    /// Returns true if the statement changed a row, for one that may be gone or no longer in the expected state.
    ///
    /// # Errors
    /// [`Error::Database`] when it changed several; the transaction must not be committed.
    fn at_most_one(self, table: &'static str) -> Result<bool> {
        match self.count() {
            count @ (0 | 1) => Ok(count == 1),
            count => Err(unexpected(table, count, "at most 1")),
        }
    }

    /// Returns the number of rows, for a statement that may change none or many.
    fn any_number(self) -> u64 {
        self.count()
    }
}

impl AffectedRows for SqliteQueryResult {
    fn count(&self) -> u64 {
        self.rows_affected()
    }
}

fn unexpected(table: &str, count: u64, expected: &str) -> Error {
    Error::Database(sqlx::Error::Protocol(format!("a statement changed {count} rows of {table}, expected {expected}")))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{
            activity::{Activity, ActivityFields, ActivityType},
            actor::Actor,
            event::DomainEvent,
            id::{ActivityId, LeadId, SessionId, UserId},
            role::Role,
            time::Timestamp,
            user::{User, UserRef},
        },
        store::{copy, error::Outage, test_database::TestDatabase},
    };

    struct Changed(u64);

    impl AffectedRows for Changed {
        fn count(&self) -> u64 {
            self.0
        }
    }

    fn assert_refused<T>(outcome: Result<T>, table: &str) {
        match outcome {
            Err(Error::Database(sqlx::Error::Protocol(reason))) => assert!(reason.contains(table), "{reason}"),
            Err(error) => panic!("{table}: {error:?}"),
            Ok(_) => panic!("{table}: accepted"),
        }
    }

    #[test]
    fn only_the_expected_number_of_rows_is_accepted() {
        assert!(Changed(1).exactly_one("leads").is_ok());
        assert_eq!([0, 1].map(|count| Changed(count).at_most_one("leads").expect("expected")), [false, true]);
        assert_eq!(Changed(7).any_number(), 7);
        assert_refused(Changed(0).exactly_one("leads"), "0 rows of leads");
        assert_refused(Changed(2).exactly_one("leads"), "2 rows of leads");
        assert_refused(Changed(2).at_most_one("leads"), "2 rows of leads");
    }

    #[tokio::test]
    async fn a_change_of_a_row_that_does_not_exist_is_refused() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        let (id, at) = (UserId(Uuid::nil()), Timestamp::from_millis(0).expect("in range"));
        let (email, name) = ("ann@example.com".to_owned(), "Ann".to_owned());
        let user = User { id, email, name, role: Role::Sales, active: true, created_at: at, updated_at: at };
        let activity = Activity {
            id: ActivityId(Uuid::nil()),
            lead_id: LeadId(Uuid::nil()),
            fields: ActivityFields {
                kind: ActivityType::Note,
                body: None,
                due_at: None,
                completed_at: None,
                meta: Map::new(),
            },
            creator: UserRef::from(&user),
            created_at: at,
            updated_at: at,
        };

        assert_refused(tx.save_user(&user).await, "users");
        assert_refused(tx.save_password_hash(id, "").await, "users");
        assert_refused(tx.save_activity(&activity).await, "activities");
        assert_refused(tx.delete_activity(activity.id).await, "activities");
        assert_refused(tx.rotate_refresh_token("", SessionId(Uuid::nil()), "", at, at).await, "refresh_tokens");
        assert_refused(tx.keep_state(&"nobody".parse().expect("a name"), "").await, "followers");
        let actor = Actor::from(&user);
        assert_refused(tx.append(&DomainEvent::SessionUpdated { user, resets: true }.draft(&actor, at)).await, "users");
    }

    #[tokio::test]
    async fn a_rotation_without_its_session_is_refused() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        let at = Timestamp::from_millis(0).expect("in range");
        // The check at the end of the transaction never comes.
        sqlx::query("PRAGMA defer_foreign_keys = ON").execute(&mut *tx.reader.tx).await.expect("defers");
        sqlx::query("INSERT INTO refresh_tokens (hash, session_id, issued_at, expires_at) VALUES ('h', '', '', 'z')")
            .execute(&mut *tx.reader.tx)
            .await
            .expect("inserts");
        assert_refused(tx.rotate_refresh_token("h", SessionId(Uuid::nil()), "i", at, at).await, "sessions");
    }

    #[tokio::test]
    async fn a_database_without_its_only_rows_is_refused() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        for statement in ["DELETE FROM log", "DELETE FROM liveness"] {
            sqlx::query(statement).execute(&mut *tx.reader.tx).await.expect("deletes");
        }
        assert_refused(tx.renew_epoch().await, "log");
        tx.commit().await.expect("commits");

        // Otherwise the commit would stand for the check.
        store.health.failed(Outage::DiskFull, true, &sqlx::Error::PoolTimedOut);
        let checks = store.check().await;
        let writes = checks.iter().find(|check| check.name == "writes").expect("checked");
        assert!(writes.failure.as_ref().is_some_and(|failure| failure.code == "failed"), "{checks:?}");

        store.close().await;
        assert_refused(copy::renew_epoch(&database.file()).await, "log");
    }
}
