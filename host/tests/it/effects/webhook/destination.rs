//! Destinations: only granted hosts and addresses, in every notation.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::StatusCode;
use tokio::io::AsyncReadExt;

use crate::effects::webhook::{Answers, Receiver, Trap, grant, passing, post, refusal, sender};

#[tokio::test]
async fn a_host_without_a_grant_is_not_resolved() {
    let names = Answers::new([&["127.0.0.1"]]);
    let granted = grant(&["hooks.example.com", "hooks.example.com:8443", "b.example:80"], ["127.0.0.0/8"]);
    for (url, host) in [
        ("https://example.com/", "example.com"),
        ("https://evil.hooks.example.com/", "evil.hooks.example.com"),
        ("https://hooks.example.com.evil.example/", "hooks.example.com.evil.example"),
        ("https://hooks.example.com./", "hooks.example.com."),
        ("https://hooks.example.com:8444/", "hooks.example.com:8444"),
        ("http://hooks.example.com:443/", "hooks.example.com:443"),
        ("https://b.example/", "b.example"),
        ("https://b.example:8443/", "b.example:8443"),
        ("https://evil.example\\@hooks.example.com/", "evil.example"),
        ("https://evil.example#@hooks.example.com/", "evil.example"),
    ] {
        let reason = refusal(post(&sender(&names), &granted, url).await);
        let line = format!("add \"{host}\" to webhook_hosts below [grant] in audit-webhook.toml");
        assert!(reason.contains(&format!("{host} is not granted")) && reason.contains(&line), "{url}: {reason}");
    }
    for url in ["https://user@hooks.example.com/", "https://:secret@hooks.example.com/"] {
        assert!(
            refusal(post(&sender(&names), &granted, url).await).contains("expected no user name or password"),
            "{url}"
        );
    }
    for url in ["", "hooks.example.com", "ftp://hooks.example.com/", "file:///etc/passwd", "https://", "https://[/"] {
        assert!(refusal(post(&sender(&names), &granted, url).await).contains("url: expected"), "{url}");
    }
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn a_granted_host_matches_in_every_notation() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let names = Answers::new([&["127.0.0.1"]]);
    let port = receiver.address.port();
    for (entry, host) in [
        ("hooks.example.com", "HOOKS.Example.COM"),
        ("Hooks.Example.com", "hooks.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "BÜCHER.example"),
        ("127.0.0.1", "0x7f.1"),
        ("[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"),
    ] {
        let granted = grant(&[&format!("{entry}:{port}")], ["127.0.0.0/8"]);
        assert_eq!(post(&sender(&names), &granted, &receiver.url(host)).await, Ok(()), "{entry} {host}");
        receiver.next().await;
    }
}

#[tokio::test]
async fn an_invalid_host_in_a_grant_allows_nothing() {
    let names = Answers::new([&["127.0.0.1"]]);
    let entries =
        ["", "*", "*.example.com", "https://hooks.example.com", "hooks.example.com/in", "x@hooks.example.com"];
    let reason = refusal(post(&sender(&names), &grant(&entries, ["127.0.0.0/8"]), "https://hooks.example.com/").await);
    assert!(reason.contains("hooks.example.com is not granted"), "{reason}");
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn a_name_with_an_internal_address_is_refused_with_the_address() {
    let trap = Trap::new();
    let host = format!("hooks.example.com:{}", trap.port());
    for address in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "fd00::1",
        "fe80::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "224.0.0.1",
        "192.0.2.1",
    ] {
        let names = Answers::new([&[address]]);
        let reason = refusal(post(&sender(&names), &grant(&[&host], []), &format!("https://{host}/")).await);
        let shown: IpAddr = address.parse().expect("an address");
        assert!(
            reason.starts_with(&format!("hooks.example.com is at {shown}, where audit-webhook may not")),
            "{reason}"
        );
        assert!(reason.contains("webhook_networks = [\""), "{reason}");
    }
    let names = Answers::new([&["10.0.0.1", "127.0.0.1"]]);
    let reason = refusal(post(&sender(&names), &grant(&[&host], ["192.168.0.0/16"]), &format!("http://{host}/")).await);
    assert!(reason.contains(r#"webhook_networks = ["10.0.0.1/32", "127.0.0.1/32"]"#), "{reason}");
    assert!(trap.is_untouched());
}

#[tokio::test]
async fn only_granted_addresses_of_a_name_are_used() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    // The first three do not respond; trying one would take until the deadline.
    let names = Answers::new([&["10.255.255.1", "192.0.2.1", "240.0.0.1", "127.0.0.1"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let sent = post(&sender(&names), &grant(&[&host], ["127.0.0.1/32"]), &format!("http://{host}/")).await;
    assert_eq!(sent, Ok(()));
    receiver.next().await;
}

#[tokio::test]
async fn a_name_is_resolved_once_per_delivery() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let names = Answers::new([&["127.0.0.1"], &["127.0.0.2"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let (sender, granted) = (sender(&names), grant(&[&host], ["127.0.0.1/32"]));
    assert_eq!(post(&sender, &granted, &format!("http://{host}/")).await, Ok(()));
    receiver.next().await;
    assert_eq!(names.asked(), 1);
}

#[tokio::test]
async fn a_connection_made_under_one_grant_is_not_used_under_another() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let names = Answers::new([&["127.0.0.1"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let (sender, url) = (sender(&names), format!("http://{host}/"));
    assert_eq!(post(&sender, &grant(&[&host], ["127.0.0.1/32"]), &url).await, Ok(()));
    receiver.next().await;
    assert!(refusal(post(&sender, &grant(&[&host], ["10.0.0.0/8"]), &url).await).contains("is at 127.0.0.1"));
    assert!(receiver.heard_nothing());
}

#[tokio::test]
async fn an_address_in_a_url_is_checked_in_every_notation() {
    let trap = Trap::new();
    let (names, port) = (Answers::new([]), trap.port());
    for (spelling, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("%31%32%37.1", "127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:ffff:127.1.1.1]", "::ffff:127.1.1.1"),
        ("[64:ff9b::127.0.0.1]", "64:ff9b::7f00:1"),
        ("169.254.169.254", "169.254.169.254"),
    ] {
        let entry = format!("{spelling}:{port}");
        for (scheme, networks) in [("https", "10.0.0.0/8"), ("http", "10.0.0.0/8")] {
            let granted = grant(&[&entry, "127.0.0.1"], [networks]);
            let url = format!("{scheme}://{spelling}:{port}/");
            let reason = refusal(post(&sender(&names), &granted, &url).await);
            assert!(reason.starts_with(&format!("the url names {address}, where")), "{url}: {reason}");
        }
    }
    assert!(trap.is_untouched());
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn plain_http_is_limited_to_granted_networks() {
    let names = Answers::new([&["1.1.1.1"]]);
    let url = "http://hooks.example.com/";
    let reason = refusal(post(&sender(&names), &grant(&["hooks.example.com"], []), url).await);
    assert!(reason.contains("expected https") && reason.contains("webhook_networks"), "{reason}");
    let reason = refusal(post(&sender(&names), &grant(&["hooks.example.com"], ["10.0.0.0/8"]), url).await);
    assert!(reason.starts_with("hooks.example.com is at 1.1.1.1"), "{reason}");
}

#[tokio::test]
async fn https_uses_tls_with_the_name_of_the_host() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let host = format!("hooks.example.com:{}", listener.local_addr().expect("an address").port());
    let (names, granted) = (Answers::new([&["127.0.0.1"]]), grant(&[&host], ["127.0.0.1/32"]));
    let (sender, url) = (sender(&names), format!("https://{host}/"));
    let accept = async {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        let mut hello = [0; 512];
        let length = connection.read(&mut hello).await.expect("something");
        hello[..length].to_vec()
    };
    let (sent, hello) = tokio::join!(post(&sender, &granted, &url), accept);
    assert!(hello.starts_with(&[0x16, 0x03]), "a TLS handshake: {hello:?}");
    assert!(hello.windows(17).any(|window| window == b"hooks.example.com"), "names the host: {hello:?}");
    passing(sent);
}
