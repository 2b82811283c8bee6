//! Pagination: pages of a list, and the cursor from one page to the next.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use sha2::{Digest, Sha256};

use crate::{
    app::{
        cursor::Cursors,
        error::{Error, Result},
        visibility::ItemView,
    },
    domain::{actor::Actor, role::Role},
    store::lead_list::ListRest,
};

pub const MAX_LIMIT: u32 = 200;
pub const DEFAULT_LIMIT: u32 = 50;

/// Page requested by a client.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// 1 to [`MAX_LIMIT`].
    pub limit: u32,
    pub cursor: Option<String>,
    /// A page ends with the item that reaches this number of bytes.
    pub max_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Page {
    /// Encoded, because the value that an item was shaped from may take many times the memory.
    pub items: Vec<Box<RawValue>>,
    pub next_cursor: Option<String>,
    /// Set when items were left out because a plugin gave no verdict on them.
    pub withheld: Option<Withheld>,
}

/// Information about items that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Withheld {
    /// Some were left out; always true.
    Some(bool),
    /// Number of items left out, for administrators.
    Count(u32),
}

impl Page {
    /// Items as values, for callers that inspect them.
    pub fn values(&self) -> Vec<Value> {
        self.items.iter().map(|item| serde_json::from_str(item.get()).expect("items are JSON")).collect()
    }
}

/// Cursor; it is valid for one list only: the same noun, filter and order.
#[derive(Serialize, Deserialize)]
struct Cursor<P> {
    list: [u8; 6],
    position: P,
}

/// Read strategy for a list that plugins thin out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Number of items per read.
    step: u32,
    /// Maximum number of reads to fill a page.
    steps: u32,
}

impl Reading {
    /// Steps that fit the page.
    pub(crate) fn by_page(request: &PageRequest) -> Self {
        Self { step: (request.limit + 1).max(100), steps: 20 }
    }

    /// Steps for a list of which hardly any item is hidden: one is enough, with the item that follows the page.
    pub(crate) fn exact(request: &PageRequest) -> Self {
        Self { step: request.limit + 1, steps: 20 }
    }

    /// Steps of the same size for every page, so that the duration of a request reveals little.
    pub(crate) const EVEN: Self = Self { step: 256, steps: 16 };
}

/// Items of a list in its order, each with its position.
pub(crate) struct Fetched<P, T> {
    pub(crate) items: Vec<(P, T)>,
    pub(crate) rest: ListRest<P>,
}

impl<P, T> Fetched<P, T> {
    /// Result of a read of at most `limit` items.
    pub(crate) fn of(items: Vec<(P, T)>, limit: u32) -> Self {
        Self { rest: ListRest::of(items.len(), limit), items }
    }
}

/// Encodes an item as it is sent.
pub(crate) fn text(item: &impl Serialize) -> Box<RawValue> {
    to_raw_value(item).expect("items are plain JSON with string keys")
}

/// Verdict on an item.
enum PageItem {
    Shown(Box<RawValue>),
    Hidden,
    Withheld,
}

impl From<ItemView> for PageItem {
    fn from(view: ItemView) -> Self {
        match view {
            ItemView::Shown(item) => Self::Shown(text(&item)),
            ItemView::Hidden => Self::Hidden,
            ItemView::Withheld(_) => Self::Withheld,
        }
    }
}

impl PageRequest {
    /// Reads steps with `fetch` and keeps what `show` lets through, until the page is full.
    ///
    /// `list` identifies the list: the cursor of one list is not valid in another. Every item of a step is passed to
    /// `show`, including those after the end of the page.
    // A closure that returns a future, not an `AsyncFn`: for the latter, the compiler cannot prove that it is `Send`.
    pub(crate) async fn fill<P: Clone + Serialize + DeserializeOwned, T, F>(
        &self,
        cursors: &Cursors,
        list: &impl Serialize,
        reading: Reading,
        fetch: impl Fn(Option<P>, u32) -> F,
        show: impl Fn(T) -> Result<ItemView>,
    ) -> Result<Filled>
    where
        F: Future<Output = Result<Fetched<P, T>>>,
    {
        let mut examined = self.position(cursors, list)?;
        let next = |position: Option<P>| position.map(|position| cursor(cursors, list, &position));
        let (mut items, mut bytes, mut shown) = (Vec::new(), 0, None);
        // Withheld items after the last shown one are counted by the next page.
        let (mut withheld, mut withheld_since) = (0, 0);

        for _ in 0..reading.steps {
            let step = fetch(examined.clone(), reading.step).await?;
            let view = |(position, item): (P, T)| -> Result<(P, PageItem)> { Ok((position, show(item)?.into())) };
            let views = step.items.into_iter().map(view).collect::<Result<Vec<_>>>()?;
            for (position, view) in views {
                let is_full = items.len() == self.limit as usize || bytes >= self.max_bytes;
                match view {
                    PageItem::Shown(_) if is_full => return Ok(Filled { items, next_cursor: next(shown), withheld }),
                    PageItem::Shown(item) => {
                        bytes += item.get().len();
                        items.push(item);
                        shown = Some(position.clone());
                        withheld += std::mem::take(&mut withheld_since);
                    }
                    PageItem::Hidden => {}
                    PageItem::Withheld => withheld_since += 1,
                }
                examined = Some(position);
            }
            let examined_to = match step.rest {
                ListRest::Nothing => None,
                // The page ends here, because enough were examined for it.
                ListRest::After(position) => Some(position),
                ListRest::More => {
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            return Ok(Filled { items, next_cursor: next(examined_to), withheld: withheld + withheld_since });
        }
        Ok(Filled { items, next_cursor: next(examined), withheld: withheld + withheld_since })
    }

    /// Position where the page begins; `None` for the first page.
    fn position<P: DeserializeOwned>(&self, cursors: &Cursors, list: &impl Serialize) -> Result<Option<P>> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let unreadable = || Error::query("cursor", "must be a nextCursor from this server");
        let bytes = cursors.open(text).ok_or_else(unreadable)?;
        let cursor: Cursor<P> = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
        if cursor.list != mark(list) {
            return Err(Error::query("cursor", "belongs to another list: use the same filters and sort"));
        }
        Ok(Some(cursor.position))
    }
}

/// Page with the number of items left out for lack of a verdict.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) items: Vec<Box<RawValue>>,
    pub(crate) next_cursor: Option<String>,
    pub(crate) withheld: u32,
}

impl Filled {
    /// Page for a reader: administrators get the number of items left out, others only that some were.
    pub(crate) fn for_reader(self, actor: &Actor) -> Page {
        let Self { items, next_cursor, withheld } = self;
        let shown = if actor.is(Role::Admin) { Withheld::Count(withheld) } else { Withheld::Some(true) };
        Page { items, next_cursor, withheld: (withheld > 0).then_some(shown) }
    }
}

impl From<Filled> for Page {
    /// Page of a list that no plugin is asked about.
    fn from(filled: Filled) -> Self {
        Self { items: filled.items, next_cursor: filled.next_cursor, withheld: None }
    }
}

/// Cursor that continues after `position`.
fn cursor<P: Serialize>(cursors: &Cursors, list: &impl Serialize, position: &P) -> String {
    let cursor = Cursor { list: mark(list), position };
    cursors.seal(&serde_json::to_vec(&cursor).expect("positions are plain JSON"))
}

fn mark(list: &impl Serialize) -> [u8; 6] {
    let digest = Sha256::digest(serde_json::to_vec(list).expect("filters are plain JSON"));
    *digest.first_chunk().expect("a SHA-256 is longer")
}
