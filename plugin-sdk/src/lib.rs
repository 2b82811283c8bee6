//! SDK for Leadwire plugins in Rust.
//!
//! A plugin is a type that implements [`Plugin`] and one or more hooks: [`Authorize`], [`Before`],
//! [`Enrich`], [`Filter`], [`After`].
//! [`plugin!`] exports it. This one hides phone numbers from viewers, in live events and in every answer:
//!
//! ```
//! use leadwire_plugin_sdk::*;
//!
//! struct NoPhones;
//!
//! impl Plugin for NoPhones {
//!     type Config = NoConfig;
//!     fn manifest() -> Manifest {
//!         Manifest::new().events(["*"]).roles(["VIEWER"])
//!     }
//!     fn init(_: NoConfig) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Filter for NoPhones {
//!     fn hides(&self) -> Hides {
//!         Hides::nothing().from("VIEWER", ["/lead/phone"])
//!     }
//!     fn filter(&self, _event: &Event, _role: &str) -> Result<Verdict, String> {
//!         Ok(Verdict::everyone().remove("/lead/phone"))
//!     }
//! }
//!
//! plugin!(NoPhones: filter);
//! # fn main() {}
//! ```
//!
//! `leadwire plugin new NAME` creates such a project, and `leadwire plugin build` compiles it. Hooks are plain methods,
//! so `cargo test` can call them natively; [`testing`] has helpers for such tests.
//!
//! A hook should not panic: a panic is logged with its location, ends the instance, and counts as a failure of the
//! plugin. Return an `Err` with a description of the problem instead.

mod after;
// The generated bindings are the only place with unsafe code: they pass strings across the boundary of the sandbox.
#[doc(hidden)]
pub mod bindings;
mod command;
mod edit;
mod event;
#[doc(hidden)]
pub mod glue;
mod hook;
pub mod host;
mod pointer;
pub mod testing;
mod time;
mod view;

pub use after::{ActivityType, Effect, LeadPatch, NewActivity, Occasion, Outcome, Remind, Reminder, Wants};
pub use command::{Amendment, Command, Refusal, Ruling};
pub use edit::{Audience, Decision, Edit, Hides, Verdict};
pub use event::{Event, Subject};
pub use hook::{After, Authorize, Before, Enrich, Filter, Manifest, NoConfig, Plugin, from_config, room_lead};
pub use serde::{Deserialize, Serialize};
pub use serde_json::{Value, json};
pub use time::Timestamp;
pub use view::{Activity, Lead, User};

/// Exports a plugin with its hooks: some of `authorize`, `before`, `enrich`, `filter` and `after`.
///
/// Use it once per crate, with the type that implements [`Plugin`]:
///
/// ```
/// # use leadwire_plugin_sdk::*;
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new() }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl Authorize for Mine {}
/// # impl Enrich for Mine {
/// #     fn enrich(&self, _: &Event) -> Result<Vec<Edit>, String> { Ok(vec![]) }
/// # }
/// plugin!(Mine: authorize, enrich);
/// # fn main() {}
/// ```
///
/// Anything that it cannot export does not compile, and the error says what to write: a type that is not a plugin, a
/// hook that the type does not implement, an unknown hook, or no hook at all.
///
/// ```compile_fail
/// # use leadwire_plugin_sdk::*;
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new() }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl Authorize for Mine {}
/// plugin!(Mine: authorize, filter); // needs `impl Filter for Mine`
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// # use leadwire_plugin_sdk::*;
/// struct Other;
/// plugin!(Other: authorize); // needs `impl Plugin for Other`
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// # use leadwire_plugin_sdk::*;
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new() }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl Authorize for Mine {}
/// plugin!(Mine: authorise); // no hook has that name
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// # use leadwire_plugin_sdk::*;
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new() }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// plugin!(Mine); // names no hook
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    ($plugin:ty $(:)?) => {
        compile_error!(concat!(
            "no hook is named; write `plugin!(",
            stringify!($plugin),
            ": filter);` with those it has of authorize, before, enrich, filter and after"
        ));
    };
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        const _: () = {
            impl $crate::glue::Exported for $plugin {
                const NAME: &'static str = env!("CARGO_PKG_NAME");
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");

                fn slot() -> &'static ::std::thread::LocalKey<::std::cell::RefCell<Option<$crate::glue::Ready<Self>>>> {
                    ::std::thread_local! {
                        static PLUGIN: ::std::cell::RefCell<Option<$crate::glue::Ready<$plugin>>> =
                            const { ::std::cell::RefCell::new(None) };
                    }
                    &PLUGIN
                }
            }

            $( $crate::__hook!(@check $hook $plugin); )+
        };

        // The names of the exports are not valid symbols for a native library.
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the exports of a component are symbols")]
        const _: () = {
            type Hooks = $crate::glue::Hooks<$plugin>;
            $crate::bindings::base::export!(Hooks with_types_in $crate::bindings::base);
            $( $crate::__hook!(@export $hook Hooks); )+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    (@check authorize $plugin:ty) => {
        const _: fn() = || { fn has<P: $crate::Authorize>() {} has::<$plugin>() };
    };
    (@check before $plugin:ty) => {
        const _: fn() = || { fn has<P: $crate::Before>() {} has::<$plugin>() };
    };
    (@check enrich $plugin:ty) => {
        const _: fn() = || { fn has<P: $crate::Enrich>() {} has::<$plugin>() };
    };
    (@check filter $plugin:ty) => {
        const _: fn() = || { fn has<P: $crate::Filter>() {} has::<$plugin>() };
    };
    (@check after $plugin:ty) => {
        const _: fn() = || { fn has<P: $crate::After>() {} has::<$plugin>() };
    };
    (@check $other:ident $plugin:ty) => {
        compile_error!(concat!("no hook `", stringify!($other), "`; expected authorize, before, enrich, filter or after"));
    };
    (@export authorize $hooks:ident) => {
        $crate::bindings::authorizes::export!($hooks with_types_in $crate::bindings::authorizes);
    };
    (@export before $hooks:ident) => {
        $crate::bindings::befores::export!($hooks with_types_in $crate::bindings::befores);
    };
    (@export enrich $hooks:ident) => {
        $crate::bindings::enriches::export!($hooks with_types_in $crate::bindings::enriches);
    };
    (@export filter $hooks:ident) => {
        $crate::bindings::filters::export!($hooks with_types_in $crate::bindings::filters);
    };
    (@export after $hooks:ident) => {
        $crate::bindings::afters::export!($hooks with_types_in $crate::bindings::afters);
    };
}
