//! Requests in flight: limits how many one user and one address may have at a time.
//!
//! A request counts until its response has left, not until it is made: responses that nobody reads take memory as
//! well.

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

use crate::{
    auth,
    domain::id::UserId,
    transport::{
        address::ClientAddress,
        http::problem::Problem,
        limits::{self, Slots},
    },
};

/// Time to wait before a retry: requests do not take long.
const WAIT: Duration = Duration::from_secs(1);

/// Requests in flight of all users and addresses.
#[derive(Clone)]
pub struct UnderWay {
    users: Slots<UserId>,
    addresses: Slots<IpAddr>,
    per_user: usize,
    per_address: usize,
}

/// Slots that one request takes. They are in the request's extensions, because its user is only known later.
#[derive(Clone, Default)]
pub(crate) struct Counted(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl UnderWay {
    pub fn new(limits: &limits::LimitsConfig) -> Self {
        Self {
            users: Slots::default(),
            addresses: Slots::default(),
            per_user: limits.requests_per_user,
            per_address: limits.requests_per_address,
        }
    }

    /// Counts a request for the address that it comes from.
    pub(crate) fn begin(&self, extensions: &mut Extensions) -> Result<Counted, Problem> {
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

    /// Counts a request for its user, once the user is known.
    pub(crate) fn is_by(&self, user: UserId, extensions: &Extensions) -> Result<(), Problem> {
        let Some(counted) = extensions.get::<Counted>() else { return Ok(()) };
        let place = self.users.take(user, self.per_user);
        counted.0.lock().push(Box::new(place.ok_or_else(|| too_many("requests_per_user", "of this user"))?));
        Ok(())
    }
}

fn too_many(limit: &'static str, whose: &str) -> Problem {
    limits::hit(limit);
    let detail = format!("too many requests {whose} are in progress or have unread responses");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).after(WAIT)
}

/// Response body, which counts for as long as it has not left.
struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl Counted {
    /// Makes the request count until its response body has left.
    pub(crate) fn until_sent(self, body: Body) -> Body {
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
