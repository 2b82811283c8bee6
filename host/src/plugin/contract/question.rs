//! Question to `before`: a command that is proposed, and what it is about.
//!
//! Plugins see its input at `/input` of a document, and edit it there.

use serde_json::{Map, Value};

use crate::domain::actor::ActorAccount;

/// Pointer to the input of a command: the only part that plugins may change.
pub(crate) const INPUT: &str = "/input";

/// Command that is not carried out yet.
pub struct ProposedCommand<'a> {
    /// Name of the command, as in `Command::name`.
    pub name: &'a str,
    pub actor: &'a ActorAccount,
    pub input: Map<String, Value>,
    /// Lead that it is about, as it is now.
    pub lead: Option<&'a Value>,
    /// Activity that it is about, as it is now.
    pub activity: Option<&'a Value>,
}
