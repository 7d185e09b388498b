//! The command line. Exit codes: 0 done, 1 failed, 64 wrong usage, 65 a file can't be read (`analyze`), 79 `analyze` found
//! something; `exec` ends with the code of its command.

mod admin;
mod analyze;
mod apply;
mod authz;
mod certs;
mod client;
mod delete;
mod down;
mod exec;
mod explain;
mod get;
mod load;
mod logs;
mod mtls;
mod offline;
mod patch;
mod port_forward;
mod proxy_config;
mod restart;
mod status;
mod table;
mod test;
mod top;
mod up;
mod validate;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// A service mesh that reads Istio's own resources and runs anywhere.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, arg_required_else_help = true)]
struct Cli {
    /// Name of the mesh; not needed where only one runs.
    #[arg(long, visible_alias = "mesh", global = true, env = "MESH_NAME")]
    name: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a mesh on this machine from manifests.
    Up(up::Args),
    /// End a running mesh.
    Down,
    /// Show each workload of a running mesh, and the mesh's URLs.
    #[command(alias = "proxy-status", alias = "ps")]
    Status(status::Args),
    /// Show what each workload does: requests, latency, connections, processor time and memory.
    Top(top::Args),
    /// Create or change objects; returns when every proxy has them in force.
    Apply(apply::Args),
    /// Delete objects; returns when no proxy has them in force.
    Delete(delete::Args),
    /// Show objects.
    Get(get::Args),
    /// Change one object with a patch.
    Patch(patch::Args),
    /// Run a command beside a workload's application.
    Exec(exec::Args),
    /// Show the output of a workload.
    Logs(logs::Args),
    /// Replace the pods of a workload without losing requests.
    Restart(restart::Args),
    /// Open a port on this machine that leads to a service or workload.
    PortForward(port_forward::Args),
    /// Show what a running proxy has in force, out of its own config dump.
    #[command(alias = "pc")]
    ProxyConfig(proxy_config::Args),
    /// Show the mesh's certificates: who has which identity, and until when.
    Certs(certs::Args),
    /// Show who speaks to whom with mutual TLS, and who still in plaintext.
    Mtls(mtls::Args),
    /// Show who may do what at a workload; needs no running mesh.
    Authz(authz::Args),
    /// Check files one by one; needs no running mesh.
    #[command(alias = "v")]
    Validate(validate::Args),
    /// Check files together; needs no running mesh.
    Analyze(analyze::Args),
    /// Show what decides a request, hop by hop; needs no running mesh.
    Explain(explain::Args),
    /// Put load on a URL and show answers and latencies; needs no running mesh.
    Load(Box<load::Args>),
    /// Run request cases against files; needs no running mesh.
    Test(test::Args),
    /// Print completions for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What a verb ends with: an exit code, or what went wrong and what to do about it.
type Outcome = Result<u8, String>;

/// Name of a mesh that was given none.
const DEFAULT_NAME: &str = "mesh";

/// Wrong usage, as the shell convention (and istioctl) has it.
const USAGE: u8 = 64;

/// Runs `meshctl` with the arguments of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse_from(load::dashes(std::env::args_os())) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way, too. Nothing is left to do if the terminal is gone.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { USAGE } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("Error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Outcome {
    let mesh = &match (&cli.verb, cli.name) {
        (_, Some(name)) => name,
        // Load is sent as well where several meshes run: inside their pods.
        (Verb::Up(_) | Verb::Load(_), None) => DEFAULT_NAME.to_owned(),
        (_, None) => client::the_one()?,
    };
    match cli.verb {
        Verb::Up(args) => up::run(mesh, args),
        Verb::Down => down::run(mesh),
        Verb::Status(args) => status::run(mesh, &args),
        Verb::Top(args) => top::run(mesh, &args),
        Verb::Apply(args) => apply::run(mesh, args),
        Verb::Delete(args) => delete::run(mesh, args),
        Verb::Get(args) => get::run(mesh, args),
        Verb::Patch(args) => patch::run(mesh, args),
        Verb::Exec(args) => exec::run(mesh, args),
        Verb::Logs(args) => logs::run(mesh, args),
        Verb::Restart(args) => restart::run(mesh, args),
        Verb::PortForward(args) => port_forward::run(mesh, &args),
        Verb::ProxyConfig(args) => proxy_config::run(mesh, &args),
        Verb::Certs(args) => certs::run(mesh, &args),
        Verb::Mtls(args) => mtls::run(mesh, &args),
        Verb::Authz(args) => authz::run(mesh, &args),
        Verb::Validate(args) => validate::run(&args),
        Verb::Analyze(args) => analyze::run(&args),
        Verb::Explain(args) => explain::run(mesh, &args),
        Verb::Load(args) => load::run(*args),
        Verb::Test(args) => test::run(&args),
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "meshctl", &mut std::io::stdout());
            Ok(0)
        }
    }
}

/// Prints to standard output; a reader that has gone (`| head`) is not an error.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|e| e.to_string())?;
    print(&format!("{text}\n"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
