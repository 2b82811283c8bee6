//! Tests of commands that are committed together.

use tokio::task::{JoinHandle, yield_now};

use crate::{app::tests::*, domain::input::Invalid};

type Answer = JoinHandle<Result<CommandOutcome>>;

impl AppDesk {
    /// Starts an update that ends in the next group.
    fn updating(&self, lead: LeadId, patch: Value, version: Option<i64>, key: Option<&str>) -> Answer {
        let key = key.map(|key| key_of(key).expect("a key"));
        let (app, actor) = (self.app.clone(), self.admin.clone());
        let command = Command::UpdateLead { lead, patch: object(patch), version };
        tokio::spawn(async move { app.execute(&actor, command, key).await })
    }

    /// Carries out updates in one group, in this order: patch, version and key of each.
    async fn together(
        &self,
        lead: LeadId,
        updates: impl IntoIterator<Item = (Value, Option<i64>, Option<&str>)>,
    ) -> Vec<Result<CommandOutcome>> {
        let alone = self.app.store().write().await.expect("a transaction");
        let queued = || self.app.store().group_commit().queued();
        let (before, mut answers) = (queued(), Vec::new());
        for (patch, version, key) in updates {
            answers.push(self.updating(lead, patch, version, key));
            while queued() < before + answers.len() {
                yield_now().await;
            }
        }
        drop(alone);
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.await.expect("no panic"));
        }
        outcomes
    }
}

fn key_of(key: &str) -> std::result::Result<IdempotencyKey, Invalid> {
    IdempotencyKey::parse("key", key)
}

#[tokio::test]
async fn of_two_requests_with_one_key_in_a_group_one_is_carried_out() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await.id;
    let before = desk.log().await.len();
    let wall = json!({"title": "Wall"});
    let same = (wall, None, Some("k"));
    let outcomes = desk.together(lead, [same.clone(), same, (json!({"title": "Door"}), None, Some("k"))]).await;
    let versions: Vec<Option<i64>> = outcomes.iter().map(version).collect();
    assert_eq!(versions, [Some(2), Some(2), None], "{outcomes:?}");
    assert_eq!(outcomes.into_iter().last().map(code).as_deref(), Some("idempotency_key_reused"));
    assert_eq!(desk.log().await.len(), before + 1);
}

#[tokio::test]
async fn a_key_of_a_refused_request_can_be_used_again() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await.id;
    let updates = [(json!({"title": "Wall"}), Some(7), Some("k")), (json!({"title": "Door"}), Some(1), Some("k"))];
    let outcomes = desk.together(lead, updates).await;
    assert_eq!(outcomes.iter().map(version).collect::<Vec<_>>(), [None, Some(2)], "{outcomes:?}");
}

#[tokio::test]
async fn of_two_changes_of_the_same_version_in_a_group_one_conflicts() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await.id;
    let updates = ["Wall", "Door", "Gate"].map(|title| (json!({"title": title}), Some(1), None));
    let outcomes = desk.together(lead, updates).await;
    assert_eq!(outcomes.iter().map(version).collect::<Vec<_>>(), [Some(2), None, None], "{outcomes:?}");
    for outcome in outcomes.into_iter().skip(1) {
        let Err(Error::Conflict { current, .. }) = outcome else { panic!("no conflict: {outcome:?}") };
        assert_eq!((&current["version"], &current["title"]), (&json!(2), &json!("Wall")));
    }
}

fn version(outcome: &Result<CommandOutcome>) -> Option<i64> {
    match outcome {
        Ok(CommandOutcome::Lead { version, .. }) => Some(*version),
        _ => None,
    }
}
