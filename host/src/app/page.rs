//! Pages of a list, and the cursor that leads from one to the next.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Cursors, Error, Result};

pub const MAX_LIMIT: u32 = 200;
pub const DEFAULT_LIMIT: u32 = 50;

/// What a client asks of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// 1 to [`MAX_LIMIT`].
    pub limit: u32,
    pub cursor: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub items: Vec<Value>,
    pub next_cursor: Option<String>,
}

/// A cursor belongs to one list: the same noun, filter and order.
#[derive(Serialize, Deserialize)]
struct Cursor<P> {
    list: [u8; 6],
    position: P,
}

/// A list that plugins thin out reads on to fill its page, but not for ever.
const MAX_BATCHES: usize = 20;
/// Small pages are read in batches of at least this many.
const MIN_BATCH: u32 = 100;

impl PageRequest {
    /// Reads batches with `fetch` and keeps what `show` lets through, until the page is full.
    ///
    /// `list` tells this list from others: the cursor of one is no use in another.
    // A closure that returns a future, and no `AsyncFn`: of that, the compiler cannot tell that it is `Send`.
    pub(super) async fn fill<P: Clone + Serialize + DeserializeOwned, T, F>(
        &self,
        cursors: &Cursors,
        list: &impl Serialize,
        fetch: impl Fn(Option<P>, u32) -> F,
        show: impl Fn(T) -> Result<Option<Value>>,
    ) -> Result<Page>
    where
        F: Future<Output = Result<Vec<(P, T)>>>,
    {
        let (limit, batch_size) = (self.limit as usize, (self.limit + 1).max(MIN_BATCH));
        let mut examined = self.position(cursors, list)?;
        let next = |position: Option<P>| position.map(|position| cursor(cursors, list, &position));
        let mut shown: Option<P> = None;
        let mut items = Vec::new();
        for _ in 0..MAX_BATCHES {
            let batch = fetch(examined.clone(), batch_size).await?;
            let is_last = batch.len() < batch_size as usize;
            for (position, item) in batch {
                if let Some(seen) = show(item)? {
                    if items.len() == limit {
                        return Ok(Page { items, next_cursor: next(shown) });
                    }
                    items.push(seen);
                    shown = Some(position.clone());
                }
                examined = Some(position);
            }
            if is_last {
                return Ok(Page { items, next_cursor: None });
            }
            tokio::task::yield_now().await;
        }
        Ok(Page { items, next_cursor: next(examined) })
    }

    /// The place where the page begins; none for the first page.
    fn position<P: DeserializeOwned>(&self, cursors: &Cursors, list: &impl Serialize) -> Result<Option<P>> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let unreadable = || Error::query("cursor", "is not one that this server gave out");
        let bytes = cursors.open(text).ok_or_else(unreadable)?;
        let cursor: Cursor<P> = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
        if cursor.list != mark(list) {
            return Err(Error::query("cursor", "belongs to another list: keep filters and sort as they were"));
        }
        Ok(Some(cursor.position))
    }
}

/// The cursor that goes on behind `position`.
fn cursor<P: Serialize>(cursors: &Cursors, list: &impl Serialize, position: &P) -> String {
    let cursor = Cursor { list: mark(list), position };
    cursors.seal(&serde_json::to_vec(&cursor).expect("positions are plain JSON"))
}

fn mark(list: &impl Serialize) -> [u8; 6] {
    let digest = Sha256::digest(serde_json::to_vec(list).expect("filters are plain JSON"));
    *digest.first_chunk().expect("a SHA-256 is longer")
}
