//! What `wit/v1` looks like in Rust: generated, one world a hook, so that a plugin exports only what it has.

/// `lifecycle`, which every plugin exports, and the `host` it may call.
pub mod base {
    wit_bindgen::generate!({ path: "../wit/v1", world: "base", pub_export_macro: true });
}

/// The form of `filter` that costs less; the host asks the other of those that have no other.
pub mod filters {
    wit_bindgen::generate!({ path: "../wit/v1", world: "filters-by-line", pub_export_macro: true });
}

pub mod enriches {
    wit_bindgen::generate!({
        path: "../wit/v1",
        world: "enriches",
        pub_export_macro: true,
        generate_unused_types: true,
        with: { "leadwire:plugin/types@1.0.0": super::filters::leadwire::plugin::types },
    });
}

pub mod authorizes {
    wit_bindgen::generate!({
        path: "../wit/v1",
        world: "authorizes",
        pub_export_macro: true,
        generate_unused_types: true,
        with: { "leadwire:plugin/types@1.0.0": super::filters::leadwire::plugin::types },
    });
}

pub mod befores {
    wit_bindgen::generate!({
        path: "../wit/v1",
        world: "befores",
        pub_export_macro: true,
        with: { "leadwire:plugin/types@1.0.0": super::filters::leadwire::plugin::types },
    });
}

pub mod afters {
    wit_bindgen::generate!({
        path: "../wit/v1",
        world: "afters",
        pub_export_macro: true,
        with: { "leadwire:plugin/types@1.0.0": super::filters::leadwire::plugin::types },
    });
}
