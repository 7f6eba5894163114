//! Sizes as people write them: `512M`, `2G`, `4096`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

/// The binary suffixes, the largest first.
const UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

impl FromStr for MemorySize {
    type Err = String;

    /// Reads decimal digits and an optional suffix K, M, G or T, each also as `KB`, `KiB` and so on in any case; all
    /// are powers of 1024.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let suffix = suffix.to_ascii_uppercase();
        let letter = suffix.strip_suffix("IB").or_else(|| suffix.strip_suffix('B')).unwrap_or(&suffix);
        let unit = match letter {
            "" => Some(1),
            letter => UNITS.iter().find(|(name, _)| *name == letter).map(|(_, unit)| *unit),
        };
        let (Some(unit), false) = (unit, number.is_empty()) else {
            return Err("a size is a number with an optional K, M, G or T, such as 512M".to_owned());
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(Self).ok_or_else(|| "the number is too large".to_owned())
    }
}

impl fmt::Display for MemorySize {
    /// The largest unit that divides the size, so that nothing is rounded: `2G`, `1536M`, `4097`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64k", 65536),
            ("512M", 512 << 20),
            ("2GiB", 2 << 30),
            ("1tb", 1 << 40),
            ("16777215T", 16777215 << 40),
        ] {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "2X", "2MM", " 2M", "99999999999999999999", "16777216T"] {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_without_rounding() {
        for text in ["2G", "1536M", "4097", "0", "3T"] {
            assert_eq!(text.parse::<MemorySize>().unwrap().to_string(), text);
        }
    }
}
