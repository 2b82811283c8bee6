//! Requests under way: how many one user and one address may have at a time.
//!
//! A request counts until its answer has left, not until it is made: answers that nobody reads take memory as well.

use std::{
    any::Any,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Extensions, StatusCode},
};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::problem::Problem;
use crate::{
    auth,
    domain::id::UserId,
    transport::{
        address::ClientAddress,
        socket::limits::{self, Places},
    },
};

/// When to try again: requests do not take long.
const WAIT: Duration = Duration::from_secs(1);

/// The requests of everybody.
#[derive(Clone)]
pub struct UnderWay {
    users: Places<UserId>,
    addresses: Places<IpAddr>,
    per_user: usize,
    per_address: usize,
}

/// What one request counts as; it waits in the request's extensions for the user to be known.
#[derive(Clone, Default)]
pub(super) struct Counted(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl UnderWay {
    pub fn new(limits: &limits::Settings) -> Self {
        Self {
            users: Places::default(),
            addresses: Places::default(),
            per_user: limits.requests_per_user,
            per_address: limits.requests_per_address,
        }
    }

    /// Counts a request for the address that it comes from.
    pub(super) fn begin(&self, extensions: &mut Extensions) -> Result<Counted, Problem> {
        let counted = Counted::default();
        if let Some(ClientAddress(address)) = extensions.get().copied() {
            let place = self.addresses.take(auth::network(address), self.per_address);
            counted
                .0
                .lock()
                .push(Box::new(place.ok_or_else(|| too_many("requests_per_address", "from this address"))?));
        }
        extensions.insert(counted.clone());
        Ok(counted)
    }

    /// Counts a request for its user, once that is known.
    pub(super) fn is_by(&self, user: UserId, extensions: &Extensions) -> Result<(), Problem> {
        let Some(counted) = extensions.get::<Counted>() else { return Ok(()) };
        let place = self.users.take(user, self.per_user);
        counted.0.lock().push(Box::new(place.ok_or_else(|| too_many("requests_per_user", "of this user"))?));
        Ok(())
    }
}

fn too_many(limit: &'static str, whose: &str) -> Problem {
    limits::hit(limit);
    let detail = format!("too many requests {whose} are under way, or their answers are not read");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).after(WAIT)
}

/// An answer's body, which counts for as long as it has not left.
struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl Counted {
    /// Makes the request count until its answer's body has left.
    pub(super) fn until_sent(self, body: Body) -> Body {
        Body::new(CountedBody { body, _counted: self })
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
