//! HTTP requests that must be refused: bodies, headers, ids and queries.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::plugin::hostile::{
    inputs::{
        Request,
        dice::Dice,
        values::{bad_activity, bad_lead_member, bad_user, broken_json, encoded},
    },
    wire::Target,
};

pub fn body(dice: &mut Dice, target: &Target) -> Request {
    let lead = &target.lead;
    let (method, path, body) = match dice.below(9) {
        0 => ("POST", "/api/leads".into(), {
            let (member, value) = bad_lead_member(dice);
            let mut lead = json!({"title": "Roof"});
            lead[member] = value;
            lead
        }),
        1 | 2 => ("PATCH", format!("/api/leads/{lead}"), {
            let (member, value) = bad_lead_member(dice);
            Value::Object([(member, value)].into_iter().collect())
        }),
        3 => ("POST", format!("/api/leads/{lead}/assign"), {
            let bad = [json!({}), json!({"ownerId": "me"}), json!({"owner": null}), json!({"ownerId": 7})];
            dice.pick(&bad)
        }),
        4 => ("POST", format!("/api/leads/{lead}/activities"), bad_activity(dice)),
        5 => ("POST", "/api/users".into(), bad_user(dice)),
        6 => ("POST", "/api/auth/login".into(), {
            let bad = [json!({"email": 5, "password": []}), json!({"email": "a@b.example"}), json!({"x": 1})];
            dice.pick(&bad)
        }),
        7 => ("POST", "/api/auth/refresh".into(), {
            let bad = [json!({"refreshToken": dice.text()}), json!({"refreshToken": dice.not("text")}), json!({})];
            dice.pick(&bad)
        }),
        _ => ("POST", "/api/auth/password".into(), {
            let bad = [
                json!({"currentPassword": "x"}),
                json!({"currentPassword": dice.not("text"), "newPassword": "long enough for all"}),
                json!({"currentPassword": "x", "newPassword": "long enough for all", "userId": "x"}),
            ];
            dice.pick(&bad)
        }),
    };
    let request = Request::new("body", method, path, target);
    match dice.below(40) {
        0..15 => request.json(broken_json(dice)),
        15 => {
            let mut request =
                request.json(format!("{{\"title\":\"{}\"}}", "x".repeat(300_000 + dice.below(3_000_000))));
            (request.kind, request.may_be_cut) = ("large body", true);
            request
        }
        _ => request.json(body.to_string()),
    }
}

pub fn header(dice: &mut Dice, target: &Target) -> Request {
    let lead = format!("/api/leads/{}", target.lead);
    let mut request = Request::new("header", "GET", lead.clone(), target);
    let printable = |text: String| text.replace(['\r', '\n', '\0'], "?").into_bytes();
    match dice.below(10) {
        0 => {
            let odd = ["", "Bearer", "Bearer ", "Basic YTpi", "bearer a b c", "Bearer \u{ff}", "Token x", "Bearer ."];
            request.headers = vec![("authorization", dice.pick(&odd).into())];
            request.status = Some(401);
        }
        1 => {
            request.headers = Vec::new();
            request.status = Some(401);
        }
        2 => {
            let mut garbled = b"Bearer ".to_vec();
            garbled.extend(dice.bytes(60).into_iter().filter(|byte| !matches!(byte, 0..32 | 127)));
            request.headers = vec![("authorization", garbled)];
            request.status = Some(401);
        }
        3 => {
            request = Request::new("header", "PATCH", lead, target).json("{\"title\":\"Roof\"}");
            request.headers.push(("if-match", printable(dice.text())));
            request.may_be_cut = true;
        }
        4 => {
            request = Request::new("header", "POST", "/api/leads", target).json("{\"title\":\"Roof\"}");
            request.headers.push(("idempotency-key", dice.pick(&["k".repeat(5000), "\u{7}\u{8}".into()]).into_bytes()));
            request.may_be_cut = true;
        }
        5 => {
            let types = ["text/xml", "multipart/form-data", "application/x-www-form-urlencoded", "x", ""];
            request = Request::new("header", "POST", "/api/leads", target);
            request.body = b"{\"title\":\"Roof\"}".to_vec();
            request.headers.push(("content-type", dice.pick(&types).into()));
        }
        6 => {
            let length = 200_000 + dice.below(800_000);
            request.headers.push(("x-large", vec![b'x'; length]));
            request.may_be_cut = true;
        }
        7 => {
            request.headers.extend((0..150 + dice.below(100)).map(|_| ("x-many", b"x".to_vec())));
            request.may_be_cut = true;
        }
        8 => {
            request.method = dice.pick(&["FOO", "TRACE", "PUT", "OPTIONS", "PROPFIND", "LONGERTHANANYMETHOD"]);
            request.harmless = true;
        }
        _ => {
            let names = [
                "accept",
                "accept-encoding",
                "x-request-id",
                "origin",
                "range",
                "if-none-match",
                "cookie",
                "forwarded",
            ];
            request.headers.push((dice.pick(&names), printable(dice.text())));
            request.harmless = true;
        }
    }
    request
}

pub fn id(dice: &mut Dice, target: &Target) -> Request {
    let garbage = encoded(&dice.text());
    let uuid = format!("{:08x}-0000-7000-8000-{:012x}", dice.below(1 << 31), dice.below(1 << 40));
    let odd = ["00000000-0000-0000-0000-000000000000", "-1", "undefined", "%00", "%ff%fe", "..%2f..", "0x1f", "%"];
    let id = match dice.below(3) {
        0 => garbage,
        1 => uuid,
        _ => dice.pick(&odd).to_owned(),
    };
    match dice.below(7) {
        0 => Request::new("id", "GET", format!("/api/leads/{id}"), target),
        1 => Request::new("id", "PATCH", format!("/api/leads/{id}"), target).json("{\"title\":\"x\"}"),
        2 => Request::new("id", "DELETE", format!("/api/leads/{id}"), target),
        3 => Request::new("id", "POST", format!("/api/leads/{id}/activities"), target).json("{\"type\":\"NOTE\"}"),
        4 => Request::new("id", "GET", format!("/api/users/{id}"), target),
        5 => Request::new("id", "PATCH", format!("/api/activities/{id}"), target).json("{\"body\":\"x\"}"),
        _ => Request::new("id", "GET", format!("/api/leads/{id}/history"), target),
    }
}

pub fn query(dice: &mut Dice, target: &Target) -> Request {
    let limit = dice.pick(&["-1", "0", "201", "1e9", "99999999999999999999", "x", "1;", "%00"]);
    let cursor = match dice.below(4) {
        0 => encoded(&dice.text()),
        1 => BASE64_URL_SAFE_NO_PAD.encode(dice.bytes(80)),
        2 => BASE64_URL_SAFE_NO_PAD.encode(json!({"sort": "updatedAt", "after": dice.next(), "id": "x"}).to_string()),
        _ => BASE64_URL_SAFE_NO_PAD.encode(format!("[\"{}\",{}]", "x".repeat(dice.below(3000)), dice.next())),
    };
    let (path, harmless) = match dice.below(11) {
        0 => (format!("/api/leads?limit={limit}"), false),
        1 => (format!("/api/leads?cursor={cursor}"), false),
        2 => (format!("/api/leads/{}/activities?cursor={cursor}", target.lead), false),
        3 => (format!("/api/leads/{}/history?limit={limit}", target.lead), false),
        4 => (format!("/api/users?cursor={cursor}"), false),
        5 => (
            format!("/api/leads?sort={}", dice.pick(&["password", "-", "title%20desc", "updatedAt,id", "%27", "1"])),
            false,
        ),
        6 => (format!("/api/leads?status={}", dice.pick(&["new", "OPEN", "%00", "1", "NEW,OPEN"])), false),
        7 => (format!("/api/leads?ownerId={}", dice.pick(&["me", "-1", "%27%27", "00000000"])), false),
        8 => (format!("/api/leads?createdAfter={}", dice.pick(&["now", "-1", "2024-02-31", "0000", "%00"])), false),
        9 => (format!("/api/leads?{}=1", dice.pick(&["role", "select", "__proto__", "Limit", "%20limit"])), false),
        _ => (format!("/api/leads?q={}", encoded(&dice.text())), true),
    };
    let mut request = Request::new("query", "GET", path, target);
    request.harmless = harmless;
    request
}
