//! Fuzzed questions: golden ones with something in them changed, the same ones for the same seed.
//!
//! Other plugins add to payloads and remove from them, users write what they like, and fields are empty: a hook has to
//! answer all the same. An input of a command is changed only into another that the server would accept.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Number, Value, json};

use crate::plugin::testkit::question::{Probe, check_input};

/// Number of changed inputs that are tried before the input is left as it was.
const ATTEMPTS: usize = 8;

pub(crate) struct Fuzz<'q> {
    rng: StdRng,
    golden: &'q [Probe],
}

impl<'q> Fuzz<'q> {
    pub(crate) fn new(seed: u64, golden: &'q [Probe]) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), golden }
    }

    /// Returns another question; `None` when there is nothing to start from.
    pub(crate) fn next(&mut self) -> Option<Probe> {
        let mut question = self.golden.choose(&mut self.rng)?.clone();
        match &mut question {
            Probe::Connect { user } => self.person(user),
            Probe::Subscribe { user, room, lead } => {
                self.person(user);
                match lead {
                    Some(lead) => self.change(lead),
                    None => *room = format!("lead:{}", self.room()),
                }
            }
            Probe::Before { command, input, lead, activity, .. } => {
                for _ in 0..ATTEMPTS {
                    let mut changed = Value::Object(input.clone());
                    self.change(&mut changed);
                    let Value::Object(changed) = changed else { continue };
                    if check_input(command, changed.clone(), lead.as_ref(), activity.as_ref()).is_ok() {
                        *input = changed;
                        break;
                    }
                }
            }
            Probe::Enrich(event) | Probe::Filter { event, .. } | Probe::After { event, .. } => {
                self.change(&mut event.payload);
                if self.rng.random_bool(0.5) {
                    self.change(&mut event.context);
                }
            }
        }
        Some(question)
    }

    /// Changes a user, who keeps the id and the role.
    fn person(&mut self, user: &mut Value) {
        let identity = [user["id"].clone(), user["role"].clone()];
        self.change(user);
        if !user.is_object() {
            *user = json!({});
        }
        let [id, role] = identity;
        user["id"] = id;
        user["role"] = role;
    }

    fn room(&mut self) -> String {
        self.text().chars().filter(|c| !c.is_control()).take(60).collect()
    }

    /// Changes a few places in a value; the outermost stays an object.
    fn change(&mut self, value: &mut Value) {
        for _ in 0..self.rng.random_range(1..=4) {
            let mut places = Vec::new();
            list(value, String::new(), &mut places);
            let Some(place) = places.choose(&mut self.rng).cloned() else { return };
            if self.rng.random_bool(0.2) {
                remove(value, &place);
            } else if let Some(found) = value.pointer_mut(&place) {
                *found = self.instead_of(found);
            }
        }
    }

    /// Returns a replacement, mostly of the same kind.
    fn instead_of(&mut self, found: &Value) -> Value {
        match (self.rng.random_range(0..10), found) {
            (0 | 1, _) => Value::Null,
            (2, _) => self.anything(3),
            (_, Value::String(_)) => self.text().into(),
            (_, Value::Number(_)) => self.number(),
            (_, Value::Bool(bool)) => (!bool).into(),
            (_, Value::Array(items)) if !items.is_empty() => {
                items.iter().cycle().take(self.rng.random_range(0..40)).cloned().collect()
            }
            (_, Value::Object(members)) => {
                let mut members = members.clone();
                members.insert(self.text(), self.anything(2));
                Value::Object(members)
            }
            _ => self.anything(3),
        }
    }

    fn anything(&mut self, depth: u8) -> Value {
        match self.rng.random_range(0..if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => self.rng.random_bool(0.5).into(),
            2 => self.number(),
            3 => self.text().into(),
            4 => (0..self.rng.random_range(0..4)).map(|_| self.anything(depth - 1)).collect(),
            _ => {
                let members = (0..self.rng.random_range(0..4)).map(|_| (self.text(), self.anything(depth - 1)));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    fn number(&mut self) -> Value {
        let numbers = [
            json!(0),
            json!(-1),
            json!(1),
            json!(9_007_199_254_740_991_i64),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(0.1),
            json!(-1e300),
        ];
        if self.rng.random_bool(0.5) {
            numbers.choose(&mut self.rng).cloned().unwrap_or_default()
        } else {
            Value::Number(Number::from(self.rng.random_range(-1_000_000_i64..1_000_000_000)))
        }
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 16] = [
            "",
            " ",
            "NEW",
            "WON",
            "north",
            "a/b~c",
            "\0",
            "\"\\\n\t",
            "null",
            "-0",
            "1e999",
            "2026-02-30T25:61:00Z",
            "9999-12-31T23:59:59.999Z",
            "ann@example.com",
            "Ünïcödé 中文 🦀",
            "\u{202e}\u{feff}\u{1f468}\u{200d}\u{1f469}",
        ];
        match self.rng.random_range(0..10) {
            0 => "long ".repeat(self.rng.random_range(1..2000)),
            1 => (0..self.rng.random_range(0..40)).map(|_| self.rng.random::<char>()).collect(),
            _ => (*TEXTS.choose(&mut self.rng).unwrap_or(&"")).to_owned(),
        }
    }
}

/// Lists the pointers of everything inside of a value.
fn list(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                places.push(place.clone());
                list(member, place, places);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let place = format!("{at}/{index}");
                places.push(place.clone());
                list(item, place, places);
            }
        }
        _ => {}
    }
}

fn remove(value: &mut Value, place: &str) {
    let Some((parent, key)) = place.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.shift_remove(&key.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(items)) => {
            if let Some(index) = key.parse().ok().filter(|&index: &usize| index < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::role::Role, plugin::testkit::golden::Golden};

    fn some(seed: u64) -> Vec<Probe> {
        let golden = Golden::recorded().questions(&Role::ALL);
        let mut fuzz = Fuzz::new(seed, &golden);
        (0..600).map(|_| fuzz.next().expect("a question")).collect()
    }

    #[test]
    fn equal_seeds_generate_equal_questions() {
        assert!(some(7) == some(7));
        assert!(some(7) != some(8));
    }

    #[test]
    fn a_mutated_command_is_still_valid_for_the_server() {
        let commands = some(1).into_iter().filter_map(|question| match question {
            Probe::Before { command, input, lead, activity, .. } => {
                Some(check_input(&command, input, lead.as_ref(), activity.as_ref()))
            }
            _ => None,
        });
        let checked: Vec<_> = commands.collect();
        assert!(checked.len() > 10 && checked.iter().all(Result::is_ok), "{checked:?}");
    }
}
