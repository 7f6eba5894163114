//! Numbers for people.

/// With three digits that mean something, thousands apart: `5,958`, `71.3`, `0.42`.
pub fn short(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut out = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + &rest
}

/// Seconds, roughly: `40 s`, `7 min`, `2 h 10 min`.
pub fn rough(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let shown = [0.0, 0.4213, 9.876, 71.34, 958.4, 5958.0, 1_234_567.8].map(short);
        assert_eq!(shown, ["0.00", "0.42", "9.88", "71.3", "958", "5,958", "1,234,568"]);
        assert_eq!([1.4, 99.0, 100.0, 5999.0, 7800.0].map(rough), ["1 s", "99 s", "2 min", "100 min", "2 h 10 min"]);
    }
}
