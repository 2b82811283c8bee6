//! Statistics of rounds.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Median; of an even number of values, the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Histogram of nanoseconds, up to a quarter of an hour.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 900_000_000_000, 3).expect("three digits are few enough")
}

/// Quantile of nanoseconds, in milliseconds.
pub fn quantile_ms(histogram: &Histogram<u64>, share: f64) -> f64 {
    histogram.value_at_quantile(share) as f64 / 1e6
}

/// Time per item, in microseconds.
pub fn micros_each(time: Duration, items: u64) -> f64 {
    time.as_secs_f64() * 1e6 / items.max(1) as f64
}

/// Items per second.
pub fn rate(items: u64, time: Duration) -> f64 {
    items as f64 / time.as_secs_f64().max(1e-9)
}

/// Number with separators: `12,345`, `1.25`.
pub fn shown(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or_else(|| format!("{sign}{grouped}"), |fraction| format!("{sign}{grouped}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_ignores_the_order_and_outliers() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!((median(&[7.0]), median(&[])), (Some(7.0), None));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [(122_300.4, 0), (0.5, 2), (-1234.5, 1), (999.0, 0), (1_000_000.0, 0)];
        let all = all.map(|(value, digits)| shown(value, digits));
        assert_eq!(all, ["122,300", "0.50", "-1,234.5", "999", "1,000,000"]);
    }

    #[test]
    fn rates_and_times_are_per_item() {
        let second = Duration::from_secs(1);
        assert_eq!((micros_each(second, 1000), rate(1000, second)), (1000.0, 1000.0));
    }
}
