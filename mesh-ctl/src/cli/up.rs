//! `meshctl up`.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Outcome;
use crate::localmesh::{self, Config, Launched, Mode, Status, launch};
use crate::manifest;
use crate::node::inject::Inject;
use crate::node::{self, GATEWAY_PORTS, Settings};

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Manifests: files, directories, - for standard input.
    #[arg(required = true)]
    paths: Vec<String>,
    /// Return once the mesh is ready, and leave it running.
    #[arg(long)]
    detach: bool,
    /// Files with image maps, asked before those among the manifests.
    #[arg(long, value_name = "FILE")]
    images: Vec<String>,
    /// Which pods get a sidecar.
    #[arg(long, value_enum, default_value_t)]
    inject: Inject,
    /// Host port of a gateway port; 0 picks a free one.
    #[arg(long, value_name = "PORT=HOST_PORT", value_parser = port_pair)]
    gateway_port: Vec<(u16, u16)>,
    /// How pods are kept apart.
    #[arg(long, value_enum, default_value_t)]
    mode: ModeChoice,
    /// DNS server that is asked for names outside the mesh, instead of the host's resolver.
    #[arg(long, value_name = "ADDRESS:PORT")]
    resolver: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum ModeChoice {
    /// Namespaces, or the explicit mode where the kernel refuses them.
    #[default]
    Auto,
    /// Network namespaces with transparent capture.
    Namespaces,
    /// Plain processes that are told to use the sidecar as an HTTP proxy.
    Explicit,
}

fn port_pair(text: &str) -> Result<(u16, u16), String> {
    let pair = text.split_once('=').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    pair.ok_or_else(|| format!("{text:?} is not PORT=HOST_PORT, like 80=8080"))
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let mode = choose(args.mode)?;
    let settings = settings(mesh, &args)?;
    let config = Config { name: mesh.to_owned(), mode, detach: args.detach, resolver: args.resolver };
    let launched = launch(&config, show, move |node| node::main(node, settings)).map_err(|e| e.to_string())?;
    match launched {
        Launched::Detached(_) => Ok(0),
        Launched::Ended(code) => Ok(code),
    }
}

fn choose(choice: ModeChoice) -> Result<Mode, String> {
    match (choice, localmesh::probe()) {
        (ModeChoice::Explicit, _) => Ok(Mode::Explicit),
        (_, Ok(())) => Ok(Mode::Namespaces),
        (ModeChoice::Namespaces, Err(refused)) => Err(refused.to_string()),
        (ModeChoice::Auto, Err(refused)) => {
            eprintln!("{refused}");
            eprintln!(
                "Going on in explicit mode: applications reach the mesh through http_proxy, nothing is captured."
            );
            Ok(Mode::Explicit)
        }
    }
}

fn settings(mesh: &str, args: &Args) -> Result<Settings, String> {
    let files = manifest::load(&args.paths)?;
    let images = manifest::load(&args.images)?;
    let own = env::current_exe().map_err(|e| format!("the path of meshctl: {e}"))?;
    let programs = own.parent().map(PathBuf::from).unwrap_or_default();
    for program in ["mesh-proxy", "mesh-gateway"] {
        if !programs.join(program).is_file() {
            let folder = programs.display();
            return Err(format!(
                "{program} is not beside meshctl in {folder}; build it with: cargo build --profile quick -p mesh-proxy"
            ));
        }
    }
    let mut gateway_ports = BTreeMap::from(GATEWAY_PORTS);
    gateway_ports.extend(args.gateway_port.iter().copied());
    Ok(Settings {
        name: mesh.to_owned(),
        files,
        images,
        inject: args.inject,
        gateway_ports,
        programs,
        path: env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into()),
        home: env::var("HOME").unwrap_or_else(|_| "/".into()),
    })
}

fn show(status: &Status) {
    match status {
        Status::Progress(line) => eprintln!("{line}"),
        Status::Ready(text) => super::print(&format!("{text}\n")),
        // `launch` returns it as its error.
        Status::Failed(_) => {}
    }
}
