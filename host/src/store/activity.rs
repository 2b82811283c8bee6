//! Activities of leads: queries and writes.

use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use crate::{
    domain::{
        activity::{Activity, ActivityFields, ActivityType},
        id::{ActivityId, LeadId},
        time::Timestamp,
    },
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, WriteQuery, json},
    },
};

/// Position in a list that is sorted newest first: after this activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ActivityPosition {
    pub created_at: Timestamp,
    pub id: ActivityId,
}

impl From<&Activity> for ActivityPosition {
    fn from(activity: &Activity) -> Self {
        Self { created_at: activity.created_at, id: activity.id }
    }
}

impl Reader {
    /// Returns the activity, unless its lead is deleted.
    pub async fn activity(&mut self, id: ActivityId) -> Result<Option<Activity>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(activities as a),
            ", coalesce(u.id, p.id) AS by_id, coalesce(u.name, p.name) AS by_name,
                 coalesce(u.email, p.name || '@plugins') AS by_email
             FROM activities a JOIN leads l ON l.id = a.lead_id
                 LEFT JOIN users u ON u.id = a.creator_id LEFT JOIN plugin_actors p ON p.id = a.plugin_id
             WHERE a.id = $1 AND l.deleted_at IS NULL"
        ))
        .bind(id.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        row.as_ref().map(activity).transpose()
    }

    /// Returns at most `limit` activities of a lead, newest first, after the position `after`.
    pub async fn activities(
        &mut self,
        lead: LeadId,
        after: Option<ActivityPosition>,
        limit: u32,
    ) -> Result<Vec<Activity>> {
        let mut query = QueryBuilder::<Sqlite>::new(concat!(
            "SELECT ",
            columns!(activities as a),
            ", coalesce(u.id, p.id) AS by_id, coalesce(u.name, p.name) AS by_name,
                 coalesce(u.email, p.name || '@plugins') AS by_email
             FROM activities a
                 LEFT JOIN users u ON u.id = a.creator_id LEFT JOIN plugin_actors p ON p.id = a.plugin_id
             WHERE a.lead_id = "
        ));
        query.push_bind(lead.to_string());
        if let Some(after) = after {
            query.push(" AND (a.created_at, a.id) < (").push_bind(after.created_at.to_string());
            query.push(", ").push_bind(after.id.to_string()).push(")");
        }
        query.push(" ORDER BY a.created_at DESC, a.id DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&mut *self.tx).await?.iter().map(activity).collect()
    }
}

impl Tx<'_> {
    /// Inserts an activity. Its creator is the user or the plugin that has the id.
    pub async fn insert_activity(&mut self, activity: &Activity) -> Result<()> {
        let insert = sqlx::query(concat!(
            "INSERT INTO activities (",
            columns!(activities written),
            ", id, lead_id, created_at, creator_id, plugin_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                 (SELECT id FROM users WHERE id = $10), (SELECT id FROM plugin_actors WHERE id = $10))"
        ));
        bind_written(insert, activity)
            .bind(activity.lead_id.to_string())
            .bind(activity.created_at.to_string())
            .bind(activity.creator.id.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    pub async fn save_activity(&mut self, activity: &Activity) -> Result<()> {
        let update = sqlx::query(concat!(
            "UPDATE activities SET (",
            columns!(activities written),
            ") = ($1, $2, $3, $4, $5, $6) WHERE id = $7"
        ));
        bind_written(update, activity).execute(&mut *self.reader.tx).await?.exactly_one("activities")
    }

    pub async fn delete_activity(&mut self, id: ActivityId) -> Result<()> {
        let delete = sqlx::query("DELETE FROM activities WHERE id = $1").bind(id.to_string());
        delete.execute(&mut *self.reader.tx).await?.exactly_one("activities")
    }
}

/// Binds the columns of `columns!(activities written)`, then the id.
fn bind_written<'q>(query: WriteQuery<'q>, activity: &'q Activity) -> WriteQuery<'q> {
    let fields = &activity.fields;
    query
        .bind(fields.kind.as_str())
        .bind(&fields.body)
        .bind(fields.due_at.map(|time| time.to_string()))
        .bind(fields.completed_at.map(|time| time.to_string()))
        .bind(json(&fields.meta))
        .bind(activity.updated_at.to_string())
        .bind(activity.id.to_string())
}

fn activity(row: &SqliteRow) -> Result<Activity> {
    let columns = Columns { table: "activities", row };
    let fields = ActivityFields {
        kind: columns.named("type", ActivityType::from_name)?,
        body: columns.maybe_text("body")?,
        due_at: columns.maybe("due_at")?,
        completed_at: columns.maybe("completed_at")?,
        meta: columns.json("meta")?,
    };
    Ok(Activity {
        id: columns.parsed("id")?,
        lead_id: columns.parsed("lead_id")?,
        fields,
        creator: columns.required_user("by_id", "by")?,
        created_at: columns.parsed("created_at")?,
        updated_at: columns.parsed("updated_at")?,
    })
}
