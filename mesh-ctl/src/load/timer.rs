//! When the next request is due.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// Waits for a moment.
#[derive(Debug)]
pub enum Timer {
    /// By the runtime's clock, which ticks in milliseconds: what is due in between is sent in bursts.
    Coarse,
    /// By a timer of the kernel's, to some microseconds.
    Fine(AsyncFd<OwnedFd>),
}

impl Timer {
    /// The kernel's, or the runtime's where there are no more descriptors.
    pub fn fine() -> Self {
        let fd =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK);
        let watched = fd.map_err(io::Error::from).and_then(|fd| crate::localmesh::watch(fd, Interest::READABLE));
        watched.map_or(Self::Coarse, Self::Fine)
    }

    /// Waits until then.
    pub(super) async fn until(&self, at: Instant) {
        match self {
            Self::Coarse => sleep_until(at).await,
            Self::Fine(fd) => {
                let left = at.saturating_duration_since(Instant::now());
                // A timer that does not work is replaced by the runtime's; the rate stays.
                if !left.is_zero() && rings(fd, left).await.is_err() {
                    sleep_until(at).await;
                }
            }
        }
    }
}

async fn rings(fd: &AsyncFd<OwnedFd>, left: Duration) -> io::Result<()> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
    let once = Itimerspec { it_interval: zero, it_value };
    rustix::time::timerfd_settime(fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
    let mut times = [0; 8];
    fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut times)?)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not how late: a machine may be busy.
    #[tokio::test]
    async fn it_never_rings_too_early() {
        let timer = Timer::fine();
        assert!(matches!(timer, Timer::Fine(_)));
        for micros in [0, 1, 300, 2_000, 1_500] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.until(at).await;
            assert!(Instant::now() >= at, "{micros}");
        }
        timer.until(Instant::now() - Duration::from_secs(1)).await;
    }
}
