//! Tests of the queue, the catch-up and the rights of one client, without a transport.

use serde_json::json;

use super::{
    testing::{ROLE, client, user},
    *,
};
use crate::{
    auth::Credentials,
    delivery::{
        line::{LogLine, Message},
        shape::Shaper,
    },
    domain::{counter::Seq, event_name::EventName, id::Epoch, policy::Visibility, time::Timestamp},
    plugin::Plugins,
};

fn event(seq: Seq) -> Event {
    let (rooms, at) = (vec![Room::Everyone], Timestamp::from_millis(0).expect("in range"));
    Event { seq, name: "lead:updated".into(), rooms, lead_id: None, payload: json!({}).into(), context: json!({}), at }
}

fn offer(client: &Client, seq: Seq) {
    let shaper = Shaper::new(Plugins::none(), Visibility::default(), &Epoch::from("epoch"));
    let line = LogLine::new(event(seq));
    client.offer(&[(&line.event, &shaper.slices(&line, &[ROLE]))]);
}

fn seqs(client: &Client) -> Vec<u64> {
    let seq = |output: OutgoingPacket| match output {
        OutgoingPacket::Event(message) => {
            serde_json::from_str::<serde_json::Value>(message.body()).expect("JSON")["seq"].as_u64()
        }
        OutgoingPacket::Ack(..) => None,
    };
    std::iter::from_fn(|| client.pop()).filter_map(seq).collect()
}

#[test]
fn a_client_gets_no_events_before_it_is_live_and_none_twice() {
    let client = client(8);
    offer(&client, Seq(11));
    assert_eq!((seqs(&client), client.behind()), (vec![], Some(Seq(10))));
    assert!(!client.go_live(|| Seq(11)), "11 was handed out and not read");
    client.advance(Seq(11));
    assert!(client.go_live(|| Seq(11)));
    for seq in [10, 11, 12, 12, 13] {
        offer(&client, Seq(seq));
    }
    assert_eq!(seqs(&client), [12, 13]);
}

#[test]
fn a_full_outbox_marks_a_client_behind_at_the_first_dropped_event() {
    let client = client(2);
    assert!(client.go_live(|| Seq(10)));
    for seq in 11..=15 {
        offer(&client, Seq(seq));
    }
    assert_eq!(client.behind(), None, "what it took comes first");
    assert_eq!(seqs(&client), [11, 12]);
    assert_eq!(client.behind(), Some(Seq(12)));
}

#[test]
fn a_pending_reset_precedes_newer_events_and_loses_no_user_events() {
    let later = Instant::now() + std::time::Duration::from_secs(3600);
    let client = client(8);
    client.enter(&Room::User(user().id), Seq(10));
    assert!(client.go_live(|| Seq(10)));
    offer(&client, Seq(11));
    client.owe_reset(Seq(12), false, later);
    for seq in 13..=15 {
        offer(&client, Seq(seq));
    }
    assert_eq!(seqs(&client), [11], "what was handed out before goes out");
    assert!(!client.go_live(|| Seq(12)));
    assert_eq!((client.behind(), client.is_behind(), client.upto()), (None, false, Seq(12)));
    assert_eq!((client.reset_due(), client.reset_seq(Seq(15))), (Some(later), Seq(14)));
    // The same reset makes up for a second line, and answers a question.
    client.owe_reset(Seq(16), false, later);
    assert_eq!((client.upto(), client.reset_seq(Seq(16))), (Seq(12), Seq(16)));
    client.sync(Seq(14), Some(1), Seq(16), Seq(12)).expect("few wait");
    assert!(client.synced().is_none() && client.reset_due().expect("owed") < later);
    assert_eq!(client.skip_to(Seq(16)), [1]);
    assert!(client.go_live(|| Seq(16)));

    // An event for the user alone is in no list that is fetched.
    client.owe_reset(Seq(17), false, later);
    let mut notice = event(Seq(18));
    notice.rooms = vec![Room::User(user().id)];
    client.offer(&[(&notice, &[])]);
    offer(&client, Seq(19));
    assert_eq!((client.behind(), client.reset_seq(Seq(19))), (None, Seq(17)));
    client.skip_to(Seq(17));
    assert_eq!((client.reset_due(), client.behind()), (None, Some(Seq(17))));
}

#[test]
fn a_switch_that_the_tail_has_yet_to_pass_resets_a_client_whose_handshake_was_ahead_of_it() {
    let now = Instant::now();
    // The handshake read the head at 10, when the tail was at 8.
    let client = client(8);
    client.note_tail(Seq(8));
    client.owe_reset(Seq(8), false, now);
    client.owe_reset(Seq(10), true, now);
    assert_eq!(client.reset_due(), None, "these were in effect");
    client.owe_reset(Seq(9), false, now);
    assert_eq!((client.reset_due(), client.reset_seq(Seq(9))), (Some(now), Seq(10)));
    client.skip_to(Seq(10));
    client.owe_reset(Seq(9), false, now);
    assert_eq!(client.reset_due(), None);
}

#[test]
fn rights_changes_apply_once_and_never_from_older_events() {
    let client = client(8);
    let promoted = |at: i64| {
        let at = Timestamp::from_millis(at).expect("in range");
        RightsChange::User(User { role: Role::Admin, updated_at: at, ..user() })
    };
    let everywhere = RightsChange::SessionsEnded { user: user().id, session: None };
    assert!(client.learn(Seq(10), &promoted(5)).is_none(), "the handshake read later");
    client.learn(Seq(9), &everywhere);
    assert!(!client.has_ended());
    assert_eq!(client.learn(Seq(11), &promoted(5)), Some((vec![Room::Everyone], ROLE, Role::Admin)));
    assert!(client.learn(Seq(11), &RightsChange::User(user())).is_none(), "the same line again");
    assert_eq!(client.user().role, Role::Admin);
    // The clock was set back: a line that was written later counts all the same.
    assert_eq!(client.learn(Seq(12), &promoted(-5)), None);
    assert_eq!(client.learn(Seq(13), &RightsChange::User(user())), Some((vec![Room::Everyone], Role::Admin, ROLE)));
    client.learn(Seq(14), &everywhere);
    assert!(client.has_ended());
    offer(&client, Seq(15));
    assert_eq!((seqs(&client), client.behind()), (vec![], None));
}

#[test]
fn a_socket_closes_when_its_token_does_not_allow_the_new_role() {
    let client = client(8);
    let at = user().created_at;
    let roles = [ROLE].into_iter().collect();
    client.renew(Lease::new(Credentials { session: None, issued_at: at, expires_at: at, roles }));
    client.learn(Seq(11), &RightsChange::User(user()));
    assert!(!client.has_ended());
    client.learn(Seq(12), &RightsChange::User(User { role: Role::Admin, ..user() }));
    assert!(client.has_ended());
}

#[test]
fn a_closed_client_joins_no_room_and_gets_no_reply() {
    let client = client(8);
    assert_eq!(client.close(), Some((Rooms::from([(Room::Everyone, Seq(10))]), ROLE)));
    assert_eq!(client.close(), None);
    assert_eq!(client.enter(&Room::Lead("x".into()), Seq(11)), None);
    assert!(
        client.try_reply(&OutgoingPacket::Event(Message::new(EventName::Error.as_str(), &json!({})))),
        "it is dropped"
    );
    assert!(client.pop().is_none());
}

#[test]
fn a_client_ahead_of_the_tail_missed_nothing() {
    let (client, room) = (client(2), Room::Lead("1".into()));
    let (tail, none) = (Seq(9), Seq::START);
    client.enter(&room, tail);
    client.ask(&room, Seq(10), tail, none);
    client.sync(Seq(10), Some(1), tail, none).expect("few wait");
    assert!(client.next_missed().is_none(), "the handshake was at 10");

    client.ask(&room, Seq(11), tail, none);
    assert_eq!(client.next_missed().map(|missed| missed.since), Some(Seq(11)), "ahead of the log");
}
