//! Counters: one type per kind of number, so that a position in the log is never compared with a generation of plugins.

use std::{
    fmt,
    num::ParseIntError,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Returns the number that follows this one.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )*};
}

counters! {
    /// Position in the event log: 1 is the first event, 0 stands before it.
    Seq
    /// Number of a set of plugins, counted up at every change of the set; 0 is a server without plugins.
    Generation
}

impl Generation {
    /// Generation of a server without plugins.
    pub const NONE: Self = Self(0);
}

impl Seq {
    /// Position before the first event.
    pub const START: Self = Self(0);

    /// Position after every event.
    pub const END: Self = Self(u64::MAX);

    /// Returns the position of the event before this one, or the start.
    pub const fn before(self) -> Self {
        self.back(1)
    }

    /// Returns the position that stands `events` earlier, or the start.
    pub const fn back(self, events: u64) -> Self {
        Self(self.0.saturating_sub(events))
    }

    /// Returns the position that stands `events` later.
    pub const fn forward(self, events: u64) -> Self {
        Self(self.0.saturating_add(events))
    }

    /// Number of events after `earlier`, up to and with this one.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Position in the event log that several threads read and advance.
#[derive(Debug, Default)]
pub struct AtomicSeq(AtomicU64);

impl AtomicSeq {
    pub fn load(&self) -> Seq {
        Seq(self.0.load(SeqCst))
    }

    pub fn store(&self, seq: Seq) {
        self.0.store(seq.0, SeqCst);
    }

    /// Raises the position to at least `seq`.
    pub fn raise(&self, seq: Seq) {
        self.0.fetch_max(seq.0, SeqCst);
    }
}
