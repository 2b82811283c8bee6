//! Typed views of what clients know as leads, activities and users.
//!
//! A view looks into what the plugin declared. What was not declared, or is not there, is `None`;
//! `null` is `None` as well, except for `get`, which returns whatever stands there.

use serde_json::Value;

use crate::Timestamp;

/// Makes a view: `get`, and a getter for each named member.
macro_rules! view {
    (
        $(#[$doc:meta])* $View:ident {
            $( $(#[$getter_doc:meta])* $getter:ident: $kind:ident = $pointer:literal; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $View<'a>(pub(crate) &'a Value);

        impl<'a> $View<'a> {
            /// Looks at `value` as such an object.
            pub const fn new(value: &'a Value) -> Self {
                Self(value)
            }

            /// Whatever stands at a JSON Pointer below it, known to this SDK or not.
            pub fn get(self, pointer: &str) -> Option<&'a Value> {
                self.0.pointer(pointer)
            }

            $( $(#[$getter_doc])* pub fn $getter(self) -> view!(@type $kind 'a) {
                view!(@read $kind self $pointer)
            } )*
        }
    };
    (@type text $a:lifetime) => { Option<&$a str> };
    (@type integer $a:lifetime) => { Option<i64> };
    (@type flag $a:lifetime) => { Option<bool> };
    (@type time $a:lifetime) => { Option<Timestamp> };
    (@type user $a:lifetime) => { Option<User<$a>> };
    (@read text $self:ident $pointer:literal) => { $self.get($pointer)?.as_str() };
    (@read integer $self:ident $pointer:literal) => { $self.get($pointer)?.as_i64() };
    (@read flag $self:ident $pointer:literal) => { $self.get($pointer)?.as_bool() };
    (@read time $self:ident $pointer:literal) => { Timestamp::parse($self.get($pointer)?.as_str()?) };
    (@read user $self:ident $pointer:literal) => { $self.get($pointer).filter(|user| !user.is_null()).map(User) };
}

view! {
    /// A lead, as far as the plugin declared it.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{Lead, json};
    ///
    /// let value = json!({"title": "New roof", "valueCents": 120_000, "owner": {"name": "Ann"}, "custom": {"region": "north"}});
    /// let lead = Lead::new(&value);
    /// assert_eq!(lead.value_cents(), Some(120_000));
    /// assert_eq!(lead.owner().and_then(|owner| owner.name()), Some("Ann"));
    /// assert_eq!(lead.custom("region"), Some(&json!("north")));
    /// assert_eq!(lead.get("/title"), Some(&json!("New roof")));
    /// assert_eq!(lead.email(), None);
    /// ```
    Lead {
        /// Its id.
        id: text = "/id";
        /// What it is called.
        title: text = "/title";
        /// `NEW`, `CONTACTED`, `QUALIFIED`, `PROPOSAL`, `NEGOTIATION`, `WON`, `LOST` or `UNQUALIFIED`.
        status: text = "/status";
        /// Who looks after it; `None` for an unassigned one.
        owner: user = "/owner";
        /// The person to talk to.
        contact_name: text = "/contactName";
        /// Where that person works.
        company: text = "/company";
        /// The person's e-mail address.
        email: text = "/email";
        /// The person's phone number.
        phone: text = "/phone";
        /// Where the lead came from.
        source: text = "/source";
        /// What it is worth, in hundredths of the currency.
        value_cents: integer = "/valueCents";
        /// ISO 4217 code of the currency.
        currency: text = "/currency";
        /// What it is about, at length.
        description: text = "/description";
        /// Who made it.
        created_by: user = "/createdBy";
        /// When somebody last did something about it.
        last_activity_at: time = "/lastActivityAt";
        /// Grows with every change that a client makes.
        version: integer = "/version";
        /// Grows with everything that is written to the lead, activities among it.
        rev: integer = "/rev";
        /// When it was made.
        created_at: time = "/createdAt";
        /// When it last changed.
        updated_at: time = "/updatedAt";
    }
}

impl<'a> Lead<'a> {
    /// A member of `custom`, which holds what a deployment keeps besides.
    pub fn custom(self, name: &str) -> Option<&'a Value> {
        self.get("/custom")?.get(name)
    }
}

view! {
    /// An activity, as far as the plugin declared it.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{Activity, json};
    ///
    /// let value = json!({"type": "CALL", "body": "call back on Monday", "meta": {"minutes": 4}});
    /// let activity = Activity::new(&value);
    /// assert_eq!(activity.kind(), Some("CALL"));
    /// assert_eq!(activity.get("/meta/minutes"), Some(&json!(4)));
    /// assert_eq!(activity.due_at(), None);
    /// ```
    Activity {
        /// Its id.
        id: text = "/id";
        /// The lead it is about.
        lead_id: text = "/leadId";
        /// `NOTE`, `CALL`, `EMAIL`, `MEETING`, `TASK`, `STATUS_CHANGE` or `ASSIGNMENT`.
        kind: text = "/type";
        /// What was said.
        body: text = "/body";
        /// Who wrote it.
        creator: user = "/creator";
        /// When it is due.
        due_at: time = "/dueAt";
        /// When it was done.
        completed_at: time = "/completedAt";
        /// When it was written.
        created_at: time = "/createdAt";
        /// When it last changed.
        updated_at: time = "/updatedAt";
    }
}

view! {
    /// A user: an owner, an author, or the one who asks.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{User, json};
    ///
    /// let value = json!({"id": "u1", "email": "ann@example.com", "role": "SALES"});
    /// let user = User::new(&value);
    /// assert_eq!((user.id(), user.role(), user.name()), (Some("u1"), Some("SALES"), None));
    /// ```
    User {
        /// The id.
        id: text = "/id";
        /// The e-mail address.
        email: text = "/email";
        /// The name.
        name: text = "/name";
        /// The role, where it is told: `ADMIN`, `MANAGER`, `SALES` or `VIEWER`.
        role: text = "/role";
        /// Whether the account may sign in, where it is told.
        active: flag = "/active";
    }
}
