//! What shaped the events of the log: sets of plugins, the files they were made of, and from which seq on
//! delivery used which. It is kept for as long as the log has an event that needs it to be explained.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;

use super::{
    Reader, Result, Tx,
    row::{Columns, json},
};
use crate::domain::{policy::Visibility, time::Timestamp};

/// A set of plugins that was in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    pub id: u64,
    pub at: Timestamp,
    /// In the order in which they are asked.
    pub members: Vec<Member>,
}

/// One plugin of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub name: String,
    pub version: String,
    /// SHA-256 of its file, by which the file is kept.
    pub hash: String,
    /// `<name>.toml` as it was, without secrets and comments.
    pub settings: String,
    /// The generation in which this file and these settings were loaded.
    pub generation: u64,
    /// For a plugin whose file was missing or refused, and which held back what it would have decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absence>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Absence {
    /// What was known of the plugin; the plugins' to read.
    pub record: Value,
    pub reason: String,
}

/// From `first_seq` on, up to the next mark, delivery shaped events with that generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub first_seq: u64,
    /// 0 for a server without plugins.
    pub generation: u64,
    pub visibility: Visibility,
}

impl Reader {
    /// The generation that was recorded last.
    pub async fn last_generation(&mut self) -> Result<Option<Generation>> {
        let row = sqlx::query("SELECT * FROM plugin_generations ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut *self.tx)
            .await?;
        row.as_ref().map(generation).transpose()
    }

    pub async fn generation(&mut self, id: u64) -> Result<Option<Generation>> {
        let row = sqlx::query("SELECT * FROM plugin_generations WHERE id = ?")
            .bind(i64::try_from(id).unwrap_or(i64::MAX))
            .fetch_optional(&mut *self.tx)
            .await?;
        row.as_ref().map(generation).transpose()
    }

    /// The file with that SHA-256.
    pub async fn plugin_file(&mut self, hash: &str) -> Result<Option<Vec<u8>>> {
        let bytes = sqlx::query_scalar("SELECT bytes FROM plugin_files WHERE hash = ?").bind(hash);
        Ok(bytes.fetch_optional(&mut *self.tx).await?)
    }

    /// The files that a set was made of, by hash, as far as they were kept.
    pub async fn plugin_files(&mut self, generation: &Generation) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for member in generation.members.iter().filter(|member| member.absent.is_none()) {
            if let Some(bytes) = self.plugin_file(&member.hash).await? {
                files.insert(member.hash.clone(), bytes);
            }
        }
        Ok(files)
    }

    /// What delivery shaped the event `seq` with.
    pub async fn mark_at(&mut self, seq: u64) -> Result<Option<Mark>> {
        let row = sqlx::query("SELECT * FROM delivery_marks WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1")
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .fetch_optional(&mut *self.tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "delivery_marks", row: &row };
        Ok(Some(Mark {
            first_seq: columns.integer("first_seq")? as u64,
            generation: columns.integer("generation")? as u64,
            visibility: columns.json("visibility")?,
        }))
    }
}

impl Tx<'_> {
    /// Records a set of plugins with the files it is made of, by hash, and returns its number.
    pub async fn record_generation(
        &mut self,
        members: &[Member],
        files: &[(&str, &[u8])],
        at: Timestamp,
    ) -> Result<u64> {
        for (hash, bytes) in files {
            sqlx::query("INSERT INTO plugin_files (hash, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(*hash)
                .bind(*bytes)
                .execute(&mut *self.reader.tx)
                .await?;
        }
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO plugin_generations (id, at, members)
             SELECT COALESCE(MAX(id), 0) + 1, ?, ? FROM plugin_generations RETURNING id",
        )
        .bind(at.to_string())
        .bind(json(&members))
        .fetch_one(&mut *self.reader.tx)
        .await?;
        Ok(id as u64)
    }

    /// Takes note of what delivery uses from an event on.
    pub async fn mark_delivery(&mut self, mark: &Mark) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO delivery_marks (first_seq, generation, visibility) VALUES (?, ?, ?)")
            .bind(i64::try_from(mark.first_seq).unwrap_or(i64::MAX))
            .bind(i64::try_from(mark.generation).unwrap_or(i64::MAX))
            .bind(json(&mark.visibility))
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Lets go of the marks, generations and files that no event of the log needs any more.
    ///
    /// To be called whenever something of that kind was added or events were taken away.
    pub async fn forget_generations(&mut self) -> Result<()> {
        // The mark before the oldest event is the one that it was shaped under.
        const MARKS: &str = "DELETE FROM delivery_marks WHERE first_seq < (
            SELECT MAX(first_seq) FROM delivery_marks
            WHERE first_seq <= (SELECT COALESCE(MIN(seq), (SELECT head + 1 FROM log)) FROM events))";
        // One that is newer than every mark is in force, or is about to be.
        const GENERATIONS: &str = "DELETE FROM plugin_generations
            WHERE id NOT IN (SELECT generation FROM delivery_marks)
            AND id < (SELECT MAX(generation) FROM delivery_marks)";
        const FILES: &str = "DELETE FROM plugin_files WHERE hash NOT IN (
            SELECT json_extract(member.value, '$.hash')
            FROM plugin_generations, json_each(plugin_generations.members) AS member)";
        for statement in [MARKS, GENERATIONS, FILES] {
            sqlx::query(statement).execute(&mut *self.reader.tx).await?;
        }
        Ok(())
    }
}

fn generation(row: &SqliteRow) -> Result<Generation> {
    let columns = Columns { table: "plugin_generations", row };
    Ok(Generation { id: columns.integer("id")? as u64, at: columns.parsed("at")?, members: columns.json("members")? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{domain::event::Draft, store::Store};

    fn at() -> Timestamp {
        Timestamp::from_millis(0).expect("in range")
    }

    fn member(name: &str, hash: &str) -> Member {
        let (name, hash) = (name.into(), hash.into());
        Member { name, version: "1.0.0".into(), hash, settings: String::new(), generation: 1, absent: None }
    }

    async fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens")
    }

    async fn append(tx: &mut Tx<'_>) -> u64 {
        let draft = Draft {
            name: "lead:created",
            rooms: Vec::new(),
            lead_id: None,
            payload: json!({}),
            context: json!({}),
            at: at(),
        };
        tx.append(&draft).await.expect("a line")
    }

    async fn use_from(tx: &mut Tx<'_>, first_seq: u64, generation: u64) {
        let mark = Mark { first_seq, generation, visibility: Visibility::default() };
        tx.mark_delivery(&mark).await.expect("marked");
    }

    #[tokio::test]
    async fn an_event_was_shaped_by_the_last_mark_before_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store(&dir).await;
        let mut tx = store.write().await.expect("a transaction");
        let first = tx.record_generation(&[member("a", "h1")], &[("h1", b"one")], at()).await.expect("recorded");
        let second = tx.record_generation(&[member("a", "h2")], &[("h2", b"two")], at()).await.expect("recorded");
        assert_eq!((first, second), (1, 2));
        use_from(&mut tx, 3, first).await;
        use_from(&mut tx, 7, second).await;
        tx.commit().await.expect("commits");

        let mut reader = store.read().await.expect("reads");
        assert_eq!(reader.mark_at(2).await.expect("reads"), None);
        for (seq, generation) in [(3, first), (6, first), (7, second), (u64::MAX, second)] {
            let mark = reader.mark_at(seq).await.expect("reads").expect("marked");
            assert_eq!(mark.generation, generation, "{seq}");
        }
        assert_eq!(reader.generation(first).await.expect("reads").expect("there").members, [member("a", "h1")]);
        assert_eq!(reader.last_generation().await.expect("reads").map(|last| last.id), Some(second));
        assert_eq!(reader.plugin_file("h2").await.expect("reads").as_deref(), Some(&b"two"[..]));
    }

    #[tokio::test]
    async fn what_no_event_needs_is_forgotten_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store(&dir).await;
        let mut tx = store.write().await.expect("a transaction");
        for (hash, shared) in [("h1", "s1"), ("h2", "s1"), ("h3", "s2"), ("h4", "s2"), ("h5", "s2")] {
            let members = [member("a", hash), member("b", shared)];
            tx.record_generation(&members, &[(hash, b"a"), (shared, b"b")], at()).await.expect("recorded");
        }
        // The second generation was replaced before there was an event, the fifth has not been used yet.
        for (generation, events) in [(1, 2), (3, 2), (4, 2)] {
            let seq = append(&mut tx).await;
            use_from(&mut tx, seq, generation).await;
            for _ in 1..events {
                append(&mut tx).await;
            }
        }
        tx.forget_generations().await.expect("forgets");
        assert_eq!(kept(&mut tx).await, (vec![1, 3, 5], vec![1, 3, 4, 5], "h1 h3 h4 h5 s1 s2".into()));

        // Half of the events are gone; the third generation shaped one of those that stay.
        sqlx::query("DELETE FROM events WHERE seq <= 3").execute(&mut *tx.reader.tx).await.expect("pruned");
        tx.forget_generations().await.expect("forgets");
        assert_eq!(kept(&mut tx).await, (vec![3, 5], vec![3, 4, 5], "h3 h4 h5 s2".into()));

        sqlx::query("DELETE FROM events").execute(&mut *tx.reader.tx).await.expect("pruned");
        tx.forget_generations().await.expect("forgets");
        assert_eq!(kept(&mut tx).await, (vec![5], vec![4, 5], "h4 h5 s2".into()));
    }

    /// The seqs of marks, the numbers of generations and the hashes of files.
    async fn kept(tx: &mut Tx<'_>) -> (Vec<i64>, Vec<i64>, String) {
        let tx = &mut *tx.reader.tx;
        let marks = sqlx::query_scalar("SELECT first_seq FROM delivery_marks ORDER BY 1");
        let marks = marks.fetch_all(&mut *tx).await.expect("reads");
        let generations = sqlx::query_scalar("SELECT id FROM plugin_generations ORDER BY 1");
        let generations = generations.fetch_all(&mut *tx).await.expect("reads");
        let files = sqlx::query_scalar("SELECT hash FROM plugin_files ORDER BY 1");
        let files: Vec<String> = files.fetch_all(&mut *tx).await.expect("reads");
        (marks, generations, files.join(" "))
    }
}
