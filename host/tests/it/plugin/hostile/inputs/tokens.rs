//! Tokens that must be refused.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::plugin::hostile::{
    inputs::{dice::Dice, values::nested},
    wire::Target,
};

fn signed(header: &Value, claims: &str, secret: &str) -> String {
    let head =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length is valid");
    mac.update(head.as_bytes());
    format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A token that must be refused.
pub fn token(dice: &mut Dice, target: &Target) -> String {
    let mut header = json!({"alg": "HS256", "typ": "JWT", "kid": "test"});
    let id = "019a0000-0000-7000-8000-000000000000";
    let mut claims = json!({
        "sub": id, "sid": id, "iat": 1, "exp": 4_000_000_000_u64, "iss": "leadwire", "aud": "leadwire", "role": "ADMIN",
    });
    let secret = target.secret.as_str();
    let parts: Vec<&str> = target.token.split('.').collect();
    match dice.below(16) {
        // Valid claims with another signature algorithm.
        0 => {
            header["alg"] = dice.pick(&["none", "None", "NONE", "nOnE"]).into();
            let end = dice.pick(&["", "x", parts[2]]);
            return format!("{}.{}.{end}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), parts[1]);
        }
        1 => {
            header["alg"] = dice.pick(&["RS256", "ES256", "EdDSA", "PS512", "HS384", "HS512", "HS1", ""]).into();
            let good = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).expect("our own token");
            return signed(&header, &String::from_utf8_lossy(&good), secret);
        }
        2 => {
            let at = dice.below(target.token.len());
            let mut bytes = target.token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            return String::from_utf8(bytes).expect("ASCII");
        }
        3 => return format!("{}.{}", parts[0], parts[1]),
        4 => return format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
        5 => return dice.pick(&["..", ".", "a.b.c", "=.=.=", "e30.e30.", "bnVsbA.bnVsbA.bnVsbA"]).into(),
        6 => return BASE64_URL_SAFE_NO_PAD.encode(dice.bytes(500)),
        // A valid signature with invalid claims.
        7 => {
            header["kid"] =
                dice.pick(&[json!("../../dev/null"), json!(5), json!("x".repeat(3000)), json!({}), json!("")]);
        }
        8 => header["jwk"] = json!({"kty": "oct", "k": "AAAA"}),
        9 => {
            claims["exp"] =
                dice.pick(&[json!("4000000000"), json!(-1), json!(0), json!(1e300), json!(null), json!([])]);
        }
        10 => claims["sub"] = dice.not("text"),
        11 => claims["iss"] = dice.pick(&[json!("evil"), json!(null), json!(["leadwire"]), json!("")]),
        12 => claims["aud"] = dice.pick(&[json!("evil"), json!(null), json!([]), json!({"leadwire": 1})]),
        13 => claims["sid"] = dice.pick(&[json!(null), json!("x"), json!(1), json!([id])]),
        14 => claims["x"] = "x".repeat(1000 + dice.below(60_000)).into(),
        _ => return signed(&header, &nested("[", "", "]", 10 + dice.below(2000)), secret),
    }
    signed(&header, &claims.to_string(), secret)
}
