//! Pages of a list, and the cursor that leads from one to the next.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use sha2::{Digest, Sha256};

use super::{Cursors, Error, Result, sight::View};
use crate::domain::{event::Actor, role::Role};

pub const MAX_LIMIT: u32 = 200;
pub const DEFAULT_LIMIT: u32 = 50;

/// What a client asks of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// 1 to [`MAX_LIMIT`].
    pub limit: u32,
    pub cursor: Option<String>,
    /// A page ends with the item that reaches so many bytes.
    pub max_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Page {
    /// Each as it is sent: what it was shaped from may take many times the memory.
    pub items: Vec<Box<RawValue>>,
    pub next_cursor: Option<String>,
    /// Set where items were left out because a plugin gave no verdict on them.
    pub withheld: Option<Withheld>,
}

/// What is told of items that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Withheld {
    /// That there are some; always true.
    Some(bool),
    /// How many there are, for administrators.
    Count(u32),
}

impl Page {
    /// The items as values, for who looks into them.
    pub fn values(&self) -> Vec<Value> {
        self.items.iter().map(|item| serde_json::from_str(item.get()).expect("items are JSON")).collect()
    }
}

/// A cursor belongs to one list: the same noun, filter and order.
#[derive(Serialize, Deserialize)]
struct Cursor<P> {
    list: [u8; 6],
    position: P,
}

/// How a list is read that plugins thin out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Items that are read at once.
    step: u32,
    /// A page reads on to fill up, but not for ever.
    steps: u32,
}

impl Reading {
    /// In steps that fit a page.
    pub(super) fn by_page(request: &PageRequest) -> Self {
        Self { step: (request.limit + 1).max(100), steps: 20 }
    }

    /// In steps that are the same for every page, so that little can be told from how long one takes.
    pub(super) const EVEN: Self = Self { step: 256, steps: 16 };
}

/// Some items of a list in its order, and whether there are no more behind them.
pub(super) struct Fetched<T> {
    pub(super) items: Vec<T>,
    pub(super) is_last: bool,
}

impl<T> Fetched<T> {
    /// At most `limit` items that were asked for: fewer are the last.
    pub(super) fn of(items: Vec<T>, limit: u32) -> Self {
        Self { is_last: items.len() < limit as usize, items }
    }
}

/// An item as it is sent.
pub(super) fn text(item: &Value) -> Box<RawValue> {
    to_raw_value(item).expect("a JSON value has text keys")
}

/// What becomes of an item.
enum Told {
    Shown(Box<RawValue>),
    Hidden,
    Withheld,
}

impl From<View> for Told {
    fn from(view: View) -> Self {
        match view {
            View::Shown(item) => Self::Shown(text(&item)),
            View::Hidden => Self::Hidden,
            View::Withheld(_) => Self::Withheld,
        }
    }
}

impl PageRequest {
    /// Reads steps with `fetch` and keeps what `show` lets through, until the page is full.
    ///
    /// `list` tells this list from others: the cursor of one is no use in another. Everything in a step is shown to
    /// `show`, also what is behind the end of the page.
    // A closure that returns a future, and no `AsyncFn`: of that, the compiler cannot tell that it is `Send`.
    pub(super) async fn fill<P: Clone + Serialize + DeserializeOwned, T, F>(
        &self,
        cursors: &Cursors,
        list: &impl Serialize,
        reading: Reading,
        fetch: impl Fn(Option<P>, u32) -> F,
        show: impl Fn(T) -> Result<View>,
    ) -> Result<Filled>
    where
        F: Future<Output = Result<Fetched<(P, T)>>>,
    {
        let mut examined = self.position(cursors, list)?;
        let next = |position: Option<P>| position.map(|position| cursor(cursors, list, &position));
        let (mut items, mut bytes, mut shown) = (Vec::new(), 0, None);
        // Those behind the last item that is shown are for the next page to tell of.
        let (mut withheld, mut withheld_since) = (0, 0);

        for _ in 0..reading.steps {
            let step = fetch(examined.clone(), reading.step).await?;
            let is_last = step.is_last;
            let told = |(position, item): (P, T)| -> Result<(P, Told)> { Ok((position, show(item)?.into())) };
            let views = step.items.into_iter().map(told).collect::<Result<Vec<_>>>()?;
            for (position, view) in views {
                let is_full = items.len() == self.limit as usize || bytes >= self.max_bytes;
                match view {
                    Told::Shown(_) if is_full => return Ok(Filled { items, next_cursor: next(shown), withheld }),
                    Told::Shown(item) => {
                        bytes += item.get().len();
                        items.push(item);
                        shown = Some(position.clone());
                        withheld += std::mem::take(&mut withheld_since);
                    }
                    Told::Hidden => {}
                    Told::Withheld => withheld_since += 1,
                }
                examined = Some(position);
            }
            if is_last {
                return Ok(Filled { items, next_cursor: None, withheld: withheld + withheld_since });
            }
            tokio::task::yield_now().await;
        }
        Ok(Filled { items, next_cursor: next(examined), withheld: withheld + withheld_since })
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

/// A page, and how many items were left out of it for want of a verdict.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) items: Vec<Box<RawValue>>,
    pub(super) next_cursor: Option<String>,
    pub(super) withheld: u32,
}

impl Filled {
    /// The page for a reader who may know how many items were left out, or only that some were.
    pub(super) fn for_reader(self, actor: &Actor) -> Page {
        let Self { items, next_cursor, withheld } = self;
        let told = if actor.role == Role::Admin { Withheld::Count(withheld) } else { Withheld::Some(true) };
        Page { items, next_cursor, withheld: (withheld > 0).then_some(told) }
    }
}

impl From<Filled> for Page {
    /// A list that no plugin is asked about.
    fn from(filled: Filled) -> Self {
        Self { items: filled.items, next_cursor: filled.next_cursor, withheld: None }
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
