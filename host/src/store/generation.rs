//! Generations: the plugin sets that shaped the events of the log, their files, and the events with which they took
//! force. Each is kept for as long as an event of the log needs it for an explanation.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;

use crate::{
    domain::{
        counter::{Generation, Seq},
        event::{InForce, NewEvent},
        time::Timestamp,
    },
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, json},
    },
};

/// Set of plugins that was in force.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGeneration {
    pub id: Generation,
    pub at: Timestamp,
    /// In the order in which they are asked.
    pub members: Vec<GenerationMember>,
}

/// One plugin of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationMember {
    pub name: String,
    pub version: String,
    /// SHA-256 of its file; the key of the stored file.
    pub hash: String,
    /// `<name>.toml` without secrets and comments.
    pub settings: String,
    /// Generation in which this file and these settings were loaded.
    pub generation: Generation,
    /// True if it has a hook that decides what somebody sees: `filter` or `enrich`. Unknown for older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shapes: Option<bool>,
    /// Set when the plugin's file was missing or refused, so that the plugin held back what it would have decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absence>,
}

/// Hash of a member's file, without the rest of the record, whose form changed over time.
#[derive(Deserialize)]
struct MemberFile {
    hash: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Absence {
    /// Record of the plugin; its format belongs to the plugin module.
    pub record: Value,
    pub reason: String,
    /// True if everything that it would have shaped is held back, so that nobody sees it unshaped meanwhile.
    #[serde(default)]
    pub is_held: bool,
}

/// Switch that took force with the event `seq`: later events are shaped by it, up to the next switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    pub seq: Seq,
    pub in_force: InForce,
}

/// True if two sets may shape the same payload differently: another plugin with `filter` or `enrich`, or the same
/// plugin from another file or with other settings, including grants. A plugin that is missing and held back meanwhile
/// makes no difference.
pub fn shapes_differ(before: &[GenerationMember], after: &[GenerationMember]) -> bool {
    fn shaping(members: &[GenerationMember]) -> Vec<(&str, &str, &str, bool)> {
        let shaping = members.iter().filter(|member| member.shapes != Some(false));
        let mut shaping: Vec<_> = shaping
            .map(|GenerationMember { name, hash, settings, absent, .. }| {
                let is_there = absent.as_ref().is_none_or(|absence| absence.is_held);
                (name.as_str(), hash.as_str(), settings.as_str(), is_there)
            })
            .collect();
        shaping.sort_unstable();
        shaping
    }
    shaping(before) != shaping(after)
}

impl Reader {
    /// Generation that was recorded last.
    pub async fn last_generation(&mut self) -> Result<Option<StoredGeneration>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(plugin_generations),
            " FROM plugin_generations ORDER BY id DESC LIMIT 1"
        ))
        .fetch_optional(&mut *self.tx)
        .await?;
        row.as_ref().map(generation).transpose()
    }

    pub async fn generation(&mut self, id: Generation) -> Result<Option<StoredGeneration>> {
        let row =
            sqlx::query(concat!("SELECT ", columns!(plugin_generations), " FROM plugin_generations WHERE id = $1"))
                .bind(id)
                .fetch_optional(&mut *self.tx)
                .await?;
        row.as_ref().map(generation).transpose()
    }

    /// Plugin file with that SHA-256.
    pub async fn plugin_file(&mut self, hash: &str) -> Result<Option<Vec<u8>>> {
        let bytes = sqlx::query_scalar("SELECT bytes FROM plugin_files WHERE hash = $1").bind(hash);
        Ok(bytes.fetch_optional(&mut *self.tx).await?)
    }

    /// Plugin files of a set by hash, as far as they are stored.
    pub async fn plugin_files(&mut self, generation: &StoredGeneration) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for member in generation.members.iter().filter(|member| member.absent.is_none()) {
            if let Some(bytes) = self.plugin_file(&member.hash).await? {
                files.insert(member.hash.clone(), bytes);
            }
        }
        Ok(files)
    }

    /// Switch by which delivery shaped the event `seq`.
    pub async fn switch_before(&mut self, seq: Seq) -> Result<Option<Switch>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(delivery_switches),
            " FROM delivery_switches WHERE seq < $1 ORDER BY seq DESC LIMIT 1"
        ))
        .bind(seq)
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "delivery_switches", row: &row };
        let (generation, visibility) = (columns.generation("generation")?, columns.json("visibility")?);
        Ok(Some(Switch { seq: columns.seq("seq")?, in_force: InForce { generation, visibility } }))
    }
}

impl Tx<'_> {
    /// Records a set of plugins with its files, by hash, and returns its generation.
    pub async fn record_generation(
        &mut self,
        members: &[GenerationMember],
        files: &[(&str, &[u8])],
        at: Timestamp,
    ) -> Result<Generation> {
        for (hash, bytes) in files {
            sqlx::query("INSERT INTO plugin_files (hash, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(*hash)
                .bind(*bytes)
                .execute(&mut *self.reader.tx)
                .await?;
        }
        let id = sqlx::query_scalar(
            "INSERT INTO plugin_generations (id, at, members)
             SELECT COALESCE(MAX(id), 0) + 1, $1, $2 FROM plugin_generations RETURNING id",
        )
        .bind(at.to_string())
        .bind(json(&members))
        .fetch_one(&mut *self.reader.tx)
        .await?;
        Ok(id)
    }

    /// Puts `in_force` into force with the next event of the log, and returns the seq of that event. `resets` as in
    /// [`NewEvent::delivery_switched`].
    pub async fn switch_delivery(&mut self, in_force: InForce, resets: bool, at: Timestamp) -> Result<Seq> {
        let seq = self.append(&NewEvent::delivery_switched(in_force, resets, at)).await?;
        self.note_switch(seq, in_force).await?;
        Ok(seq)
    }

    /// Records what is in force at the start of an empty log.
    pub async fn begin_delivery(&mut self, in_force: InForce) -> Result<()> {
        self.note_switch(Seq::START, in_force).await
    }

    async fn note_switch(&mut self, seq: Seq, in_force: InForce) -> Result<()> {
        sqlx::query(
            "INSERT INTO delivery_switches (seq, generation, visibility) VALUES ($1, $2, $3)
             ON CONFLICT (seq) DO UPDATE SET generation = excluded.generation, visibility = excluded.visibility",
        )
        .bind(seq)
        .bind(in_force.generation)
        .bind(json(&in_force.visibility))
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(())
    }

    /// Deletes switches, generations and files that no event of the log needs any more.
    ///
    /// Call it whenever one of these was added or events were deleted.
    pub async fn forget_generations(&mut self) -> Result<()> {
        // The last switch before the oldest event is the one that this event was shaped by.
        const SWITCHES: &str = "DELETE FROM delivery_switches WHERE seq < (
            SELECT MAX(seq) FROM delivery_switches
            WHERE seq < (SELECT COALESCE(MIN(seq), (SELECT head + 1 FROM log)) FROM events))";
        // A generation newer than every switch is about to take force.
        const GENERATIONS: &str = "DELETE FROM plugin_generations
            WHERE id NOT IN (SELECT generation FROM delivery_switches)
            AND id < (SELECT MAX(generation) FROM delivery_switches)";
        for statement in [SWITCHES, GENERATIONS] {
            sqlx::query(statement).execute(&mut *self.reader.tx).await?.any_number();
        }
        self.forget_plugin_files().await
    }

    /// Deletes files that belong to no recorded generation.
    async fn forget_plugin_files(&mut self) -> Result<()> {
        let rows = sqlx::query("SELECT members FROM plugin_generations").fetch_all(&mut *self.reader.tx).await?;
        let mut needed = HashSet::new();
        for row in &rows {
            let members: Vec<MemberFile> = Columns { table: "plugin_generations", row }.json("members")?;
            needed.extend(members.into_iter().map(|member| member.hash));
        }
        let stored: Vec<String> =
            sqlx::query_scalar("SELECT hash FROM plugin_files").fetch_all(&mut *self.reader.tx).await?;
        for hash in stored.iter().filter(|hash| !needed.contains(*hash)) {
            let delete = sqlx::query("DELETE FROM plugin_files WHERE hash = $1").bind(hash);
            delete.execute(&mut *self.reader.tx).await?.exactly_one("plugin_files")?;
        }
        Ok(())
    }
}

fn generation(row: &SqliteRow) -> Result<StoredGeneration> {
    let columns = Columns { table: "plugin_generations", row };
    Ok(StoredGeneration { id: columns.generation("id")?, at: columns.parsed("at")?, members: columns.json("members")? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sqlx::{
        migrate::Migrator,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    };

    use super::*;
    use crate::{
        domain::{
            id::{LeadId, UserId},
            policy::Visibility,
            role::Role,
        },
        store::{test_database::TestDatabase, upgrade::MIGRATIONS},
    };

    fn at() -> Timestamp {
        Timestamp::from_millis(0).expect("in range")
    }

    fn member(name: &str, hash: &str) -> GenerationMember {
        let (name, hash) = (name.into(), hash.into());
        let (version, settings) = ("1.0.0".into(), String::new());
        GenerationMember { name, version, hash, settings, generation: Generation(1), shapes: Some(true), absent: None }
    }

    async fn append(tx: &mut Tx<'_>) -> Seq {
        let draft = NewEvent {
            name: "lead:created",
            rooms: Vec::new(),
            lead_id: None,
            payload: json!({}),
            context: json!({}),
            at: at(),
        };
        tx.append(&draft).await.expect("a line")
    }

    async fn switch(tx: &mut Tx<'_>, generation: Generation) -> Seq {
        tx.switch_delivery(in_force(generation), true, at()).await.expect("switched")
    }

    fn in_force(generation: Generation) -> InForce {
        InForce { generation, visibility: Visibility::default() }
    }

    #[test]
    fn sets_differ_only_by_what_shapes_events() {
        let both = [member("a", "h1"), member("b", "h2")];
        let follower = GenerationMember { shapes: Some(false), ..member("c", "h3") };
        let turned = [both[1].clone(), follower, both[0].clone()];
        assert!(!shapes_differ(&both, &turned));
        let set = |member: GenerationMember| [both[0].clone(), member];
        assert!(shapes_differ(&both, &both[..1]));
        assert!(shapes_differ(&both, &set(member("b", "h3"))));
        assert!(shapes_differ(&both, &set(GenerationMember { settings: "order = 1\n".into(), ..member("b", "h2") })));
        let missing = |is_held| {
            let absent = Some(Absence { record: json!({}), reason: "gone".into(), is_held });
            set(GenerationMember { absent, ..member("b", "h2") })
        };
        assert!(shapes_differ(&both, &missing(false)), "what it added is left out");
        assert!(!shapes_differ(&both, &missing(true)), "nobody is shown anything else");
        assert!(shapes_differ(&[], &[GenerationMember { shapes: None, ..member("c", "h3") }]), "an older record");
    }

    #[tokio::test]
    async fn an_event_was_shaped_by_the_last_switch_before_it() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        let first = tx.record_generation(&[member("a", "h1")], &[("h1", b"one")], at()).await.expect("recorded");
        let second = tx.record_generation(&[member("a", "h2")], &[("h2", b"two")], at()).await.expect("recorded");
        assert_eq!((first, second), (Generation(1), Generation(2)));
        tx.begin_delivery(in_force(first)).await.expect("begun");
        assert_eq!(
            (append(&mut tx).await, switch(&mut tx, second).await, append(&mut tx).await),
            (Seq(1), Seq(2), Seq(3))
        );
        tx.commit().await.expect("commits");

        let mut reader = store.read().await.expect("reads");
        assert_eq!(reader.switch_before(Seq(0)).await.expect("reads"), None);
        for (seq, since, generation) in [(1, 0, first), (2, 0, first), (3, 2, second), (u64::MAX, 2, second)] {
            let switch = reader.switch_before(Seq(seq)).await.expect("reads").expect("noted");
            assert_eq!((switch.seq, switch.in_force.generation), (Seq(since), generation), "{seq}");
        }
        assert_eq!(reader.generation(first).await.expect("reads").expect("there").members, [member("a", "h1")]);
        assert_eq!(reader.last_generation().await.expect("reads").map(|last| last.id), Some(second));
        assert_eq!(reader.plugin_file("h2").await.expect("reads").as_deref(), Some(&b"two"[..]));
    }

    #[tokio::test]
    async fn the_last_reset_per_role_survives_pruning() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        append(&mut tx).await;
        assert_eq!(tx.resets().await.expect("reads"), []);
        assert_eq!(tx.newest_reset(Role::Sales).await.expect("reads"), Seq(0));
        switch(&mut tx, Generation(1)).await;
        tx.append(&NewEvent::delivery_released(&[Role::Sales], at())).await.expect("a line");
        tx.switch_delivery(in_force(Generation(2)), false, at()).await.expect("switched");
        sqlx::query("DELETE FROM events").execute(&mut *tx.reader.tx).await.expect("pruned");
        let mut resets = tx.resets().await.expect("reads");
        resets.sort_unstable();
        assert_eq!(
            resets,
            [(Role::Admin, Seq(2)), (Role::Manager, Seq(2)), (Role::Sales, Seq(3)), (Role::Viewer, Seq(2))]
        );
        assert_eq!(tx.newest_reset(Role::Sales).await.expect("reads"), Seq(3));
    }

    #[tokio::test]
    async fn only_unreferenced_generations_are_deleted() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        for (hash, shared) in [("h1", "s1"), ("h2", "s1"), ("h3", "s2"), ("h4", "s2"), ("h5", "s2")] {
            let members = [member("a", hash), member("b", shared)];
            tx.record_generation(&members, &[(hash, b"a"), (shared, b"b")], at()).await.expect("recorded");
        }
        // The second generation was replaced before it took force, the fifth has not taken force yet.
        tx.begin_delivery(in_force(Generation(1))).await.expect("begun");
        for generation in [1, 3, 4] {
            if generation > 1 {
                switch(&mut tx, Generation(generation)).await;
            }
            append(&mut tx).await;
            append(&mut tx).await;
        }
        tx.forget_generations().await.expect("forgets");
        assert_eq!(stored(&mut tx).await, (vec![0, 3, 6], vec![1, 3, 4, 5], "h1 h3 h4 h5 s1 s2".into()));

        // The third generation shaped one of the remaining events.
        sqlx::query("DELETE FROM events WHERE seq <= 4").execute(&mut *tx.reader.tx).await.expect("pruned");
        tx.forget_generations().await.expect("forgets");
        assert_eq!(stored(&mut tx).await, (vec![3, 6], vec![3, 4, 5], "h3 h4 h5 s2".into()));

        sqlx::query("DELETE FROM events").execute(&mut *tx.reader.tx).await.expect("pruned");
        tx.forget_generations().await.expect("forgets");
        assert_eq!(stored(&mut tx).await, (vec![6], vec![4, 5], "h4 h5 s2".into()));
    }

    #[tokio::test]
    async fn a_migrated_log_keeps_its_explanations_and_its_last_reset() {
        let database = TestDatabase::new();
        let options = SqliteConnectOptions::new().filename(database.file()).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("opens");
        let before = MIGRATIONS.iter().filter(|migration| migration.version < 8).cloned().collect();
        Migrator::with_migrations(before).run(&pool).await.expect("migrates");
        let (user, lead, at) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7(), "2026-01-01T00:00:00.000Z");
        let all = r#"{"ADMIN":"all","MANAGER":"all","SALES":"all","VIEWER":"all"}"#;
        for statement in [
            format!("INSERT INTO users VALUES ('{user}', 'ann@example.com', 'Ann', 'SALES', 1, '', '{at}', '{at}')"),
            format!(
                "INSERT INTO leads (id, title, status, currency, custom, created_by, version, created_at, updated_at)
                 VALUES ('{lead}', 'Roof', 'NEW', 'USD', '{{}}', '{user}', 7, '{at}', '{at}')"
            ),
            "INSERT INTO log VALUES (1, 'epoch', 6)".into(),
            format!("INSERT INTO delivery_marks VALUES (1, 0, '{all}'), (4, 3, '{all}')"),
            format!(
                r#"INSERT INTO events VALUES
                     (5, 'lead:updated', '[]', NULL, '{{"lead":{{"version":7,"custom":{{"n":1.50}}}}}}', '{{}}', '{at}'),
                     (6, 'session:updated', '[]', NULL, '{{}}', '{{"user":{{"id":"{user}"}}}}', '{at}')"#
            ),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.expect("inserts");
        }
        pool.close().await;

        let store = database.open().await;
        let mut reader = store.read().await.expect("a reader");
        for (seq, since, generation) in [(1, 0, 0), (3, 0, 0), (4, 3, 3), (6, 3, 3)] {
            let switch = reader.switch_before(Seq(seq)).await.expect("reads").expect("noted");
            assert_eq!((switch.seq, switch.in_force.generation), (Seq(since), Generation(generation)), "{seq}");
        }
        assert_eq!(reader.resets().await.expect("reads"), Role::ALL.map(|role| (role, Seq(4))));
        assert_eq!(reader.rights_seq(UserId(user)).await.expect("reads"), Seq(6));
        assert_eq!(reader.lead(LeadId(lead)).await.expect("reads").expect("kept").rev, 7);
        let event = reader.event(Seq(5)).await.expect("reads").expect("kept");
        assert_eq!(event.payload.to_string(), r#"{"lead":{"version":7,"custom":{"n":1.5},"rev":7}}"#);
    }

    /// Seqs of switches, numbers of generations and hashes of files.
    async fn stored(tx: &mut Tx<'_>) -> (Vec<i64>, Vec<i64>, String) {
        let tx = &mut *tx.reader.tx;
        let switches = sqlx::query_scalar("SELECT seq FROM delivery_switches ORDER BY 1");
        let switches = switches.fetch_all(&mut *tx).await.expect("reads");
        let generations = sqlx::query_scalar("SELECT id FROM plugin_generations ORDER BY 1");
        let generations = generations.fetch_all(&mut *tx).await.expect("reads");
        let files = sqlx::query_scalar("SELECT hash FROM plugin_files ORDER BY 1");
        let files: Vec<String> = files.fetch_all(&mut *tx).await.expect("reads");
        (switches, generations, files.join(" "))
    }
}
