//! Names to addresses, checked where connections are made: what was checked is what is connected to, whatever the
//! name leads to a moment later.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::Reach;

/// Where names lead.
pub trait Names: Send + Sync {
    /// All addresses of a host.
    ///
    /// # Errors
    /// When nobody can say, or there is none.
    fn lookup(&self, host: String) -> Lookup;
}

pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What the operating system says.
pub(super) struct SystemNames;

impl Names for SystemNames {
    fn lookup(&self, host: String) -> Lookup {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A host of which no address may be reached.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {}", .addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))]
pub(super) struct OutOfReach {
    pub(super) host: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// Leaves out what may not be reached.
pub(super) struct Checked {
    pub(super) names: Arc<dyn Names>,
    pub(super) reach: Reach,
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
            // Port 0 stands for the URL's.
            Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
