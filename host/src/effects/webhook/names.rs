//! Name resolution with an address check at connect time: the address that was checked is the one that is connected
//! to, whatever the name resolves to a moment later (DNS rebinding).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::Reach;

/// Resolver of host names.
pub trait Names: Send + Sync {
    /// Returns all addresses of a host.
    ///
    /// # Errors
    /// When the lookup fails, or finds no address.
    fn lookup(&self, host: String) -> Lookup;
}

pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Resolver of the operating system.
pub(crate) struct SystemNames;

impl Names for SystemNames {
    fn lookup(&self, host: String) -> Lookup {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Error for a host of which no address may be reached.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {}", .addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))]
pub(crate) struct OutOfReach {
    pub(crate) host: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Resolver that leaves out addresses that may not be reached.
pub(crate) struct Checked {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) reach: Reach,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, reach) = (name.as_str().to_owned(), self.reach.clone());
        let lookup = self.names.lookup(host.clone());
        Box::pin(async move {
            let addresses = lookup.await?;
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
            }
            let allowed: Vec<_> = addresses.iter().copied().filter(|address| reach.allows(*address)).collect();
            if allowed.is_empty() {
                return Err(OutOfReach { host, addresses }.into());
            }
            // Port 0 means the port of the URL.
            Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
