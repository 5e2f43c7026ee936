//! Whether this clock can be right. Challenges and tokens do not depend on it; certificates, rotation dates and the
//! times on the trail do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign::audit;
use countersign::client::Dated;
use countersign::protocol::UnixTime;
use countersign::store::Listing;
use time::OffsetDateTime;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::finding::Findings;
use super::store::newest;
use crate::home::Home;
use crate::show;

/// Clocks that follow a time server differ by less than this.
const SLACK: Duration = Duration::from_secs(5);

/// RFC 9110, section 5.6.7.
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

const MEND: &str = "timedatectl set-ntp true   (or set it by hand: date -u -s 'YYYY-MM-DD HH:MM:SS')";

pub(super) fn check(home: &Home, listing: Option<&Listing>, findings: &mut Findings) {
    let behind = behind(home, listing);
    if behind.is_empty() {
        let now = shown(SystemTime::now());
        findings.ok("clock", format!("{now} UTC is later than everything that is known to have happened"));
    }
    for what in behind {
        findings.fail("clock", what, MEND);
    }
}

/// What happened after the time that this clock shows, a line each.
pub(crate) fn behind(home: &Home, listing: Option<&Listing>) -> Vec<String> {
    let now = SystemTime::now();
    let program = std::env::current_exe().and_then(|program| program.metadata()?.modified()).ok();
    let last = audit::tail(&home.audit_directory(), 1).ok().and_then(|(entries, _)| {
        let time = OffsetDateTime::parse(&entries.last()?.time, &Rfc3339).ok()?;
        Some(SystemTime::from(time))
    });
    let stored = listing.and_then(newest).map(|UnixTime(seconds)| UNIX_EPOCH + Duration::from_secs(seconds));
    let known = [
        (program, "this program was installed"),
        (stored, "the store was last changed"),
        (last, "the trail was last written"),
    ];
    let later =
        known.into_iter().filter_map(|(time, what)| Some((time.filter(|time| now + SLACK < *time)?, what)));
    later.map(|(time, what)| format!("this clock is behind: {what} {} from now", lead(time, now))).collect()
}

/// Compares with a peer's clock, whichever of the two is wrong.
pub(super) fn compare(name: &str, dated: &Dated, findings: &mut Findings) {
    let Ok(theirs) = PrimitiveDateTime::parse(&dated.text, HTTP_DATE) else {
        return findings.warn(
            "clock",
            format!("{name} answers with a date that is none: {}", dated.text),
            "ask its operator",
        );
    };
    let theirs = SystemTime::from(theirs.assume_utc());
    // The field has whole seconds, cut off.
    if dated.before + SLACK < theirs {
        let what = format!(
            "{name}'s clock is {} ahead of this one; one of them is wrong",
            lead(theirs, dated.before)
        );
        findings.warn("clock", what, MEND);
    } else if theirs + SLACK + Duration::from_secs(1) < dated.after {
        let what =
            format!("{name}'s clock is {} behind this one; one of them is wrong", lead(dated.after, theirs));
        findings.warn("clock", what, MEND);
    } else {
        findings.ok("clock", format!("{name}'s clock agrees with this one"));
    }
}

fn lead(later: SystemTime, earlier: SystemTime) -> String {
    let unix = |time: SystemTime| UnixTime(time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()));
    show::age(unix(earlier), unix(later))
}

fn shown(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from(time).format(format).unwrap_or_default()
}
