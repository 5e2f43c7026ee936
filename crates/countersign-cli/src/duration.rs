//! Spans of time on the command line: `90s`, `15m`, `36h`, `7d`.

use std::fmt;
use std::str::FromStr;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The longest one: ten years.
const MAX: u64 = 3650 * DAY;

/// A number of seconds, ten years at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) u64);

const NO_SPAN: &str = "a span of time is a whole number and a unit: 90s, 15m, 36h or 7d, at most 3650d";
const NO_SCHEDULE: &str = "`never`, or a whole number and a unit: 1s to 3650d, such as 90d";

impl Span {
    pub(crate) const fn days(days: u64) -> Self {
        Self(days * DAY)
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit = match text.chars().last() {
            Some('s') => 1,
            Some('m') => MINUTE,
            Some('h') => HOUR,
            Some('d') => DAY,
            _ => return Err(NO_SPAN),
        };
        let number = text.get(..text.len() - 1).unwrap_or_default();
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NO_SPAN);
        }
        let number: u64 = number.parse().map_err(|_| NO_SPAN)?;
        number.checked_mul(unit).filter(|seconds| *seconds <= MAX).map(Self).ok_or(NO_SPAN)
    }
}

/// In the greatest unit that leaves no rest.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')]
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit))
            .unwrap_or((1, 's'));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// How often keys are to be rotated: a span of at least a second, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Every(pub(crate) Option<Span>);

impl FromStr for Every {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self(None));
        }
        let span = text.parse::<Span>().ok().filter(|span| span.0 > 0).ok_or(NO_SCHEDULE)?;
        Ok(Self(Some(span)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown_in_their_greatest_unit() {
        for (text, seconds, shown) in [
            ("0s", 0, "0s"),
            ("90s", 90, "90s"),
            ("15m", 900, "15m"),
            ("120m", 7200, "2h"),
            ("36h", 129_600, "36h"),
            ("48h", 172_800, "2d"),
            ("007d", 604_800, "7d"),
            ("3650d", MAX, "3650d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0, span.to_string().as_str()), (seconds, shown), "{text}");
        }
        let most = format!("{}d", u64::MAX);
        for wrong in ["", "s", "d", "7", "7 d", "-1s", "+1s", "1.5h", "7D", "3651d", "7w", "１d", "7é", &most]
        {
            assert_eq!(wrong.parse::<Span>(), Err(NO_SPAN), "{wrong:?}");
        }
    }

    #[test]
    fn a_schedule_is_a_span_or_never() {
        assert_eq!("never".parse(), Ok(Every(None)));
        assert_eq!("90d".parse(), Ok(Every(Some(Span::days(90)))));
        for wrong in ["0s", "0d", "always", "Never", ""] {
            assert_eq!(wrong.parse::<Every>(), Err(NO_SCHEDULE), "{wrong:?}");
        }
    }
}
