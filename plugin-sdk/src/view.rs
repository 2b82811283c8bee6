//! Typed views of leads, activities and users as clients know them.
//!
//! A view reads what the plugin declared. A value that was not declared, or does not exist, is `None`; `null` is `None`
//! as well, except for `get`, which returns any value.

use serde_json::Value;

use crate::Timestamp;

/// Defines a view: `get`, and a getter for each named member.
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
            /// Creates a view of `value`.
            pub const fn new(value: &'a Value) -> Self {
                Self(value)
            }

            /// Value at a JSON Pointer below it, whether or not this SDK knows the field.
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
    /// View of a lead, as far as the plugin declared it.
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
        /// Id of the lead.
        id: text = "/id";
        /// Title of the lead.
        title: text = "/title";
        /// `NEW`, `CONTACTED`, `QUALIFIED`, `PROPOSAL`, `NEGOTIATION`, `WON`, `LOST` or `UNQUALIFIED`.
        status: text = "/status";
        /// User who is responsible for it; `None` if it is unassigned.
        owner: user = "/owner";
        /// Name of the contact.
        contact_name: text = "/contactName";
        /// Company of the contact.
        company: text = "/company";
        /// E-mail address of the contact.
        email: text = "/email";
        /// Phone number of the contact.
        phone: text = "/phone";
        /// Origin of the lead.
        source: text = "/source";
        /// Value of the lead, in hundredths of the currency.
        value_cents: integer = "/valueCents";
        /// Id of the lead in another system.
        external_id: text = "/externalId";
        /// ISO 4217 code of the currency.
        currency: text = "/currency";
        /// Free-text description.
        description: text = "/description";
        /// User who created it.
        created_by: user = "/createdBy";
        /// Time of the last activity on it.
        last_activity_at: time = "/lastActivityAt";
        /// Increases with every change that a client makes.
        version: integer = "/version";
        /// Increases with everything that is written to the lead, including activities.
        rev: integer = "/rev";
        /// Time of creation.
        created_at: time = "/createdAt";
        /// Time of the last change.
        updated_at: time = "/updatedAt";
    }
}

impl<'a> Lead<'a> {
    /// Member of `custom`, the fields that a deployment defines itself.
    pub fn custom(self, name: &str) -> Option<&'a Value> {
        self.get("/custom")?.get(name)
    }
}

view! {
    /// View of an activity, as far as the plugin declared it.
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
        /// Id of the activity.
        id: text = "/id";
        /// Id of its lead.
        lead_id: text = "/leadId";
        /// `NOTE`, `CALL`, `EMAIL`, `MEETING`, `TASK`, `STATUS_CHANGE` or `ASSIGNMENT`.
        kind: text = "/type";
        /// Text of the activity.
        body: text = "/body";
        /// User who wrote it.
        creator: user = "/creator";
        /// Time when it is due.
        due_at: time = "/dueAt";
        /// Time when it was done.
        completed_at: time = "/completedAt";
        /// Time of creation.
        created_at: time = "/createdAt";
        /// Time of the last change.
        updated_at: time = "/updatedAt";
    }
}

view! {
    /// View of a user: an owner, an author, or the caller.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{User, json};
    ///
    /// let value = json!({"id": "u1", "email": "ann@example.com", "role": "SALES"});
    /// let user = User::new(&value);
    /// assert_eq!((user.id(), user.role(), user.name()), (Some("u1"), Some("SALES"), None));
    /// ```
    User {
        /// Id of the user.
        id: text = "/id";
        /// E-mail address.
        email: text = "/email";
        /// Name.
        name: text = "/name";
        /// Role, if provided: `ADMIN`, `MANAGER`, `SALES` or `VIEWER`.
        role: text = "/role";
        /// True if the account may sign in, if provided.
        active: flag = "/active";
    }
}
