//! The random source of the inputs: a seeded generator, and values that are hard to handle.

use serde_json::{Value, json};

/// SplitMix64: a small generator with stable output.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Text that is hard on parsers, logs, SQL and paths.
    pub fn text(&mut self) -> String {
        let number = self.next();
        match self.below(10) {
            0 => "' OR 1=1; DROP TABLE leads; --".into(),
            1 => "../../../../etc/passwd".into(),
            2 => "\u{0}\u{1}\u{7f}\u{202e}\u{feff}".into(),
            3 => "\r\nset-cookie: a=b\r\n\r\n".into(),
            4 => "%s%n${jndi:ldap://x}{{7*7}}".into(),
            5 => "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u{10ffff}é\u{301}".repeat(1 + self.below(20)),
            6 => "a".repeat(300 + self.below(12_000)),
            7 => "__proto__".into(),
            8 => String::from_utf8_lossy(&self.bytes(60)).into_owned(),
            _ => format!("{number:x}"),
        }
    }

    /// A JSON value of any type except the wanted one.
    pub fn not(&mut self, wanted: &str) -> Value {
        loop {
            let value = match self.below(6) {
                0 => json!(true),
                1 => json!(self.next()),
                2 => json!(["x", 1]),
                3 => json!({"x": {"y": []}}),
                4 => json!(self.text()),
                _ => json!(-1.5e300),
            };
            let kind = match &value {
                Value::Bool(_) => "flag",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "array",
                _ => "object",
            };
            if kind != wanted {
                return value;
            }
        }
    }
}
