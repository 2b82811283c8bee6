//! Plugin sets built from bytes, for tools and for historical sets.

use leadwire::{
    domain::role::Role,
    plugin::{InlinePlugin, Plugins, Shaped, contract::settings::PluginSettings},
};
use serde_json::json;

use crate::guest::{Guest, everyone};

fn plugin(name: &str, bytes: Vec<u8>) -> InlinePlugin {
    InlinePlugin { name: name.into(), bytes, settings: PluginSettings::default() }
}

fn fixed(files: Vec<InlinePlugin>) -> Result<Plugins, String> {
    let cache = tempfile::tempdir().expect("a folder");
    Plugins::fixed(files, cache.path()).map_err(|error| error.to_string())
}

fn shape(plugins: &Plugins) -> Shaped {
    let payload = json!({"lead": {"email": "ann@example.com"}});
    plugins.shape("lead:updated", &payload.into(), &json!({}), &[Role::Viewer]).remove(0).1
}

#[test]
fn an_inline_set_shapes_like_a_directory_of_the_same_files() {
    let off = PluginSettings { enabled: false, ..PluginSettings::default() };
    let guard = InlinePlugin { settings: off, ..plugin("guard", Guest::redactor("guard").build()) };
    let plugins = fixed(vec![guard, plugin("other", Guest::new("other").enrich([]).build())]).expect("loads");
    let Shaped::Sent { payload, .. } = shape(&plugins) else { panic!("held") };
    assert_eq!(*payload, json!({"lead": {}}));
    let Shaped::Sent { payload, .. } = shape(&fixed(vec![]).expect("is empty")) else { panic!("held") };
    assert_eq!(payload["lead"]["email"], "ann@example.com");
}

#[test]
fn a_plugin_that_is_refused_is_named_with_the_reason() {
    let guard = || plugin("guard", Guest::redactor("guard").build());
    let refusal = |files| fixed(files).err().expect("refused");
    assert_eq!(refusal(vec![guard(), plugin("broken", Vec::new())]), "plugin broken: the file is empty");
    assert_eq!(refusal(vec![guard(), guard()]), "plugin guard: it is given twice");
    assert!(refusal(vec![plugin("../guard", Vec::new())]).contains("is not a plugin name"));
    assert!(refusal(vec![InlinePlugin { name: "door".into(), ..guard() }]).contains("calls itself \"guard\""));
    let picky = Guest::redactor("picky").refusing_config("roles is missing").build();
    assert!(refusal(vec![plugin("picky", picky)]).ends_with("refused its configuration: roles is missing"));
}

#[test]
fn a_fault_in_an_inline_set_is_reported_and_opens_no_breaker() {
    let failing = Guest::redactor("guard").filtering("", Err("no idea".into()));
    let plugins = fixed(vec![plugin("guard", failing.build())]).expect("loads");
    for _ in 0..20 {
        let Shaped::Held { plugin, reason, .. } = shape(&plugins) else { panic!("not held") };
        assert_eq!((plugin.as_str(), reason.as_str()), ("guard", "filter answered with an error: no idea"));
    }
    assert_eq!(plugins.ready(), Ok(()));
    let well =
        fixed(vec![plugin("well", Guest::new("well").filter([everyone("VIEWER", [])]).roles(["VIEWER"]).build())]);
    assert!(matches!(shape(&well.expect("loads")), Shaped::Sent { .. }));
}
