//! Responses of a receiver: delivered, refused, or retried after a wait.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{body::Body, http::StatusCode};
use futures_util::stream;
use leadwire::effects::webhook::Sender;
use tokio::net::TcpSocket;

use crate::effects::webhook::{Answers, At, NOW, Receiver, Trap, grant, passing, post, post_to, refusal, sender};

#[tokio::test]
async fn the_response_status_decides_about_a_retry() {
    for (status, retry) in [
        (400, false),
        (401, false),
        (404, false),
        (410, false),
        (422, false),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
    ] {
        let answer = move || (StatusCode::from_u16(status).expect("a status"), [("retry-after", "7")], "not today");
        let error = post_to(&Receiver::answering(answer).await).await.expect_err("not taken");
        let wait = retry.then_some(Duration::from_secs(7));
        assert_eq!((error.retry, error.retry_after), (retry, wait), "{status}");
        let is_explained = error.reason.contains(&status.to_string()) && error.reason.ends_with(": not today");
        assert!(is_explained && error.reason.starts_with("127.0.0.1:"), "{}", error.reason);
    }
    for status in [200, 201, 202, 204] {
        let receiver = Receiver::answering(move || StatusCode::from_u16(status).expect("a status")).await;
        assert_eq!(post_to(&receiver).await, Ok(()), "{status}");
    }
}

#[tokio::test]
async fn retry_after_may_be_a_date_and_is_capped() {
    for (value, seconds) in
        [("Fri, 01 May 2026 12:01:05 GMT", 59), ("Sat, 01 May 2027 00:00:00 GMT", 3600), ("9999999", 3600)]
    {
        let receiver = Receiver::answering(move || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", value)])).await;
        let wait = passing(post_to(&receiver).await).retry_after.expect("a wait");
        assert_eq!(wait.as_secs(), seconds, "{value}");
    }
    let receiver = Receiver::answering(|| (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "soon")])).await;
    assert_eq!(passing(post_to(&receiver).await).retry_after, None);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let trap = Trap::new();
        let location = format!("http://127.0.0.1:{}/admin", trap.port());
        let redirect = {
            let location = location.clone();
            move || (StatusCode::from_u16(status).expect("a status"), [("location", location.clone())])
        };
        let reason = refusal(post_to(&Receiver::answering(redirect).await).await);
        assert!(reason.contains(&format!("{status}")) && reason.contains(&location), "{reason}");
        assert!(reason.ends_with("redirects are not followed") && trap.is_untouched(), "{reason}");
    }
}

#[tokio::test]
async fn an_endless_response_is_read_up_to_a_limit() {
    let endless = |status: StatusCode| {
        move || (status, Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>("0123456789"))))
    };
    let error = passing(post_to(&Receiver::answering(endless(StatusCode::INTERNAL_SERVER_ERROR)).await).await);
    assert!((100..400).contains(&error.reason.len()), "{}", error.reason);
    assert_eq!(post_to(&Receiver::answering(endless(StatusCode::OK)).await).await, Ok(()));
}

#[tokio::test]
async fn a_receiver_that_does_not_respond_times_out_and_is_retried() {
    let trap = Trap::new();
    let host = format!("127.0.0.1:{}", trap.port());
    let sender = Sender::with_names(Duration::from_millis(200), Arc::new(At(NOW)), Answers::new([]));
    let error = passing(post(&sender, &grant(&[&host], ["127.0.0.1/32"]), &format!("http://{host}/")).await);
    assert_eq!(error.reason, format!("{host} did not answer within 200ms"));
}

#[tokio::test]
async fn an_unreachable_receiver_is_retried() {
    // Bound, so that no other process gets the port, but not listening.
    let unused = TcpSocket::new_v4().expect("a socket");
    unused.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let host = format!("hooks.example.com:{}", unused.local_addr().expect("an address").port());
    let (granted, url) = (grant(&[&host], ["127.0.0.1/32"]), format!("http://{host}/?token=secret"));
    let error = passing(post(&sender(&Answers::new([&["127.0.0.1"]])), &granted, &url).await);
    assert!(error.reason.starts_with(&format!("{host} cannot be reached: ")), "{}", error.reason);
    let error = passing(post(&sender(&Answers::new([])), &granted, &url).await);
    assert!(error.reason.ends_with("no such name") && !error.reason.contains("token"), "{}", error.reason);
    let error = passing(post(&sender(&Answers::new([&[]])), &granted, &url).await);
    assert!(error.reason.ends_with("the name has no address"), "{}", error.reason);
}
