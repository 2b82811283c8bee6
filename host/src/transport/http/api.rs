//! State that all HTTP handlers share: the application, authentication, plugins, presence, and the readiness checks.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    auth::Auth,
    delivery::explain::Explainer,
    plugin::Plugins,
    transport::{
        http::{in_flight::UnderWay, settings::HttpConfig},
        socket::presence::viewers::Viewers,
    },
};

/// Readiness check; its error is the reason why something is not ready.
pub(crate) type ReadinessCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// State that all handlers share.
#[derive(Clone)]
pub struct ApiState {
    pub app: App,
    pub auth: Auth,
    pub plugins: Plugins,
    pub explainer: Arc<Explainer>,
    pub viewers: Viewers,
    /// Check that the delivery of events keeps up with the log.
    pub tail: ReadinessCheck,
    pub settings: Arc<HttpConfig>,
    /// Name of the mode that the server runs in.
    pub mode: &'static str,
    pub under_way: UnderWay,
    /// Cancelled when the server is about to stop and others should take over.
    pub draining: CancellationToken,
}
