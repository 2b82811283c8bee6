//! The hook `authorize`: it denies with its reason, and refuses when it fails.

use leadwire::{
    domain::{role::Role, room::Room},
    plugin::Decision,
};

use crate::{
    guest::Guest,
    plugin::hooks::{Yard, lead, user},
};

#[test]
fn authorize_denies_with_its_reason_and_fails_closed() {
    let room = Room::Lead("0190".into());
    let open = |guests: &[(&'static str, Guest)]| {
        let files: Vec<(&str, Vec<u8>)> = guests.iter().map(|(file, guest)| (*file, guest.build())).collect();
        Yard::open(&files).plugins
    };
    let allow = ("allow.wasm", Guest::new("allow").fields(["/context/user/email"]).authorize(None));
    let deny = ("deny.wasm", Guest::new("deny").authorize(Some("Not on Sundays")));
    let plugins = open(std::slice::from_ref(&allow));
    assert_eq!(plugins.authorize_subscribe(&user(Role::Sales), &room, Some(&lead())), Ok(Decision::Allow));
    let plugins = open(&[allow, deny]);
    assert_eq!(plugins.authorize_connect(&user(Role::Sales)), Ok(Decision::Deny("Not on Sundays".into())));
    assert_eq!(
        plugins.authorize_subscribe(&user(Role::Sales), &room, None),
        Ok(Decision::Deny("Not on Sundays".into()))
    );
    let long = ("long.wasm", Guest::new("long").authorize(Some(&"x".repeat(5000))));
    let plugins = open(&[long]);
    assert!(plugins.authorize_connect(&user(Role::Sales)).expect_err("a fault").reason.contains("4096 are allowed"));
}
