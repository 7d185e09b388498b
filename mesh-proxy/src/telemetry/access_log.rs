//! The access log: Istio's default text line or JSON object, or the user's `accessLogFormat`.

mod format;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use mesh_core::record::{Flag, RequestRecord, Sink};
use mesh_core::snapshot::ProxyPlan;

pub use format::{Format, FormatError};
pub use writer::LineWriter;

/// The access log of a process. Off until [`AccessLog::configure`] turns it on, as `accessLogFile` is empty by default.
pub struct AccessLog {
    format: ArcSwapOption<Format>,
    /// Connections that no listener takes are logged.
    listeners: AtomicBool,
    writer: LineWriter,
}

impl AccessLog {
    /// A log that writes to this writer.
    pub fn new(writer: LineWriter) -> Self {
        Self { format: ArcSwapOption::empty(), listeners: AtomicBool::new(true), writer }
    }

    /// Takes over `accessLogFile`, `accessLogEncoding` and `accessLogFormat`.
    ///
    /// # Errors
    /// The format does not parse; the one before stays in force.
    pub fn configure(&self, plan: &ProxyPlan) -> Result<(), FormatError> {
        let format = match (plan.access_log, plan.access_log_json, plan.access_log_format.as_deref()) {
            (false, ..) => None,
            (true, false, None) => Some(Format::istio_text()),
            (true, true, None) => Some(Format::istio_json()),
            (true, false, Some(text)) => Some(Format::text(text)?),
            (true, true, Some(json)) => Some(Format::json(json)?),
        };
        self.format.store(format.map(Arc::new));
        self.listeners.store(plan.listener_log, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until every line is written, a second at most: for the end of a process.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Lines that were dropped because the reader of the log is slower than the traffic.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }
}

impl Sink for AccessLog {
    fn record(&self, record: &RequestRecord) {
        let no_listener = || record.http.is_none() && record.cx.flags.load(Ordering::Relaxed) & Flag::Nr as u32 != 0;
        if !self.listeners.load(Ordering::Relaxed) && no_listener() {
            return;
        }
        if let Some(format) = &*self.format.load() {
            let mut line = Vec::with_capacity(512);
            format.write(record, &mut line);
            self.writer.send(&line);
        }
    }
}
