//! The local mesh end to end: real namespaces, rules, mounts and processes; then the same in explicit mode.
//!
//! Each scenario is a process of its own (this program again), because a mesh must be started by a process that has one
//! thread, and gives up root. The programs inside pods are this program too.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod cleanup;
mod node;
mod programs;

use std::process::{Command, ExitCode, Stdio};

use mesh_ctl::localmesh::{Config, Launched, Mode, Status, launch, probe};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["program", ref rest @ ..] => programs::run(rest),
        ["scenario", name, mode] => scenario(name, mode_of(mode)),
        ["probe"] => match probe() {
            Ok(()) => ExitCode::SUCCESS,
            Err(refused) => {
                println!("{:?}: {refused}", refused.step);
                ExitCode::from(2)
            }
        },
        _ => all(&words),
    }
}

fn mode_of(text: &str) -> Mode {
    if text == "explicit" { Mode::Explicit } else { Mode::Namespaces }
}

/// Runs every scenario, in namespaces only where the probe allows it.
fn all(words: &[&str]) -> ExitCode {
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    if words.contains(&"--list")
        || (!filters.is_empty() && !filters.iter().any(|filter| "localmesh".contains(**filter)))
    {
        return ExitCode::SUCCESS;
    }
    let probe = this("probe", &[]).output().unwrap();
    let mut modes = vec!["explicit"];
    if probe.status.success() {
        modes.insert(0, "namespaces");
    } else {
        let reason = String::from_utf8_lossy(&probe.stdout).into_owned();
        assert!(probe.status.code() == Some(2) && reason.contains("explicit mode is used"), "probe: {reason}");
        println!("skipped in namespaces: {}", reason.trim());
    }
    for mode in modes {
        let status = this("scenario", &["pods", mode]).status().unwrap();
        assert!(status.success(), "scenario pods in mode {mode}: {status}");
        println!("pods, {mode}: ok");
        for victim in ["parent", "node"] {
            cleanup::kill(victim, mode);
            println!("kill -9 of the {victim}, {mode}: ok");
        }
        cleanup::terminated(mode);
        println!("SIGTERM, {mode}: ok");
        cleanup::zygote_killed(mode);
        println!("kill -9 of the zygote, {mode}: ok");
        cleanup::detached(mode);
        println!("detached, {mode}: ok");
        cleanup::name_taken(mode);
        println!("name taken, {mode}: ok");
    }
    println!("test result: ok");
    ExitCode::SUCCESS
}

/// Set for scenarios when uid 0 is an ordinary user outside of the namespace in which this test was started.
const ROOT_OF_A_NAMESPACE: &str = "MESH_TEST_ROOT_OF_A_NAMESPACE";

/// This program in another part.
fn this(part: &str, rest: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if map.split_whitespace().take(2).ne(["0", "0"]) {
        command.env(ROOT_OF_A_NAMESPACE, "1");
    }
    command.arg(part).args(rest).stdin(Stdio::null());
    command
}

/// The name of a mesh that no other run of this test uses at the same time.
fn mesh_name(scenario: &str) -> String {
    std::env::var("MESH_TEST_NAME").unwrap_or_else(|_| format!("test-{scenario}-{}", std::process::id()))
}

fn scenario(name: &str, mode: Mode) -> ExitCode {
    let config = Config { name: mesh_name(name), mode, detach: name == "detached", resolver: None };
    let show = |status: &Status| println!("{}", serde_json::to_string(status).unwrap());
    let launched = match name {
        "pods" => launch(&config, show, node::pods),
        _ => launch(&config, show, node::hold),
    };
    match launched {
        Ok(Launched::Ended(code)) => ExitCode::from(code),
        Ok(Launched::Detached(_)) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::from(3)
        }
    }
}
