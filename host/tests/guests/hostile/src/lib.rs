//! A plugin that does harm, in the way its settings name: what an author's mistake looks like from the host.

use leadwire_plugin_sdk::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What `init` does.
    #[serde(default)]
    init: Harm,
    /// What `filter` does.
    #[serde(default)]
    filter: Harm,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Harm {
    #[default]
    None,
    Panic,
    Spin,
    Allocate,
    Recurse,
    /// Panics in the second call of an instance.
    Once,
}

struct Hostile {
    harm: Harm,
    calls: std::cell::Cell<u32>,
}

impl Plugin for Hostile {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new().events(["lead:*"]).roles(["VIEWER"])
    }

    fn init(config: Config) -> Result<Self, String> {
        config.init.done(0);
        Ok(Self { harm: config.filter, calls: 0.into() })
    }
}

impl Filter for Hostile {
    fn hides(&self) -> Hides {
        Hides::nothing().from("VIEWER", ["/lead/email"])
    }

    fn filter(&self, _event: &Event, _role: &str) -> Result<Verdict, String> {
        self.calls.set(self.calls.get() + 1);
        self.harm.done(self.calls.get());
        Ok(Verdict::everyone().remove("/lead/email"))
    }
}

plugin!(Hostile: filter);

impl Harm {
    fn done(self, calls: u32) {
        match self {
            Self::None => {}
            Self::Once if calls != 2 => {}
            Self::Panic | Self::Once => panic!("nobody expects this"),
            Self::Spin => loop {
                std::hint::black_box(calls);
            },
            Self::Allocate => drop(std::hint::black_box(vec![1_u8; 1 << 30])),
            Self::Recurse => drop(std::hint::black_box(deeper(u64::from(calls)))),
        }
    }
}

fn deeper(depth: u64) -> u64 {
    std::hint::black_box(depth) + if depth == u64::MAX { 0 } else { std::hint::black_box(deeper(depth + 1)) }
}
