//! Order of the events that one socket receives.

/// Number of recent events that a late one can still be told from a duplicate by.
const WINDOW: u64 = 64;

/// Seqs that a socket has seen.
#[derive(Debug, Default)]
pub struct Order {
    last: Option<u64>,
    /// Bit n: the event n before the last one was seen.
    seen: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The seq after the last one, or the first of all.
    Next,
    /// A later seq. Those between may never come: a filter, or a loss.
    Gap,
    Duplicate,
    /// Older than the last one, and not seen before.
    Inversion,
}

impl Order {
    pub fn note(&mut self, seq: u64) -> Arrival {
        let Some(last) = self.last else {
            (self.last, self.seen) = (Some(seq), 1);
            return Arrival::Next;
        };
        if seq > last {
            let step = seq - last;
            self.seen = if step < WINDOW { self.seen << step } else { 0 } | 1;
            self.last = Some(seq);
            return if step == 1 { Arrival::Next } else { Arrival::Gap };
        }
        let age = last - seq;
        if age >= WINDOW {
            return Arrival::Inversion;
        }
        let bit = 1 << age;
        let known = self.seen & bit != 0;
        self.seen |= bit;
        if known { Arrival::Duplicate } else { Arrival::Inversion }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(seqs: &[u64]) -> Vec<Arrival> {
        let mut order = Order::default();
        seqs.iter().map(|seq| order.note(*seq)).collect()
    }

    #[test]
    fn duplicates_inversions_and_gaps_are_told_apart() {
        use Arrival::*;
        assert_eq!(arrivals(&[7, 8, 9]), [Next, Next, Next]);
        assert_eq!(arrivals(&[7, 7, 8, 7]), [Next, Duplicate, Next, Duplicate]);
        assert_eq!(arrivals(&[7, 9, 8, 8, 10]), [Next, Gap, Inversion, Duplicate, Next]);
        assert_eq!(arrivals(&[1, 500, 1]), [Next, Gap, Inversion]);
        assert_eq!(arrivals(&[5, 4, 4]), [Next, Inversion, Duplicate]);
    }
}
