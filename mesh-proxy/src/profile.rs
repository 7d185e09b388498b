//! CPU and heap profiles of this process in pprof's format, for the admin port of the programs.
//!
//! Off unless the program is told (`--profiling`). Profiles name functions as far as the program's symbol table does, and
//! hold addresses, mappings and build ids, with which a copy of the program that has more symbols names the rest.

mod cpu;
mod encode;
// An allocator can't be written without it; it hands everything on to the one that it wraps.
#[allow(unsafe_code)]
mod heap;
mod image;
mod proto;

use std::io;
use std::io::Write;
use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::sync::Semaphore;

use crate::admin::{NotTaken, Profiles, Taking};

pub use heap::Sampled;

/// Takes profiles, one at a time.
pub(crate) struct Profiler {
    turn: Semaphore,
}

impl Profiler {
    /// From now on a heap profile knows what is allocated.
    pub(crate) fn start() -> Self {
        heap::start();
        Self { turn: Semaphore::new(1) }
    }
}

impl Profiles for Profiler {
    fn cpu(&self, now: SystemTime, time: Duration) -> Taking<'_> {
        Box::pin(async move {
            let _turn = self.turn.try_acquire().map_err(|_| NotTaken::Busy)?;
            let running = cpu::Running::start().map_err(NotTaken::Failed)?;
            tokio::time::sleep(time).await;
            aside(move || packed(running.profile(now, time))).await
        })
    }

    fn heap(&self, now: SystemTime) -> Taking<'_> {
        Box::pin(async move {
            let _turn = self.turn.try_acquire().map_err(|_| NotTaken::Busy)?;
            aside(move || packed(heap::profile(now))).await
        })
    }
}

/// Names are looked up on another thread: reading the symbols takes a while, and configuration must not wait for it.
async fn aside(work: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) -> Result<Vec<u8>, NotTaken> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| NotTaken::Failed(error.to_string()))
}

fn packed(profile: encode::Profile<'_>) -> io::Result<Vec<u8>> {
    let message = profile.encode(&image::mappings(), image::names);
    image::forget_names();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&message.encode_to_vec())?;
    packed.finish()
}
