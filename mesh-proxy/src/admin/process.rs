//! The metrics of a process that every Prometheus client has, out of `/proc`. Of an application that embeds the mesh they
//! are the application's.

use std::fmt::Write;

/// `USER_HZ`, in which the kernel tells times to programs: the same on every architecture that we build for.
const TICKS: f64 = 100.;

/// What is known of the process; a file that can't be read leaves its lines out.
#[derive(Clone, Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    start_time: Option<f64>,
    resident: Option<f64>,
    address_space: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

/// The lines for a scraper.
pub(super) fn metrics() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let boot = read("/proc/stat");
    let mut process =
        Process::of(&read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/self/limits"), &boot);
    // One of them is that of the listing itself.
    process.open_fds = std::fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
    process.text()
}

impl Process {
    fn of(stat: &str, status: &str, limits: &str, boot: &str) -> Self {
        // The name in parentheses may hold anything; the third field follows the last one.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let kib = |name: &str| Some(labelled(status, name)?.parse::<f64>().ok()? * 1024.);
        let booted = boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
            start_time: booted.zip(field(22)).map(|(booted, after)| booted + after / TICKS),
            resident: kib("VmRSS:"),
            address_space: kib("VmSize:"),
            threads: field(20),
            open_fds: None,
            max_fds: labelled(limits, "Max open files").and_then(|soft| soft.parse().ok()),
        }
    }

    fn text(&self) -> String {
        let Self { cpu_seconds, start_time, resident, address_space, threads, open_fds, max_fds } = self;
        let mut text = String::new();
        for (kind, name, value) in [
            ("counter", "process_cpu_seconds_total", cpu_seconds),
            ("gauge", "process_start_time_seconds", start_time),
            ("gauge", "process_resident_memory_bytes", resident),
            ("gauge", "process_virtual_memory_bytes", address_space),
            ("gauge", "process_threads", threads),
            ("gauge", "process_open_fds", open_fds),
            ("gauge", "process_max_fds", max_fds),
        ] {
            let Some(value) = value else { continue };
            writeln!(text, "# TYPE {name} {kind}\n{name} {value}").expect("invariant: a String takes all text");
        }
        text
    }
}

/// The first word after a label that begins a line.
fn labelled<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(label))?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 25 9 9 20 0 4 0 1200 99 5 18446744073709551615 1 1";
    const STATUS: &str = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t    12 kB\n";
    const LIMITS: &str =
        "Limit    Soft Limit    Hard Limit    Units\nMax open files            1024    4096    files\n";

    #[test]
    fn what_proc_says() {
        let read = Process::of(STAT, STATUS, LIMITS, "cpu 1 2\nbtime 1700000000\n");
        let told = Process {
            cpu_seconds: Some(1.75),
            start_time: Some(1_700_000_012.),
            resident: Some(12_288.),
            address_space: Some(2_097_152.),
            threads: Some(4.),
            open_fds: None,
            max_fds: Some(1024.),
        };
        assert_eq!(read, told);
        assert_eq!(Process::of("", "", "", ""), Process::default());
        assert_eq!(Process::of("7 (a) S 1", "VmRSS: x kB", "Max open files unlimited", ""), Process::default());
    }

    #[test]
    fn the_lines_of_this_process() {
        let text = metrics();
        for name in [
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_max_fds",
        ] {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
            let value: f64 = line.trim().parse().unwrap();
            assert!(value > 0. || name == "process_cpu_seconds_total", "{name}{line}");
        }
    }
}
