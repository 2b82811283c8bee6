//! Rust bindings generated from `wit/v1`: one world per hook, so that a plugin exports only its own hooks.

/// `lifecycle`, which every plugin exports, and the `host` that it may call.
pub mod base {
    wit_bindgen::generate!({ path: "../wit/v1", world: "base", pub_export_macro: true });
}

/// Faster form of `filter`; the host uses the other form for plugins that export no other.
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
