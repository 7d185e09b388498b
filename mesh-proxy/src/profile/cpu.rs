//! Where processor time goes: a signal every 10 ms of it, whichever thread is running, by the `pprof` crate.

use std::time::{Duration, SystemTime};

use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use super::encode::{Mapping, Profile, Stack};
use super::image;

/// Samples per second of processor time, as Go's.
const FREQUENCY: i32 = 100;
const PERIOD: Duration = Duration::from_millis(10);
/// Frames of the signal's handler are among the first ones.
const HANDLER: usize = 12;

/// A profile that is being taken; dropping it ends that.
pub(super) struct Running(ProfilerGuard<'static>);

impl Running {
    pub(super) fn start() -> Result<Self, String> {
        ProfilerGuardBuilder::default().frequency(FREQUENCY).build().map(Self).map_err(|e| e.to_string())
    }

    /// Ends it.
    pub(super) fn profile(self, at: SystemTime, lasted: Duration) -> Profile<'static> {
        let mappings = image::mappings();
        // Nothing is sampled is no error: a proxy may be idle.
        let report = self.0.report().build_unresolved().map(|report| report.data).unwrap_or_default();
        drop(self);
        let stacks = report.into_iter().map(|(stack, count)| {
            let addresses: Vec<usize> = stack.frames.iter().map(|frame| frame.ip().addr()).collect();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let time = i64::try_from(PERIOD.as_nanos()).unwrap_or(i64::MAX);
            Stack {
                addresses: interrupted(&addresses, &mappings).to_vec(),
                values: vec![count, count.saturating_mul(time)],
                thread: Some(String::from_utf8_lossy(&stack.thread_name[..stack.thread_name_length]).into_owned()),
            }
        });
        Profile {
            kinds: &[("samples", "count"), ("cpu", "nanoseconds")],
            default: "cpu",
            period: ("cpu", "nanoseconds", 10_000_000),
            at,
            lasted,
            stacks: stacks.collect(),
        }
    }
}

/// What the signal interrupted. Before it are the frames of its handler, which are the program's own, and the one by which
/// the kernel comes back from it, which is the C library's.
fn interrupted<'a>(addresses: &'a [usize], mappings: &[Mapping]) -> &'a [usize] {
    let is_own = |address: &usize| mappings.iter().any(|m| m.own && (m.start..m.end).contains(address));
    match addresses.iter().take(HANDLER).position(|address| !is_own(address)) {
        Some(return_) if return_ + 1 < addresses.len() => &addresses[return_ + 1..],
        _ => addresses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_is_not_part_of_a_stack() {
        let own = Mapping { start: 100, end: 200, offset: 0, file: String::new(), build_id: String::new(), own: true };
        let libc = Mapping { start: 500, end: 600, own: false, ..own.clone() };
        let all = [own, libc];
        for (stack, rest) in [
            (&[110, 120, 510, 130, 140][..], &[130, 140][..]),
            // It was interrupted in the C library.
            (&[110, 510, 520, 130], &[520, 130]),
            // A program that has everything in itself.
            (&[110, 120, 130], &[110, 120, 130]),
            (&[110, 510], &[110, 510]),
            (&[], &[]),
        ] {
            assert_eq!(interrupted(stack, &all), rest, "{stack:?}");
        }
    }
}
