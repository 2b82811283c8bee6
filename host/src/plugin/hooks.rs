//! Hook calls: which plugins of a set are asked, in which order, and what their answers mean together.
//!
//! `authorize`, `before` and `after` each run the hook of that name, `shape` runs `enrich` and `filter`. `shadow` and
//! `trial` make the same calls without effect.

pub(crate) mod after;
pub(crate) mod authorize;
pub(crate) mod before;
pub(crate) mod facts;
pub(crate) mod implied;
pub(crate) mod shadow;
pub(crate) mod shape;
pub(crate) mod trace;
pub(crate) mod trial;
