//! Tests of effects whose records are deleted.

use crate::{app::tests::*, domain::plugin_name::PluginName};

#[tokio::test]
async fn old_completed_effects_are_all_deleted() {
    let desk = AppDesk::open().await;
    let (app, now) = (&desk.app, desk.app.now());
    let clock: PluginName = "clock".parse().expect("a name");
    app.follow(&clock).await.expect("follows");
    let (input, cause) = (Map::new(), Cause { plugins: vec![clock.clone()], occasion: "epoch:1".into() });
    let mut tx = app.store().write().await.expect("a transaction");
    tx.stage(&clock, &cause, (0..2501).map(|_| ("remind", &input)), now, now).await.expect("staged");
    for id in 1..=2500 {
        assert!(tx.finish_effect(id, now).await.expect("done"));
    }
    tx.commit().await.expect("commits");
    assert_eq!(app.forget_effects(now).await.expect("forgets"), 0);
    assert_eq!(app.forget_effects(now.plus(std::time::Duration::from_millis(1))).await.expect("forgets"), 2500);
    assert_eq!(app.follower_stats().await.expect("stats")["clock"].pending, 1);
}
