//! Logins under attack: the owner can sign in, and guessing stays slow.

use std::num::NonZeroU32;

use leadwire::{config::Config, domain::role::Role};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{PASSWORD, Reply, TestApp, send};

const OWNER: &str = "sales@example.com";

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

/// A server behind a proxy with the default limits.
async fn behind_a_proxy(change: impl FnOnce(&mut Config)) -> TestApp {
    let app = TestApp::with(|config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        config.auth.login_limits = Default::default();
        // One user per role signs in at the start.
        change(config);
    });
    app.await
}

async fn login(app: &TestApp, from: &str, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    let request = app.anonymous().request(Method::POST, "/api/auth/login").header("x-forwarded-for", from);
    send(request.json(&body)).await
}

#[tokio::test]
async fn failed_attempts_from_elsewhere_do_not_lock_out_the_owner() {
    let app = behind_a_proxy(|_| {}).await;
    for _ in 0..10 {
        login(&app, "203.0.113.9", OWNER, "wrong password").await.refused(401, "invalid_credentials");
    }
    let refused = login(&app, "203.0.113.9", OWNER, PASSWORD).await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)));
    refused.refused(429, "rate_limited");
    let grant = login(&app, "198.51.100.1", OWNER, PASSWORD).await.expect(StatusCode::OK);
    let client = app.with_token(grant["accessToken"].as_str().expect("a token"));
    // Counted per session, not against the attempts of unknown networks.
    let body = json!({"currentPassword": PASSWORD, "newPassword": "battery staple"});
    let change =
        client.request(Method::POST, "/api/auth/password").header("x-forwarded-for", "203.0.113.9").json(&body);
    send(change).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_ipv6_slash_64_is_one_network() {
    let app = behind_a_proxy(|_| {}).await;
    for host in 0..10 {
        login(&app, &format!("2001:db8::{host:x}"), OWNER, "wrong").await.refused(401, "invalid_credentials");
    }
    login(&app, "2001:db8::ffff", OWNER, "wrong").await.refused(429, "rate_limited");
    login(&app, "2001:db8:0:1::1", OWNER, PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn distributed_attempts_do_not_use_up_those_of_a_known_device() {
    let app = behind_a_proxy(|config| config.auth.login_limits.strangers_per_account_per_minute = number(5)).await;
    let grant = login(&app, "198.51.100.1", OWNER, PASSWORD).await.expect(StatusCode::OK);
    // A device that moved with its session is known at its new network.
    let body = json!({"refreshToken": grant["refreshToken"]});
    let refresh = app.anonymous().request(Method::POST, "/api/auth/refresh").header("x-forwarded-for", "198.51.100.2");
    send(refresh.json(&body)).await.expect(StatusCode::OK);

    let statuses = async |app: &TestApp| {
        let mut statuses = Vec::new();
        for host in 1..=8 {
            let reply = login(app, &format!("203.0.113.{host}"), OWNER, "wrong password").await;
            statuses.push(reply.status.as_u16());
        }
        statuses
    };
    let statuses = statuses(&app).await;
    assert!(statuses.contains(&401) && statuses.contains(&429), "guessing from many networks is bounded: {statuses:?}");
    for from in ["198.51.100.1", "198.51.100.2"] {
        login(&app, from, OWNER, PASSWORD).await.expect(StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_1500_networks_is_refused_early_and_known_devices_sign_in() {
    let app = behind_a_proxy(|config| {
        config.auth.password_hash.memory_kib = 19 * 1024;
        config.auth.login_limits.waiting = number(8);
    })
    .await;
    login(&app, "198.51.100.1", OWNER, PASSWORD).await.expect(StatusCode::OK);
    let flood: Vec<_> = (0..1500)
        .map(|number: u32| {
            let body = json!({"email": format!("nobody-{number}@example.com"), "password": PASSWORD});
            let from = format!("203.{}.{}.1", number / 250, number % 250);
            let request = app.anonymous().request(Method::POST, "/api/auth/login").header("x-forwarded-for", from);
            tokio::spawn(send(request.json(&body)))
        })
        .collect();
    login(&app, "198.51.100.1", OWNER, PASSWORD).await.expect(StatusCode::OK);
    let (mut tried, mut early) = (0, 0);
    for reply in flood {
        let reply = reply.await.expect("no panic");
        match reply.status.as_u16() {
            401 => tried += 1,
            503 => {
                assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|wait| wait >= 1));
                reply.refused(503, "unavailable");
                early += 1;
            }
            status => panic!("{status}: {}", reply.body),
        }
    }
    assert!(early > 0 && tried > 0, "{early} of 1,500 are refused untried, {tried} were tried");
    // The flood is over: unknown accounts and networks are tried at once.
    login(&app, "192.0.2.1", &app.user(Role::Viewer).email, PASSWORD).await.expect(StatusCode::OK);
}
