//! What one run of a job came to, and what several runs come to together.

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Operations a second: reads, writes, or the calls of the names' jobs.
    pub operations_per_s: f64,
    /// Bytes a second, 0 where no data is moved.
    pub bytes_per_s: f64,
    /// Operations that were counted.
    pub operations: u64,
    /// Seconds in which they were.
    pub seconds: f64,
    /// How long one operation took.
    pub latency: Latency,
}

/// How long one operation took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// On average.
    pub mean_ns: f64,
    /// At most, of half of them.
    pub p50_ns: u64,
    /// At most, of 95 in 100.
    pub p95_ns: u64,
    /// At most, of 99 in 100.
    pub p99_ns: u64,
    /// At most, of 999 in 1000.
    pub p999_ns: u64,
    /// Of all.
    pub max_ns: u64,
}

/// The median of several figures, the least and the greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half are at most this; of an even number, the middle between the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; nothing if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 100.0]), Some(Spread { median: 3.0, min: 1.0, max: 100.0 }));
    }
}
