//! Content of the seed: who did what, and when. Generated with a fixed random seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

use crate::domain::{lead::LeadStatus, role::Role, time::Timestamp};

pub(crate) const LEADS: usize = 200;
/// Activities by people, plus those that the server writes about changes.
pub(crate) const ACTIVITIES: usize = 600;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SPAN_DAYS: u32 = 90;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoryPerson {
    Admin,
    Manager,
    Sales,
    Viewer,
}

impl StoryPerson {
    pub(crate) const ALL: [Self; 4] = [Self::Admin, Self::Manager, Self::Sales, Self::Viewer];

    pub(crate) fn role(self) -> Role {
        Role::ALL[self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        ["Ada Admin", "Miriam Manager", "Sam Sales", "Vera Viewer"][self as usize]
    }

    pub(crate) fn email(self) -> String {
        format!("{}@leadwire.example", self.role().as_str().to_lowercase())
    }

    /// Published in the README; not for production.
    pub(crate) fn password(self) -> String {
        format!("{}-demo-pass", self.role().as_str().to_lowercase())
    }
}

/// Action of a person on a lead.
pub(crate) struct StoryStep {
    pub(crate) at: Timestamp,
    pub(crate) by: StoryPerson,
    /// Number of the lead; its first step creates it.
    pub(crate) lead: usize,
    pub(crate) deed: StoryAction,
}

pub(crate) enum StoryAction {
    Create(Map<String, Value>),
    Update(Map<String, Value>),
    Assign(StoryPerson),
    Note(Map<String, Value>),
}

/// Start of the story.
pub(crate) fn begin(now: Timestamp) -> Timestamp {
    now.minus(DAY * SPAN_DAYS)
}

/// Whole story in chronological order.
pub(crate) fn write(now: Timestamp) -> Vec<StoryStep> {
    let mut author = Author { rng: StdRng::seed_from_u64(3001), now, steps: Vec::new(), written_by_server: 0 };
    let leads: Vec<StoryLead> = (0..LEADS).map(|number| author.lead(number)).collect();
    // People write most about leads that changed; every such lead gets one activity before any gets a second.
    let mut moved: Vec<&StoryLead> = leads.iter().filter(|lead| lead.moved).collect();
    for _ in author.written_by_server..ACTIVITIES {
        if moved.is_empty() {
            moved = leads.iter().collect();
        }
        let lead = moved.swap_remove(author.rng.random_range(0..moved.len()));
        author.note(lead);
    }
    author.steps.sort_by_key(|step| step.at);
    author.steps
}

struct Author {
    rng: StdRng,
    now: Timestamp,
    steps: Vec<StoryStep>,
    written_by_server: usize,
}

/// Lead, as far as later steps need it.
struct StoryLead {
    number: usize,
    made: Timestamp,
    keeper: StoryPerson,
    contact: String,
    moved: bool,
}

impl Author {
    fn lead(&mut self, number: usize) -> StoryLead {
        let made = self.between(begin(self.now).plus(DAY), self.now.minus(DAY));
        let by = self.weighted(&[(StoryPerson::Sales, 50), (StoryPerson::Manager, 35), (StoryPerson::Admin, 15)]);
        let (body, contact) = self.body();
        self.step(number, made, by, StoryAction::Create(body));

        // Leads created by sales stay theirs; the others are assigned, or stay unassigned.
        let owner = match by {
            StoryPerson::Sales => Some(StoryPerson::Sales),
            _ => self.weighted(&[(Some(StoryPerson::Sales), 55), (Some(StoryPerson::Manager), 15), (None, 30)]),
        };
        let mut from = made.plus(Duration::from_secs(60));
        if let Some(owner) = owner.filter(|_| by != StoryPerson::Sales) {
            from = self.between(from, made.plus(DAY / 2));
            self.step(number, from, StoryPerson::Manager, StoryAction::Assign(owner));
            self.written_by_server += 1;
        }
        let keeper = owner.unwrap_or(StoryPerson::Manager);
        let path = self.path();
        let mut times: Vec<_> =
            path.iter().map(|_| self.between(from.plus(Duration::from_secs(60)), self.now)).collect();
        times.sort();
        for (status, at) in path.iter().zip(times) {
            let patch = json!({"status": status.as_str()});
            self.step(number, at, keeper, StoryAction::Update(object(patch)));
            self.written_by_server += 1;
        }
        StoryLead { number, made: from, keeper, contact, moved: !path.is_empty() }
    }

    /// Statuses that a lead goes through after NEW.
    fn path(&mut self) -> Vec<LeadStatus> {
        use LeadStatus::{Contacted, Lost, Negotiation, Proposal, Qualified, Unqualified, Won};
        let line = [Contacted, Qualified, Proposal, Negotiation];
        let (steps, end) = self.weighted(
            &[
                (0, None),
                (1, None),
                (2, None),
                (3, None),
                (4, None),
                (4, Some(Won)),
                (3, Some(Lost)),
                (1, Some(Unqualified)),
            ]
            .map(|ending| {
                (
                    ending,
                    match ending {
                        (0, _) => 30,
                        (1, None) => 22,
                        (2, _) => 15,
                        (3, None) => 10,
                        _ => 6,
                    },
                )
            }),
        );
        line.into_iter().take(steps).chain(end).collect()
    }

    fn body(&mut self) -> (Map<String, Value>, String) {
        let (first, last) = (self.pick(FIRST_NAMES), self.pick(LAST_NAMES));
        let contact = format!("{first} {last}");
        let (place, trade) = (self.pick(PLACES), self.pick(TRADES));
        let company = format!("{place} {trade}");
        let domain =
            format!("{}-{}.example", place.to_lowercase(), trade.split(' ').next().unwrap_or(trade).to_lowercase());
        let thing = self.pick(THINGS);
        let mut body = object(json!({
            "title": format!("{thing} for {company}"),
            "contactName": contact,
            "company": company,
            "email": format!("{}.{}@{domain}", first.to_lowercase(), last.to_lowercase()),
            "source": self.pick(SOURCES),
            "valueCents": i64::from(self.rng.random_range(8..=480_u32)) * 25_000,
            "currency": self.weighted(&[("EUR", 60), ("USD", 30), ("GBP", 10)]),
            "custom": {"territory": self.pick(TERRITORIES)},
        }));
        if self.rng.random_bool(0.8) {
            body.insert("phone".into(), format!("+1 202 555 {:04}", self.rng.random_range(100..200)).into());
        }
        if self.rng.random_bool(0.4) {
            body.insert("description".into(), self.pick(DESCRIPTIONS).into());
        }
        (body, contact)
    }

    fn note(&mut self, lead: &StoryLead) {
        let at = self.between(lead.made.plus(Duration::from_secs(120)), self.now);
        let (kind, text) = self.pick_pair(NOTES);
        let mut body = object(json!({"type": kind, "body": text.replace("{contact}", &lead.contact)}));
        if kind == "TASK" {
            let due = at.plus(DAY * self.rng.random_range(1..=10));
            body.insert("dueAt".into(), due.to_string().into());
            if due < self.now && self.rng.random_bool(0.8) {
                body.insert("completedAt".into(), due.minus(DAY / 4).to_string().into());
            }
        }
        if kind == "CALL" {
            body.insert("meta".into(), json!({"minutes": self.rng.random_range(2..=35)}));
        }
        let by = if self.rng.random_bool(0.85) { lead.keeper } else { StoryPerson::Manager };
        self.step(lead.number, at, by, StoryAction::Note(body));
    }

    fn step(&mut self, lead: usize, at: Timestamp, by: StoryPerson, deed: StoryAction) {
        self.steps.push(StoryStep { at, by, lead, deed });
    }

    fn between(&mut self, from: Timestamp, to: Timestamp) -> Timestamp {
        let span = to.since(from).as_secs().max(1);
        from.plus(Duration::from_secs(self.rng.random_range(0..span)))
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from.choose(&mut self.rng).expect("the lists have entries")
    }

    fn pick_pair(&mut self, from: &[(&'static str, &'static str)]) -> (&'static str, &'static str) {
        *from.choose(&mut self.rng).expect("the lists have entries")
    }

    fn weighted<T: Copy>(&mut self, from: &[(T, u32)]) -> T {
        from.choose_weighted(&mut self.rng, |(_, weight)| *weight).expect("the weights are positive").0
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { unreachable!("bodies are written as objects") };
    members
}

const FIRST_NAMES: &[&str] = &[
    "Aisha", "Anton", "Beatriz", "Caleb", "Chiara", "Daniel", "Elif", "Emma", "Farah", "Gustav", "Hana", "Igor",
    "Jamal", "Johanna", "Kwame", "Leila", "Liam", "Lucia", "Marek", "Mei", "Nadia", "Noah", "Olga", "Oscar", "Priya",
    "Rafael", "Rosa", "Sofia", "Tariq", "Tomas", "Yuki", "Zoe",
];
const LAST_NAMES: &[&str] = &[
    "Almeida", "Bauer", "Becker", "Costa", "Dubois", "Eriksen", "Ferrari", "Garcia", "Haddad", "Ivanova", "Jensen",
    "Kaya", "Kowalski", "Larsen", "Mensah", "Moreau", "Murphy", "Nakamura", "Novak", "Okafor", "Patel", "Rossi",
    "Santos", "Schmidt", "Silva", "Tanaka", "Virtanen", "Weber", "Wong", "Young",
];
const PLACES: &[&str] = &[
    "Ashford",
    "Birchwood",
    "Clearwater",
    "Dunmore",
    "Eastgate",
    "Fairview",
    "Glenside",
    "Harbour",
    "Ironbridge",
    "Juniper",
    "Kingsway",
    "Lakeside",
    "Meadow",
    "Northfield",
    "Oakhill",
    "Pinecrest",
    "Quayside",
    "Riverside",
    "Stonebrook",
    "Thornton",
    "Upland",
    "Valley",
    "Westport",
    "Yarrow",
];
const TRADES: &[&str] = &[
    "Bakery",
    "Brewery",
    "Clinic",
    "Construction",
    "Dairy",
    "Dental Care",
    "Engineering",
    "Foods",
    "Furniture",
    "Garage",
    "Hotel",
    "Insurance",
    "Interiors",
    "Logistics",
    "Media",
    "Optics",
    "Pharmacy",
    "Printing",
    "School",
    "Solar",
    "Textiles",
    "Tools",
    "Travel",
    "Winery",
];
const THINGS: &[&str] = &[
    "Annual service contract",
    "Backup power",
    "Card terminals",
    "Cooling system",
    "Delivery vans",
    "Fleet telematics",
    "Heat pump",
    "LED lighting",
    "New website",
    "Office furniture",
    "Packaging line",
    "Payroll software",
    "Phone system",
    "Roof repair",
    "Security cameras",
    "Solar panels",
    "Staff training",
    "Stock software",
    "Support plan",
    "Warehouse racks",
];
const SOURCES: &[&str] = &["website", "referral", "trade fair", "cold call", "newsletter", "partner", "walk-in"];
const TERRITORIES: &[&str] = &["north", "south", "east", "west"];
const DESCRIPTIONS: &[&str] = &[
    "Replaces a supplier whose contract ends this quarter.",
    "Wants two references from the same trade before deciding.",
    "The budget is approved; the board decides on the supplier.",
    "Compares us with one other offer. Price matters less than delivery time.",
    "A small first order; more sites follow if it goes well.",
    "Needs everything in place before the season starts.",
    "Came back after two years. The old offer is still on file.",
];
const NOTES: &[(&str, &str)] = &[
    ("CALL", "Called {contact}: wants a quote by the end of the month."),
    ("CALL", "No answer, left a message for {contact}."),
    ("CALL", "{contact} asked about delivery times and warranty."),
    ("CALL", "{contact} needs to talk to the finance department first."),
    ("EMAIL", "Sent the brochure and the price list to {contact}."),
    ("EMAIL", "Sent a revised offer with a ten percent discount."),
    ("EMAIL", "{contact} sent the floor plan and the list of requirements."),
    ("EMAIL", "Asked {contact} for feedback on the offer."),
    ("MEETING", "Showed the product to {contact} and two colleagues. Good questions, real interest."),
    ("MEETING", "Visited the site with {contact}; access for the crane is tight."),
    ("MEETING", "Went through the contract with {contact} page by page."),
    ("NOTE", "{contact} decides alone up to 20,000; above that the board does."),
    ("NOTE", "A competitor is in the race, but {contact} was not happy with their service."),
    ("NOTE", "Prefers to be called in the morning."),
    ("NOTE", "Budget year ends in December: worth asking again in November."),
    ("TASK", "Send the offer to {contact}."),
    ("TASK", "Call {contact} again."),
    ("TASK", "Check delivery dates with the warehouse."),
    ("TASK", "Prepare the demonstration for {contact}."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_has_the_documented_counts_in_chronological_order() {
        let now = Timestamp::now();
        let steps = write(now);
        let made = steps.iter().filter(|step| matches!(step.deed, StoryAction::Create(_))).count();
        let activities = steps.len() - made;
        assert_eq!((made, activities), (LEADS, ACTIVITIES));
        assert!(steps.is_sorted_by_key(|step| step.at) && steps.iter().all(|step| step.at <= now));
        let written = steps.iter().filter(|step| matches!(step.deed, StoryAction::Note(_))).count();
        assert!(written > 100, "only {written} by people");
    }
}
