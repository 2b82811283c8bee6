//! A harmful plugin; its settings select the kind of harm: mistakes of an author as the host sees them.

use leadwire_plugin_sdk::*;

/// Behaviour of each hook.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    init: Harm,
    authorize: Harm,
    before: Harm,
    enrich: Harm,
    filter: Harm,
    after: Harm,
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
    /// Writes to the log endlessly.
    Flood,
    /// Returns an error text of 10 MB.
    Huge,
    /// Returns an error.
    Fail,
    /// Panics in the second call of such a hook of an instance.
    Once,
}

struct Hostile {
    harms: Config,
    calls: std::cell::Cell<u32>,
}

impl Plugin for Hostile {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new().events(["lead:*"]).roles(["VIEWER"])
    }

    fn init(config: Config) -> Result<Self, String> {
        config.init.done(0)?;
        Ok(Self { harms: config, calls: 0.into() })
    }
}

impl Authorize for Hostile {
    fn connect(&self, _who: &Subject) -> Result<Decision, String> {
        self.called(self.harms.authorize)?;
        Ok(Decision::Allow)
    }
}

impl Before for Hostile {
    fn before(&self, _command: &Command) -> Result<Ruling, String> {
        self.called(self.harms.before)?;
        Ok(Ruling::Accept)
    }
}

impl Enrich for Hostile {
    fn enrich(&self, _event: &Event) -> Result<Vec<Edit>, String> {
        self.called(self.harms.enrich)?;
        Ok(vec![Edit::set("/lead/enriched", true)])
    }
}

impl Filter for Hostile {
    fn hides(&self) -> Hides {
        Hides::nothing().from("VIEWER", ["/lead/email"])
    }

    fn filter(&self, _event: &Event, _role: &str) -> Result<Verdict, String> {
        self.called(self.harms.filter)?;
        Ok(Verdict::everyone().remove("/lead/email"))
    }
}

impl After for Hostile {
    fn wants(&self) -> Wants {
        Wants::events(["lead:updated"])
    }

    fn after(&self, _occasion: &Occasion) -> Result<Outcome, String> {
        self.called(self.harms.after)?;
        Ok(Outcome::nothing())
    }
}

plugin!(Hostile: authorize, before, enrich, filter, after);

impl Hostile {
    /// Counts only calls of harmful hooks.
    fn called(&self, harm: Harm) -> Result<(), String> {
        self.calls.set(self.calls.get() + u32::from(!matches!(harm, Harm::None)));
        harm.done(self.calls.get())
    }
}

impl Harm {
    fn done(self, calls: u32) -> Result<(), String> {
        match self {
            Self::None => Ok(()),
            Self::Once if calls != 2 => Ok(()),
            Self::Panic | Self::Once => panic!("nobody expects this"),
            Self::Spin => loop {
                std::hint::black_box(calls);
            },
            Self::Allocate => {
                drop(std::hint::black_box(vec![1_u8; 1 << 30]));
                Ok(())
            }
            Self::Recurse => {
                std::hint::black_box(deeper(u64::from(calls)));
                Ok(())
            }
            Self::Flood => loop {
                host::log(host::Level::Info, "a flood");
            },
            Self::Huge => Err("x".repeat(10 << 20)),
            Self::Fail => Err("no idea".into()),
        }
    }
}

fn deeper(depth: u64) -> u64 {
    std::hint::black_box(depth) + if depth == u64::MAX { 0 } else { std::hint::black_box(deeper(depth + 1)) }
}
