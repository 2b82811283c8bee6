//! Response with a page of a list: the items are streamed in pieces, and are not copied into one text.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use serde_json::json;

use crate::app::Page;

/// Approximate length of a piece. The connection takes only a few pieces before the first has left.
const PIECE_BYTES: usize = 16 * 1024;

/// Response with a page.
pub(crate) struct ListResponse(pub(crate) Page);

impl IntoResponse for ListResponse {
    fn into_response(self) -> Response {
        let Page { items, next_cursor, withheld } = self.0;
        let mut pieces = VecDeque::new();
        let mut piece = String::from(r#"{"items":["#);
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                piece.push(',');
            }
            if item.get().len() < PIECE_BYTES {
                piece.push_str(item.get());
            } else {
                if !piece.is_empty() {
                    pieces.push_back(Bytes::from(std::mem::take(&mut piece)));
                }
                pieces.push_back(Bytes::from(String::from(Box::<str>::from(item))));
            }
            if piece.len() >= PIECE_BYTES {
                pieces.push_back(Bytes::from(std::mem::take(&mut piece)));
            }
        }
        piece.push_str(&format!(r#"],"nextCursor":{}"#, json!(next_cursor)));
        if let Some(withheld) = withheld {
            piece.push_str(&format!(r#","withheld":{}"#, json!(withheld)));
        }
        piece.push('}');
        pieces.push_back(Bytes::from(piece));

        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        let kind = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, kind)], Body::new(Pieces { pieces, left })).into_response()
    }
}

/// Body of known length.
struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
