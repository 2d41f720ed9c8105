//! Times: relative for people at a terminal, as they are (RFC 3339) otherwise.

use super::terminal;
use jiff::Timestamp;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;

/// A time of the server: "3 min ago" or "in 2 h" on a terminal. A text that is no time stays as it is.
pub(super) fn when(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(at) if terminal::size().is_some() => relative(at.as_second() - Timestamp::now().as_second(), time),
        Ok(_) | Err(_) => time.to_owned(),
    }
}

/// `seconds` from now to `time`. More than four weeks away it is the day.
fn relative(seconds: i64, time: &str) -> String {
    let (amount, is_past) = (seconds.abs(), seconds <= 0);
    let text = match amount {
        ..5 => return "now".to_owned(),
        5..MINUTE_S => format!("{amount} s"),
        MINUTE_S..HOUR_S => format!("{} min", amount / MINUTE_S),
        HOUR_S..DAY_S => format!("{} h", amount / HOUR_S),
        DAY_S..=2_419_200 if amount < 2 * DAY_S => "1 day".to_owned(),
        DAY_S..=2_419_200 => format!("{} days", amount / DAY_S),
        _ => return time.split('T').next().unwrap_or(time).to_owned(),
    };
    if is_past { format!("{text} ago") } else { format!("in {text}") }
}

/// The time from `start` to `time` as `+12.3 s` or `+4 min 5 s`; nothing if one is no time.
pub(super) fn since(start: &str, time: &str) -> String {
    let (Ok(start), Ok(time)) = (start.parse::<Timestamp>(), time.parse::<Timestamp>()) else { return String::new() };
    let millis = (time.as_millisecond() - start.as_millisecond()).max(0);
    match millis / 1_000 {
        seconds @ ..MINUTE_S => format!("+{seconds}.{} s", millis % 1_000 / 100),
        seconds @ MINUTE_S..HOUR_S => format!("+{} min {} s", seconds / MINUTE_S, seconds % MINUTE_S),
        seconds => format!("+{} h {} min", seconds / HOUR_S, seconds % HOUR_S / MINUTE_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_up_to_four_weeks() {
        for (seconds, expected) in [
            (0, "now"),
            (-4, "now"),
            (-59, "59 s ago"),
            (-180, "3 min ago"),
            (-7_199, "1 h ago"),
            (-90_000, "1 day ago"),
            (-2_419_200, "28 days ago"),
            (-2_419_201, "2026-01-31"),
            (300, "in 5 min"),
            (200_000, "in 2 days"),
        ] {
            assert_eq!(relative(seconds, "2026-01-31T08:00:00.123Z"), expected, "{seconds}");
        }
    }

    #[test]
    fn durations_since_the_start() {
        let start = "2026-01-31T08:00:00.500Z";
        for (time, expected) in [
            ("2026-01-31T08:00:00.500Z", "+0.0 s"),
            ("2026-01-31T08:00:12.849Z", "+12.3 s"),
            ("2026-01-31T08:04:06Z", "+4 min 5 s"),
            ("2026-01-31T10:03:06Z", "+2 h 3 min"),
            ("yesterday", ""),
        ] {
            assert_eq!(since(start, time), expected, "{time}");
        }
    }
}
