//! Values that must be refused: fields of leads, activities and users, and broken JSON.

use serde_json::{Value, json};

use crate::plugin::hostile::inputs::dice::Dice;

const TEXTS: [&str; 7] = ["contactName", "company", "email", "phone", "source", "currency", "description"];

/// An invalid field of a lead.
pub fn bad_lead_member(dice: &mut Dice) -> (String, Value) {
    match dice.below(12) {
        0 => ("title".into(), dice.not("text")),
        1 => (dice.pick(&TEXTS).into(), dice.not("text")),
        2 => ("status".into(), dice.text().into()),
        3 => ("status".into(), dice.not("text")),
        4 => ("valueCents".into(), dice.pick(&[json!(-1), json!(1.5), json!(u64::MAX), json!(1e300), json!("1")])),
        5 => ("custom".into(), dice.not("object")),
        6 => ("email".into(), dice.pick(&["@", "a@", "a b@c.example", "a@b@c", "a@b.example\u{0}"]).into()),
        7 => ("title".into(), "x".repeat(201 + dice.below(5000)).into()),
        8 => ("description".into(), "a\u{0}b".into()),
        9 => ("custom".into(), serde_json::from_str(&nested("{\"a\":", "1", "}", 20 + dice.below(80))).expect("JSON")),
        10 => ("ownerId".into(), dice.text().into()),
        _ => (format!("x{}", dice.text()), json!(1)),
    }
}

pub fn bad_activity(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!({"type": dice.text()}),
        1 => json!({"type": dice.pick(&["STATUS_CHANGE", "ASSIGNMENT"])}),
        2 => {
            json!({"type": "NOTE", "dueAt": dice.pick(&["yesterday", "2024-13-01T00:00:00Z", "99999-01-01T00:00:00Z", ""])})
        }
        3 => json!({"type": "NOTE", "body": dice.not("text")}),
        4 => json!({"type": "NOTE", "meta": dice.not("object")}),
        _ => json!({"type": "NOTE", "leadID": 1}),
    }
}

pub fn bad_user(dice: &mut Dice) -> Value {
    let mut user =
        json!({"email": "new@example.com", "name": "New", "role": "VIEWER", "password": "long enough for all"});
    match dice.below(5) {
        0 => user["role"] = dice.text().into(),
        1 => user["password"] = "short".into(),
        2 => user["active"] = dice.not("flag"),
        3 => user["email"] = dice.not("text"),
        _ => user["isAdmin"] = true.into(),
    }
    user
}

pub fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// Bytes that are not JSON, or JSON that is not an object.
pub fn broken_json(dice: &mut Dice) -> Vec<u8> {
    let depth = 1000 + dice.below(30_000);
    match dice.below(14) {
        0 => Vec::new(),
        1 => b"{\"title\":".to_vec(),
        2 => b"{'title':'x'}".to_vec(),
        3 => b"{\"title\":\"x\",}".to_vec(),
        4 => b"{\"title\":\"\\ud800\"}".to_vec(),
        5 => b"{\"title\":\"\xff\xfe\"}".to_vec(),
        6 => b"\xfe\xff\0{\0}".to_vec(),
        7 => b"{\"title\":\"x\"} {\"title\":\"y\"}".to_vec(),
        8 => b"{\"title\":\"x\",\"valueCents\":1e99999}".to_vec(),
        9 => nested("[", "", "]", depth).into_bytes(),
        10 => nested("{\"a\":", "1", "}", depth / 3).into_bytes(),
        11 => {
            dice.pick(&["null", "true", "5", "\"x\"", "[]", "[{}]", "NaN", "-", "\"\\u12\"", "{\"a\":\"\t\"}"]).into()
        }
        12 => "[".repeat(depth).into_bytes(),
        _ => dice.bytes(400),
    }
}

/// Percent-encodes all characters except those that are always safe.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
