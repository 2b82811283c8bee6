//! Webhooks on behalf of plugins: sent only to hosts that the operator granted, only to addresses that are public or
//! granted, and signed. The error of a message that cannot be sent gives the reason, and says if a retry is worthwhile.

mod address;
pub(crate) mod answer;
mod names;
mod signature;

pub use answer::SendError;

use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use quick_cache::sync::Cache;
use reqwest::{Client, Url, header, redirect};
use serde_json::{Value, json};

pub use self::names::{Lookup, Names};
use self::{
    address::Reach,
    names::{Checked, OutOfReach, SystemNames},
    signature::SigningSecret,
};
use crate::{app::Clock, domain::time::Timestamp, plugin::WebhookGrant};

/// One message to one receiver.
#[derive(Clone, Copy, Debug)]
pub struct WebhookMessage<'a> {
    /// Plugin that sends the message; errors about missing settings name its file.
    pub plugin: &'a str,
    /// Same at each attempt, so that a receiver can tell a retry from a second message.
    pub id: &'a str,
    pub url: &'a str,
    /// `type` in the body.
    pub kind: &'a str,
    /// Time of what the message reports.
    pub at: Timestamp,
    pub data: &'a Value,
}

/// Maximum number of HTTP clients that are kept: one per set of granted networks, with and without encryption.
const MAX_CLIENTS: usize = 64;
/// Time after which an idle connection is closed: receivers close idle connections, and reusing one that was idle for
/// long is not worth the risk.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends webhooks.
pub struct Sender {
    timeout: Duration,
    clock: Arc<dyn Clock>,
    names: Arc<dyn Names>,
    /// HTTP clients by reach: connections that were made under one grant are not used under another.
    clients: Cache<Reach, Client>,
}

impl Sender {
    /// Creates a sender; `timeout` is for a whole attempt, from the name's lookup to the response.
    pub fn new(timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::with_names(timeout, clock, Arc::new(SystemNames))
    }

    /// Creates a sender that looks names up in `names` instead of the operating system.
    pub fn with_names(timeout: Duration, clock: Arc<dyn Clock>, names: Arc<dyn Names>) -> Self {
        // The crypto provider is global to the process; other code may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { timeout, clock, names, clients: Cache::new(MAX_CLIENTS) }
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// When the grant does not cover the message, nobody accepts it in time, or it is refused.
    pub async fn send(&self, grant: &WebhookGrant, message: &WebhookMessage<'_>) -> Result<(), SendError> {
        let url = granted_url(grant, message)?;
        let key = key(grant, message)?;
        let reach = Reach::new(&grant.networks, url.scheme() == "https");
        check_literal(&reach, &url, message)?;
        let client = self.client(reach)?;

        let (host, now) = (authority(&url), self.clock.now());
        let body = json!({"type": message.kind, "timestamp": message.at, "data": message.data}).to_string();
        let request = client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", now.seconds())
            .header("webhook-signature", key.sign(message.id, now, &body))
            .body(body);
        match request.send().await {
            Ok(response) => answer::judge(&host, response, now).await,
            Err(error) => Err(self.failure(&host, &error, message)),
        }
    }

    fn client(&self, reach: Reach) -> Result<Client, SendError> {
        let build = || {
            let builder = if reach.is_public() {
                Client::builder()
            } else {
                // Nothing will be encrypted, so the system need not have certificates.
                Client::builder().tls_certs_only([])
            };
            builder
                .user_agent(concat!("leadwire/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                // A proxy would look the name up itself, and nobody would check the address.
                .no_proxy()
                .timeout(self.timeout)
                // Leaves time for another address if the first one is silent.
                .connect_timeout(self.timeout / 2)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .dns_resolver(Arc::new(Checked { names: Arc::clone(&self.names), reach: reach.clone() }))
                .build()
        };
        let made = self.clients.get_or_insert_with(&reach, build);
        made.map_err(|error| SendError::passing(format!("cannot create an HTTP client: {}", root(&error))))
    }

    fn failure(&self, host: &str, error: &reqwest::Error, message: &WebhookMessage<'_>) -> SendError {
        if let Some(found) = causes(error).find_map(|cause| cause.downcast_ref::<OutOfReach>()) {
            return out_of_reach(&found.to_string(), &found.addresses, message);
        }
        if error.is_builder() {
            return SendError::refused(format!("cannot build a request from the message: {}", root(error)));
        }
        if error.is_timeout() {
            return SendError::passing(format!(
                "{host} did not answer within {}",
                humantime::format_duration(self.timeout)
            ));
        }
        SendError::passing(format!("{host} cannot be reached: {}", root(error)))
    }
}

/// Parses the URL and checks it against the granted hosts.
fn granted_url(grant: &WebhookGrant, message: &WebhookMessage<'_>) -> Result<Url, SendError> {
    let url = Url::parse(message.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
        .ok_or_else(|| SendError::refused("url: expected a URL such as https://hooks.example.com/leads"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SendError::refused("url: expected no user name or password, messages are signed instead"));
    }
    let (host, plugin) = (authority(&url), message.plugin);
    if !grant.hosts.iter().any(|entry| names(entry, &url)) {
        return Err(SendError::refused(format!(
            "{host} is not granted: to let {plugin} send there, add {host:?} to webhook_hosts below [grant] in {plugin}.toml"
        )));
    }
    if url.scheme() == "http" && grant.networks.is_empty() {
        return Err(SendError::refused(format!(
            "{host}: expected https; http is for networks that webhook_networks below [grant] in {plugin}.toml lists"
        )));
    }
    Ok(url)
}

/// Returns true if a granted host, with its port if it names one, is that of the URL.
fn names(entry: &str, url: &Url) -> bool {
    // A URL drops the default port of its scheme, so only parsing with both schemes shows if a port was written.
    let [Ok(https), Ok(http)] = ["https", "http"].map(|scheme| Url::parse(&format!("{scheme}://{entry}"))) else {
        return false;
    };
    let is_bare = https.path() == "/" && https.query().is_none() && https.username().is_empty();
    let same_port = match https.port().or(http.port()) {
        Some(port) => url.port_or_known_default() == Some(port),
        None => url.port().is_none(),
    };
    is_bare && https.host_str() == url.host_str() && same_port
}

/// Returns the host, and the port if it is not the default one.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn key(grant: &WebhookGrant, message: &WebhookMessage<'_>) -> Result<SigningSecret, SendError> {
    let expected = "24 to 64 random bytes in base64 behind whsec_ (openssl rand -base64 32)";
    let plugin = message.plugin;
    let Some(secret) = &grant.secret else {
        return Err(SendError::refused(format!(
            "{plugin} has no secret to sign with: add webhook_secret = \"whsec_...\" to the top of {plugin}.toml, {expected}"
        )));
    };
    SigningSecret::parse(secret)
        .ok_or_else(|| SendError::refused(format!("webhook_secret in {plugin}.toml: expected {expected}")))
}

/// Checks an address in a URL, which no lookup would check. However it was spelled, it is parsed by now.
fn check_literal(reach: &Reach, url: &Url, message: &WebhookMessage<'_>) -> Result<(), SendError> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if !reach.allows(address) => {
            Err(out_of_reach(&format!("the url names {address}"), &[address], message))
        }
        _ => Ok(()),
    }
}

fn out_of_reach(found: &str, addresses: &[IpAddr], message: &WebhookMessage<'_>) -> SendError {
    let plugin = message.plugin;
    let line: Vec<_> =
        addresses.iter().map(|&address| format!("\"{}\"", IpNet::from(address.to_canonical()))).collect();
    SendError::refused(format!(
        "{found}, where {plugin} may not send: for an address that is not public, or for http, add \
         webhook_networks = [{}] below [grant] in {plugin}.toml",
        line.join(", ")
    ))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns the innermost cause of an error. URLs, which may contain tokens, are only in the errors further up.
fn root(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
