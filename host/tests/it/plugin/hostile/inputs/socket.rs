//! Raw bytes, Engine.IO requests and packets, and Socket.IO events with an invalid request.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::plugin::hostile::{
    inputs::{
        Frames, Input, Request,
        dice::Dice,
        tokens::token,
        values::{bad_activity, bad_lead_member, encoded, nested},
    },
    wire::Target,
};

pub fn raw(dice: &mut Dice, target: &Target) -> Input {
    let bearer = &target.token;
    let bytes = match dice.below(12) {
        0 => dice.bytes(2000),
        1 => b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        2 => b"GET /api/leads HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n".to_vec(),
        3 => b"POST /api/leads HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef".to_vec(),
        4 => format!("POST /api/leads HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nxx\r\n0\r\n\r\n").into_bytes(),
        5 => b"POST /api/leads HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\ncontent-length: 4\r\n\r\n0\r\n\r\n".to_vec(),
        6 => b"GET /api/leads HTTP/1.1\r\nhost a\r\n\r\n".to_vec(),
        7 => b"GET /api/leads HTTP/1.1\r\nho\x00st: a\r\n\r\n".to_vec(),
        8 => format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000 + dice.below(400_000))).into_bytes(),
        9 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        10 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        _ => b"GET http://[::1/ HTTP/1.1\r\nhost: [\r\nauthorization: Bearer x\r\n\r\n".to_vec(),
    };
    Input::Raw { kind: "raw bytes", bytes }
}

pub fn engine(dice: &mut Dice, target: &Target) -> Request {
    let sid = encoded(&dice.text());
    let post = dice.below(2) == 0;
    let path = match dice.below(8) {
        0 => "/socket.io/".into(),
        1 => format!("/socket.io/?EIO={}&transport=polling", dice.pick(&["", "2", "5", "-4", "x", "4%00"])),
        2 => format!("/socket.io/?EIO=4&transport={}", dice.pick(&["", "tcp", "webtransport", "websocket", "POLLING"])),
        3 => format!("/socket.io/?EIO=4&transport=polling&sid={sid}"),
        4 => "/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAA".into(),
        5 => format!("/socket.io/?transport=polling&sid={sid}&sid={sid}"),
        6 => "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA".into(),
        _ => format!("/socket.io/?{}", "a=1&".repeat(1 + dice.below(2000))),
    };
    let mut request = Request::new("engine", if post { "POST" } else { "GET" }, path, target);
    request.may_be_cut = true;
    if post {
        request.body = if dice.below(2) == 0 { dice_packet(dice).into_bytes() } else { dice.bytes(3000) };
    }
    request
}

/// One invalid Engine.IO text packet.
pub fn dice_packet(dice: &mut Dice) -> String {
    let depth = 200 + dice.below(40_000);
    let fixed = [
        "4",
        "49",
        "4x",
        "42",
        "42[]",
        "42[1]",
        "42[null,{}]",
        "42{}",
        "42[\"",
        "42[\"lead:subscribe\"",
        "6",
        "0",
        "2probe",
        "9",
        "45-1-[\"x\"]",
        "459999999999-[\"x\",{\"_placeholder\":true,\"num\":0}]",
        "451-[\"lead:subscribe\"]",
        "451-[\"lead:subscribe\",{\"_placeholder\":true,\"num\":99}]",
        "46[]",
        "461-1[]",
        "43[]",
        "4399999999999999999999[]",
        "43-1[{}]",
        "40/admin,{}",
        "41/admin,",
        "42/admin,[\"x\"]",
        "40{\"token\":1}",
        "44{}",
        "42\u{0}[\"x\"]",
        "b4AAAA",
        "b!!!!",
        "4251[\"connect\",1]",
        "42[\"disconnect\"]",
        "42[\"__proto__\",{\"__proto__\":{}}]",
        "\u{1e}\u{1e}\u{1e}",
        "4\u{1e}42",
    ];
    match dice.below(10) {
        0 => format!("42[\"lead:subscribe\",{}]", nested("[", "", "]", depth)),
        1 => format!("42[\"lead:subscribe\",{}", nested("{\"a\":", "1", "", depth)),
        2 => format!("42[\"{}\"]", "x".repeat(300_000 + dice.below(200_000))),
        3 => format!("4{}", String::from_utf8_lossy(&dice.bytes(300))),
        4 => format!("42{}", json!([dice.text(), {}])),
        _ => dice.pick(&fixed).to_owned(),
    }
}

pub fn packets(dice: &mut Dice) -> Frames {
    let frames = (0..=dice.below(3))
        .flat_map(|_| match dice.below(5) {
            0 => vec![Message::binary(dice.bytes(5000))],
            // Attachments: complete, too few, too many, or for an event that accepts none.
            1 => {
                let announced = dice.below(5);
                let holes: Vec<_> = (0..announced).map(|number| json!({"_placeholder": true, "num": number})).collect();
                let packet = format!("45{announced}-[\"lead:subscribe\",{}]", Value::Array(holes));
                let sent = dice.below(6);
                let attachments = (0..sent).map(|_| Message::binary(dice.bytes(2000)));
                std::iter::once(Message::text(packet)).chain(attachments).collect()
            }
            _ => vec![Message::text(dice_packet(dice))],
        })
        .collect();
    Frames { frames, refusal: None }
}

/// A well-formed event with an invalid request.
pub fn event(dice: &mut Dice, target: &Target) -> Frames {
    let lead = &target.lead;
    let (member, value) = bad_lead_member(dice);
    let patch = Value::Object([(member.clone(), value.clone())].into_iter().collect());
    let mut fields = json!({"title": "Roof"});
    fields[member] = value;
    let mut activity = bad_activity(dice);
    activity["leadId"] = lead.as_str().into();
    let odd_id =
        dice.pick(&[json!(5), json!(""), json!(null), json!([]), json!({}), json!("x".repeat(129)), json!(true)]);
    let unknown = dice.pick(&["00000000-0000-0000-0000-000000000000", "x", "\u{0}", "'", "-1"]);
    let (name, payload) = match dice.below(11) {
        0 => ("lead:subscribe".into(), json!({"leadId": odd_id})),
        1 => ("lead:subscribe".into(), dice.pick(&[json!(null), json!(5), json!([]), json!("x"), json!({})])),
        2 => ("lead:unsubscribe".into(), json!({"leadId": odd_id})),
        3 => ("lead:create".into(), fields),
        4 => ("lead:update".into(), json!({"leadId": lead, "patch": patch})),
        5 => ("lead:update".into(), json!({"leadId": unknown, "patch": {"title": "x"}})),
        6 => ("lead:delete".into(), json!({"leadId": odd_id})),
        7 => ("lead:assign".into(), json!({"leadId": lead, "ownerId": dice.text()})),
        8 => ("activity:create".into(), activity),
        9 => ("auth:refresh".into(), json!({"token": token(dice, target).chars().take(9000).collect::<String>()})),
        // The library treats a name with escapes as a bad packet.
        _ => (format!("x:{:x}", dice.next()), json!({"leadId": lead})),
    };
    let ack = (dice.below(2) == 0).then_some(7);
    let number = ack.map(|ack| ack.to_string()).unwrap_or_default();
    let frames = vec![Message::text(format!("42{number}{}", json!([name, payload])))];
    // socketioxide cannot read an event name with JSON escapes: it ends the connection, as for invalid JSON.
    let is_escaped = json!(name).to_string().contains('\\');
    Frames { frames, refusal: (!is_escaped).then_some(ack) }
}
