//! Empty plugin: reads nothing and returns no edits.

use leadwire_plugin_sdk::*;

#[derive(Debug)]
pub struct Nothing;

impl Plugin for Nothing {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new().events(["lead:updated"])
    }

    fn init(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Enrich for Nothing {
    fn enrich(&self, _: &Event) -> Result<Vec<Edit>, String> {
        Ok(Vec::new())
    }
}

plugin!(Nothing: enrich);
