//! `meshctl explain request`: what decides a request, hop by hop. `meshctl explain config`: what is in force at a proxy.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_core::env::Env;
use mesh_core::explain::{Caller, ExplainRequest, Explainer, From, effective};
use mesh_core::matching::Claims;
use mesh_policy::judge::Judge;
use mesh_proxy::net::HostEnv;
use serde_json::Value;

use super::client::ask;
use super::{Outcome, offline};
use crate::control::Request;
use crate::manifest;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A request: every hop with the object, field, file and line that decides.
    Request(RequestArgs),
    /// The effective configuration of a workload's proxy: every value with who decided it, defaults included.
    Config(ConfigArgs),
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// `NAME[.NAMESPACE]` of a Deployment or Pod; of a gateway with --gateway.
    workload: String,
    /// Manifests; without any, the running mesh is asked.
    paths: Vec<String>,
    /// The workload is a gateway, or this is the name of a Gateway object.
    #[arg(long)]
    gateway: bool,
    /// Only these parts: settings, policies, listener, virtualHost, route, cluster; can be given again.
    #[arg(long, value_name = "PART", value_parser = ["settings", "policies", "listener", "virtualHost", "route", "cluster"])]
    only: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: super::apply::Output,
}

#[derive(Debug, clap::Args)]
struct RequestArgs {
    /// Manifests; without any, the running mesh is asked.
    paths: Vec<String>,
    /// Workload that sends it: `NAME[.NAMESPACE]` of a Deployment or Pod.
    #[arg(long, required_unless_present_any = ["gateway", "to"], conflicts_with_all = ["gateway", "to"])]
    from: Option<String>,
    /// Gateway that a client outside sends it to: `NAME[.NAMESPACE]` of its workload, or of a Gateway object.
    #[arg(long, conflicts_with = "to")]
    gateway: Option<String>,
    /// Workload that a client without a proxy dials itself, at the port of the URL.
    #[arg(long)]
    to: Option<String>,
    /// Name in the certificate of such a client: `spiffe://cluster.local/ns/default/sa/sleep`. Without, it shows none.
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    identity: Option<Arc<str>>,
    /// Address of such a client.
    #[arg(long, value_name = "IP", conflicts_with = "from")]
    address: Option<IpAddr>,
    /// Address of the load balancer that says so with a PROXY header.
    #[arg(long, value_name = "IP", requires = "address")]
    through: Option<IpAddr>,
    /// Method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// URL, as `http://reviews:9080/reviews/1`.
    #[arg(long)]
    url: String,
    /// A header, as `end-user: jason`; can be given again.
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Claims of the user's token, as JSON: '{"groups": ["admin"]}'.
    #[arg(long, value_parser = claims)]
    claims: Option<Claims>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: super::apply::Output,
}

fn claims(text: &str) -> Result<Claims, String> {
    let wrong = |e| format!("{text:?} is no JSON object ({e}); write it as '{{\"groups\": [\"admin\"]}}'");
    serde_json::from_str(text).map(Claims::new).map_err(wrong)
}

pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{text:?} is not a header; write it as 'end-user: jason'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    match &args.what {
        What::Request(args) => request(mesh, args),
        What::Config(args) => config(mesh, args),
    }
}

/// The files, or what a running mesh has in force.
pub(super) fn world(mesh: &str, paths: &[String]) -> Result<offline::Offline, String> {
    let offline = if paths.is_empty() { running(mesh)? } else { offline::read(&manifest::load(paths)?, "default") };
    for report in offline.reports.iter().filter(|r| r.level == mesh_core::report::Level::Error) {
        eprintln!("left out: {report}");
    }
    Ok(offline)
}

fn config(mesh: &str, args: &ConfigArgs) -> Outcome {
    let of = if args.gateway { From::Gateway(args.workload.clone()) } else { From::Workload(args.workload.clone()) };
    let mut effective = effective(&world(mesh, &args.paths)?.inputs.world, &of)?;
    if !args.only.is_empty() {
        effective.items.retain(|i| args.only.iter().any(|o| o == i.section));
    }
    match args.output {
        super::apply::Output::Json => super::print_json(&effective),
        super::apply::Output::Text => {
            super::print(&effective.to_string());
            Ok(0)
        }
    }
}

fn request(mesh: &str, args: &RequestArgs) -> Outcome {
    let offline = world(mesh, &args.paths)?;
    let method = Method::try_from(args.method.as_str()).map_err(|_| format!("{:?} is no HTTP method", args.method))?;
    let from = match (&args.from, &args.gateway, &args.to) {
        (Some(workload), ..) => From::Workload(workload.clone()),
        (None, Some(gateway), _) => From::Gateway(gateway.clone()),
        (None, None, Some(workload)) => From::Direct(workload.clone()),
        (None, None, None) => return Err("give --from WORKLOAD, --gateway NAME or --to WORKLOAD".into()),
    };
    let caller = Caller { address: args.address, through: args.through, name: args.identity.clone() };
    let mut headers = HeaderMap::new();
    for (name, value) in &args.headers {
        headers.append(name, value.clone());
    }
    let request = ExplainRequest { from, method, url: args.url.clone(), headers, claims: args.claims.clone(), caller };
    let judge = Arc::new(Judge::at(HostEnv.now()));
    let explanation = Explainer::new(&offline.inputs.world).judged_by(judge).explain(&request)?;
    match args.output {
        super::apply::Output::Json => super::print_json(&explanation),
        super::apply::Output::Text => {
            super::print(&explanation.to_string());
            Ok(0)
        }
    }
}

/// What a running mesh has in force.
fn running(mesh: &str) -> Result<offline::Offline, String> {
    let objects: Vec<crate::control::Live> = ask(mesh, &Request::Dump)?;
    let pods: Vec<Value> = ask(mesh, &Request::Get { kind: "pods".into(), name: None, namespace: None })?;
    let documents = objects.into_iter().map(crate::control::Live::into_document).collect();
    Ok(offline::of_documents(documents, Some(&offline::placements(&pods))))
}
