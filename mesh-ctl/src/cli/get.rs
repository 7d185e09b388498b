//! `meshctl get`.

use mesh_core::yaml::to_yaml;
use serde_json::{Value, json};

use super::Outcome;
use super::client::ask;
use super::table::Table;
use crate::control::Request;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, as `vs` or `virtualservice`; `all` for everything.
    kind: String,
    /// Name.
    #[arg(value_name = "NAME")]
    object: Option<String>,
    /// Namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// In every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How to print it.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Yaml,
    Json,
    /// `kind/name`, one a line.
    Name,
}

pub(super) fn run(mesh: &str, args: Args) -> Outcome {
    let (kind, name) = match (args.kind.split_once('/'), args.object) {
        (Some((kind, name)), None) => (kind.to_owned(), Some(name.to_owned())),
        (_, name) => (args.kind, name),
    };
    let namespace = match (args.all_namespaces || kind == "all", args.namespace, &name) {
        (_, Some(namespace), _) => Some(namespace),
        (true, None, None) => None,
        (true, None, Some(_)) | (false, None, _) => Some("default".to_owned()),
    };
    let single = name.is_some();
    let request = Request::Get { kind: kind.clone(), name, namespace: namespace.clone() };
    let objects: Vec<Value> = ask(mesh, &request)?;
    let text = match args.output {
        None if objects.is_empty() => {
            let place = namespace.map(|n| format!(" in namespace {n}; -A shows every namespace")).unwrap_or_default();
            eprintln!("No {kind} found{place}.");
            return Ok(0);
        }
        None => tables(&objects, namespace.is_none()),
        Some(Output::Name) => {
            objects.iter().map(|o| format!("{}/{}\n", kind_of(o), text(o, "/metadata/name"))).collect()
        }
        Some(how) => {
            let value = match (single, objects) {
                (true, mut objects) if objects.len() == 1 => objects.remove(0),
                (_, objects) => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            };
            match how {
                Output::Json => return super::print_json(&value),
                _ => to_yaml(&value),
            }
        }
    };
    super::print(&text);
    Ok(0)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn kind_of(object: &Value) -> String {
    let group = text(object, "/apiVersion").split_once('/').map_or("", |(g, _)| g);
    crate::kinds::long_name(&mesh_core::api::Kind::new(group, text(object, "/kind")))
}

/// One table for each kind.
fn tables(objects: &[Value], namespaces: bool) -> String {
    let mut out = String::new();
    for group in objects.chunk_by(|a, b| kind_of(a) == kind_of(b)) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&table(group, namespaces));
    }
    out
}

/// A column's header, and its cell for an object.
type Column = (&'static str, fn(&Value) -> String);

fn table(objects: &[Value], namespaces: bool) -> String {
    let kind = objects.first().map(|o| text(o, "/kind")).unwrap_or_default();
    let columns: &[Column] = match kind {
        "Pod" => &[
            ("READY", pod_ready),
            ("STATUS", pod_status),
            ("RESTARTS", pod_restarts),
            ("IP", |o| text(o, "/status/podIP").into()),
        ],
        "Deployment" => &[("READY", deployment_ready)],
        "Service" => &[
            ("TYPE", |o| non_empty(text(o, "/spec/type"), "ClusterIP")),
            ("CLUSTER-IP", |o| non_empty(text(o, "/spec/clusterIP"), "<none>")),
            ("PORT(S)", service_ports),
            ("ENDPOINTS", |o| list(o, "/status/endpoints")),
        ],
        "VirtualService" => &[("GATEWAYS", |o| list(o, "/spec/gateways")), ("HOSTS", |o| list(o, "/spec/hosts"))],
        "DestinationRule" => &[("HOST", |o| text(o, "/spec/host").into())],
        "ServiceEntry" => &[
            ("HOSTS", |o| list(o, "/spec/hosts")),
            ("LOCATION", |o| text(o, "/spec/location").into()),
            ("RESOLUTION", |o| text(o, "/spec/resolution").into()),
        ],
        "Gateway" => &[("SELECTOR", selector), ("SERVERS", servers)],
        "ConfigMap" => &[("DATA", |o| o["data"].as_object().map_or(0, serde_json::Map::len).to_string())],
        _ => &[("CREATED", |o| text(o, "/metadata/creationTimestamp").into())],
    };
    let mut header: Vec<String> = if namespaces { vec!["NAMESPACE".into()] } else { Vec::new() };
    header.push("NAME".into());
    header.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    let mut table = Table::with_header(header);
    for object in objects {
        let mut row = if namespaces { vec![text(object, "/metadata/namespace").to_owned()] } else { Vec::new() };
        row.push(text(object, "/metadata/name").to_owned());
        row.extend(columns.iter().map(|(_, cell)| cell(object)));
        table.row(row);
    }
    table.text()
}

fn non_empty(text: &str, or: &str) -> String {
    if text.is_empty() { or.into() } else { text.into() }
}

/// A list as kubectl prints it: `["a","b"]`.
fn list(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).filter(|v| v.is_array()).map(ToString::to_string).unwrap_or_default()
}

fn pod_ready(o: &Value) -> String {
    let all = o["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = all.iter().filter(|c| c["ready"] == true).count();
    format!("{ready}/{}", all.len())
}

fn pod_status(o: &Value) -> String {
    match text(o, "/status/reason") {
        "" => text(o, "/status/phase").to_owned(),
        why => format!("{}: {why}", text(o, "/status/phase")),
    }
}

fn pod_restarts(o: &Value) -> String {
    let all = o["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|c| c["restartCount"].as_u64()).sum::<u64>().to_string()
}

fn deployment_ready(o: &Value) -> String {
    let wanted = o["spec"]["replicas"].as_u64().unwrap_or(1);
    format!("{}/{wanted}", o["status"]["readyReplicas"].as_u64().unwrap_or(0))
}

fn service_ports(o: &Value) -> String {
    let one = |p: &Value| {
        let node = p["nodePort"].as_u64().map(|n| format!(":{n}")).unwrap_or_default();
        format!("{}{node}/{}", p["port"], non_empty(text(p, "/protocol"), "TCP"))
    };
    o["spec"]["ports"].as_array().map(|ports| ports.iter().map(one).collect::<Vec<_>>().join(",")).unwrap_or_default()
}

fn selector(o: &Value) -> String {
    let labels = o["spec"]["selector"].as_object().into_iter().flatten();
    labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

fn servers(o: &Value) -> String {
    let one = |s: &Value| {
        let hosts: Vec<&str> = s["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{}/{} {}", s["port"]["number"], text(s, "/port/protocol"), hosts.join(" "))
    };
    o["spec"]["servers"].as_array().map(|all| all.iter().map(one).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_columns_of_their_kind() {
        let objects = [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"},
                   "spec": {"clusterIP": "10.96.1.2", "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
                   "status": {"endpoints": ["10.244.0.9"]}}),
            json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v", "namespace": "n"},
                   "spec": {"hosts": ["a"], "gateways": ["g"]}}),
        ];
        assert_eq!(
            tables(&objects, true),
            "NAMESPACE   NAME   TYPE        CLUSTER-IP   PORT(S)               ENDPOINTS\n\
             n           a      ClusterIP   10.96.1.2    80:30080/TCP,53/UDP   [\"10.244.0.9\"]\n\
             \n\
             NAMESPACE   NAME   GATEWAYS   HOSTS\n\
             n           v      [\"g\"]      [\"a\"]\n"
        );
    }
}
