//! `meshctl authz check`: who may do what at a workload, as its policies say.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, Method};
use mesh_core::env::Env;
use mesh_core::explain::{Caller, ExplainRequest, Explainer, Explanation, From};
use mesh_core::model::Workload;
use mesh_core::world::World;
use mesh_policy::judge::Judge;
use mesh_proxy::net::HostEnv;
use serde::Serialize;

use super::table::Table;
use super::{Outcome, apply, explain};

/// Arguments of `authz`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The policies of a workload, and whether each caller may ask it for each method and path that they name.
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// `NAME[.NAMESPACE]` of the Deployment or Pod that is asked.
    workload: String,
    /// Manifests; without any, the running mesh is asked.
    paths: Vec<String>,
    /// Methods that are tried; by default those that the policies name, and GET.
    #[arg(long, value_name = "METHOD")]
    method: Vec<Method>,
    /// Paths that are tried; by default those that the policies name, and /.
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: apply::Output,
}

/// One question and its answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    from: String,
    method: String,
    path: String,
    allowed: bool,
    /// Status for who is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The rule that allows, or the nearest one and what it missed.
    why: String,
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    let What::Check(args) = &args.what;
    let offline = explain::world(mesh, &args.paths)?;
    let world = &offline.inputs.world;
    let workload = find(world, &args.workload)?;
    let Some((host, port)) = address(world, &workload) else {
        return Err(format!("no service with an HTTP port selects {}", args.workload));
    };
    let named = named(world, &workload);
    let methods = if args.method.is_empty() { named.0 } else { args.method.clone() };
    let paths = if args.path.is_empty() { named.1 } else { args.path.clone() };
    let explainer = Explainer::new(world).judged_by(Arc::new(Judge::at(HostEnv.now()))).towards(workload.uid.clone());
    let answers = asked(&explainer, &callers(world), (&methods, &paths), &format!("http://{host}:{port}"))?;
    match args.output {
        apply::Output::Json => super::print_json(&answers),
        apply::Output::Text => {
            let mut table = Table::new(["FROM", "METHOD", "PATH", "ALLOWED", "WHY"]);
            let row = |a: &Answer| {
                let allowed = match (a.allowed, a.status) {
                    (true, _) => "yes".to_owned(),
                    (false, Some(status)) => format!("no, {status}"),
                    (false, None) => "no".to_owned(),
                };
                vec![a.from.clone(), a.method.clone(), a.path.clone(), allowed, a.why.clone()]
            };
            answers.iter().map(row).for_each(|cells| table.row(cells));
            super::print(&table.text());
            Ok(0)
        }
    }
}

/// Every caller, method and path.
fn asked(
    explainer: &Explainer<'_>,
    callers: &[String],
    (methods, paths): (&[Method], &[String]),
    at: &str,
) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    for from in callers {
        for method in methods {
            for path in paths {
                let request = ExplainRequest {
                    from: From::Workload(from.clone()),
                    method: method.clone(),
                    url: format!("{at}{path}"),
                    headers: HeaderMap::new(),
                    claims: None,
                    caller: Caller::default(),
                };
                answers.push(answer(from.clone(), method, path, &explainer.explain(&request)?));
            }
        }
    }
    Ok(answers)
}

fn find(world: &World, name: &str) -> Result<Arc<Workload>, String> {
    let (name, namespace) = name.split_once('.').map_or((name, None), |(n, ns)| (n, Some(ns)));
    let is = |w: &&Arc<Workload>| {
        (*w.workload_name == *name || *w.name == *name) && namespace.is_none_or(|n| *n == *w.namespace)
    };
    world.workloads().iter().find(is).cloned().ok_or_else(|| format!("there is no workload {name}"))
}

/// How callers reach a workload: the first HTTP port of a service that selects it.
fn address(world: &World, workload: &Workload) -> Option<(Arc<str>, u16)> {
    let services = world.services().iter().filter(|s| s.selects(workload));
    let mut ports = services.flat_map(|s| s.ports.iter().map(move |p| (s.hostname.clone(), p)));
    ports.find(|(_, p)| p.protocol.is_http()).map(|(host, p)| (host, p.number))
}

/// One workload of each service account.
fn callers(world: &World) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let own = |w: &&Arc<Workload>| seen.insert((w.namespace.clone(), w.service_account.clone()));
    world.workloads().iter().filter(own).map(|w| format!("{}.{}", w.workload_name, w.namespace)).collect()
}

/// Methods and paths that the policies of a workload name, patterns with something in place of their stars.
fn named(world: &World, workload: &Workload) -> (Vec<Method>, Vec<String>) {
    let (mut methods, mut paths) = (BTreeSet::from(["GET".to_owned()]), BTreeSet::from(["/".to_owned()]));
    let own = mesh_core::attach::Workload::new(world.root_namespace(), &workload.namespace, &workload.labels);
    for policy in own.policies(world.authorization_policies()) {
        let operations =
            policy.spec.rules.iter().flat_map(|r| r.to.iter().flatten()).filter_map(|t| t.operation.as_ref());
        for o in operations {
            methods.extend(o.methods.iter().chain(&o.not_methods).filter(|m| !m.contains('*')).cloned());
            let filled = |p: &String| p.replace("{**}", "x").replace("{*}", "x").replace('*', "x");
            paths.extend(o.paths.iter().chain(&o.not_paths).map(filled).filter(|p| p.starts_with('/')));
        }
    }
    let methods = methods.iter().filter_map(|m| Method::try_from(m.as_str()).ok());
    (methods.collect(), paths.into_iter().collect())
}

fn answer(from: String, method: &Method, path: &str, explanation: &Explanation) -> Answer {
    let hop = explanation.hops.last();
    let lines = hop.into_iter().flat_map(|h| &h.policies).filter(|p| matches!(p.what, "authz" | "authn"));
    let matched = lines.clone().find(|p| p.decided.value.ends_with(" matched"));
    let miss = hop.and_then(|h| h.miss.as_ref()).map(|m| m.why.join("; "));
    let refused = hop.and_then(|h| h.reply.as_ref());
    let why = match (refused, matched, miss) {
        (Some(_), _, Some(miss)) => miss,
        (_, Some(rule), _) => rule.decided.value.clone(),
        (Some(reply), None, None) => reply.text.clone(),
        (None, None, _) => "no policy refuses it".to_owned(),
    };
    let status = explanation.outcome.status;
    Answer { from, method: method.to_string(), path: path.to_owned(), allowed: refused.is_none(), status, why }
}
