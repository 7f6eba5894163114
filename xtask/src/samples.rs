//! A set of measured times.

use std::fmt;

/// Times in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, milliseconds: f64) {
        self.0.push(milliseconds);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; the mean of the two in the middle of an even number.
    fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) { (self.0[middle - 1] + self.0[middle]) / 2.0 } else { self.0[middle] }
    }
}

impl fmt::Display for Samples {
    /// `median | least | most`, the cells of a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => write!(f, "- | - | -"),
            [least, .., most] => write!(f, "{:.2} | {least:.2} | {most:.2}", self.median()),
            [one] => write!(f, "{one:.2} | {one:.2} | {one:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[f64]) -> String {
        let mut samples = Samples::default();
        times.iter().for_each(|time| samples.add(*time));
        samples.to_string()
    }

    #[test]
    fn order_does_not_matter() {
        assert_eq!(of(&[3.0, 1.0, 2.0]), "2.00 | 1.00 | 3.00");
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), "2.50 | 1.00 | 4.00");
        assert_eq!(of(&[1.5]), "1.50 | 1.50 | 1.50");
        assert_eq!(of(&[]), "- | - | -");
    }
}
