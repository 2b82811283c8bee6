//! Holds: events of leads that a role's sockets were moved past, because a filter gave no verdict on them.

use crate::{
    domain::{counter::Seq, id::LeadId, plugin_name::PluginName, role::Role, time::Timestamp},
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::Columns,
    },
};

/// Lead, or all leads, withheld from a role until a filter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub role: Role,
    /// The withheld lead; for a hold of all leads, the lead that it is judged by.
    pub lead: LeadId,
    pub is_all: bool,
    /// First event that was held back.
    pub first_seq: Seq,
    pub plugin: PluginName,
    pub reason: String,
    pub at: Timestamp,
}

impl Reader {
    /// All holds, oldest first.
    pub async fn holds(&mut self) -> Result<Vec<Hold>> {
        let rows = sqlx::query(concat!("SELECT ", columns!(holds), " FROM holds ORDER BY first_seq, role, lead_id"))
            .fetch_all(&mut *self.tx)
            .await?;
        let hold = |row| {
            let columns = Columns { table: "holds", row };
            Ok(Hold {
                role: columns.parsed("role")?,
                lead: columns.parsed("lead_id")?,
                is_all: columns.flag("is_all")?,
                first_seq: columns.seq("first_seq")?,
                plugin: columns.plugin("plugin")?,
                reason: columns.text("reason")?,
                at: columns.parsed("at")?,
            })
        };
        rows.iter().map(hold).collect()
    }
}

impl Tx<'_> {
    /// Adds a hold. A hold of all leads replaces the role's other holds.
    pub async fn hold(&mut self, hold: &Hold) -> Result<()> {
        if hold.is_all {
            sqlx::query("DELETE FROM holds WHERE role = $1")
                .bind(hold.role.as_str())
                .execute(&mut *self.reader.tx)
                .await?
                .any_number();
        }
        sqlx::query(
            "INSERT INTO holds (role, lead_id, is_all, first_seq, plugin, reason, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT DO NOTHING",
        )
        .bind(hold.role.as_str())
        .bind(hold.lead.to_string())
        .bind(hold.is_all)
        .bind(hold.first_seq)
        .bind(&hold.plugin)
        .bind(&hold.reason)
        .bind(hold.at.to_string())
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(())
    }

    /// Removes a hold, if there is one.
    pub async fn release(&mut self, role: Role, lead: LeadId) -> Result<()> {
        sqlx::query("DELETE FROM holds WHERE role = $1 AND lead_id = $2")
            .bind(role.as_str())
            .bind(lead.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .at_most_one("holds")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::TestDatabase;

    fn hold(role: Role, lead: u128, is_all: bool) -> Hold {
        let (plugin, reason) = ("guard".parse().expect("a name"), "filter trapped".to_owned());
        let lead_id = LeadId(uuid::Uuid::from_u128(lead));
        let at = Timestamp::from_millis(0).expect("in range");
        Hold { role, lead: lead_id, is_all, first_seq: Seq(lead as u64), plugin, reason, at }
    }

    #[tokio::test]
    async fn a_hold_is_stored_once_and_a_hold_of_all_leads_replaces_the_others() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        let (one, two) = (hold(Role::Viewer, 1, false), hold(Role::Viewer, 2, false));
        let others = hold(Role::Sales, 1, false);
        for stored in [&one, &two, &others, &Hold { first_seq: Seq(9), ..one.clone() }] {
            tx.hold(stored).await.expect("stored");
        }
        assert_eq!(tx.holds().await.expect("reads"), [others.clone(), one, two.clone()]);
        let all = hold(Role::Viewer, 3, true);
        tx.hold(&all).await.expect("stored");
        assert_eq!(tx.holds().await.expect("reads"), [others.clone(), all.clone()]);
        tx.release(all.role, all.lead).await.expect("released");
        tx.release(two.role, two.lead).await.expect("there is no such hold");
        assert_eq!(tx.holds().await.expect("reads"), [others]);
    }
}
