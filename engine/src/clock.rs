//! The clock of the kernel side, `CLOCK_BOOTTIME`, and the way to and from the
//! time of day.

use std::time::{Duration, SystemTime};

use rustix::time::ClockId;

/// Nanoseconds of `CLOCK_BOOTTIME`: since boot, with the time asleep.
#[must_use]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// The instant `after` from now.
#[must_use]
pub fn after(after: Duration) -> u64 {
    now().saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

/// The time of day of an instant, as both clocks stand now.
#[must_use]
pub fn time_of_day(instant: u64) -> SystemTime {
    let (now, today) = (now(), SystemTime::now());
    let apart = Duration::from_nanos(now.abs_diff(instant));
    let then = if instant < now {
        today.checked_sub(apart)
    } else {
        today.checked_add(apart)
    };
    // RFC 3339, as it is written, begins there.
    then.unwrap_or(today).max(SystemTime::UNIX_EPOCH)
}
