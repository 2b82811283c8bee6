//! Socket.IO: commands, delivery, resume and presence.

mod commands;
pub(crate) mod delivery;
mod live;
mod presence;
mod recall;
mod resets;
