//! Servers of the Gateways that select a workload, by where they listen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::tls::{Terminating, downstream};
use super::{Place, Serving, Speaks};
use crate::api::{Gateway, Object, Port, Server, ServerTlsMode, ServerTlsSettings};
use crate::compile::Run;
use crate::compile::account::Ledger;
use crate::model::AppProtocol;
use crate::snapshot::Address;
use crate::world::covers;

/// Servers by where to listen; oldest first.
pub(super) fn servers<'a>(run: &mut Run<'a>) -> BTreeMap<Place, Vec<Serving<'a>>> {
    let mut out: BTreeMap<Place, Vec<Serving<'a>>> = BTreeMap::new();
    for gateway in run.world.gateways().iter() {
        let mut ledger = Ledger::new(gateway);
        let Gateway { servers, selector } = &gateway.spec;
        if !covers(selector, &run.client.labels) {
            ledger.inert("spec", "its selector does not pick this gateway workload");
            run.parts.push(Arc::new(ledger.notes));
            continue;
        }
        ledger.take_map("spec", "selector", selector);
        for (index, server) in servers.iter().enumerate() {
            let Some((at, serving)) = read(&mut ledger, run, gateway, index, server) else { continue };
            let others = out.entry(at.clone()).or_default();
            match refuses(others, &serving) {
                Some(why) => {
                    ledger.overridden(&serving.field(), &why);
                    let text = format!("{at} is taken: {why}; this server is not opened");
                    ledger.report(crate::compile::codes::NOT_OPENED, &serving.field(), text);
                }
                None => others.push(serving),
            }
        }
        run.parts.push(Arc::new(ledger.notes));
    }
    out.retain(|_, servers| !servers.is_empty());
    out
}

/// What keeps a server from joining those of the same address and port.
fn refuses(others: &[Serving<'_>], new: &Serving<'_>) -> Option<String> {
    let first = others.first()?;
    let said = |o: &Serving<'_>, what: &str| format!("{what} by {} {} on the same port", o.gateway.key, o.field());
    match (first.speaks, new.speaks) {
        (Speaks::Http, Speaks::Http) => None,
        (a, b) if a.is_tls() && b.is_tls() => {
            let names = new.sni();
            let taken = others.iter().find_map(|o| Some((o, o.sni().into_iter().find(|h| names.contains(h))?)));
            taken.map(|(o, host)| said(o, &format!("host {host} is served")))
        }
        _ => Some(said(first, "another protocol is spoken")),
    }
}

/// Reads a server's fields; `None` if it has no listener.
fn read<'a>(
    ledger: &mut Ledger<'_>,
    run: &Run<'a>,
    gateway: &'a Arc<Object<Gateway>>,
    index: usize,
    server: &Server,
) -> Option<(Place, Serving<'a>)> {
    let at = format!("spec.servers[{index}]");
    let Server { port, bind, hosts, tls, default_endpoint, name } = server;
    let Port { number, protocol, name: port_name, target_port } = port.as_ref()?;
    let Some(speaks) = speaks(protocol, tls.as_ref()) else {
        let why = format!("servers of protocol {protocol} are not opened");
        ledger.inert(&at, &why);
        ledger.report(crate::compile::codes::NOT_OPENED, &at, why);
        return None;
    };
    let number_16 = u16::try_from(*number).ok()?;
    let Some(place) = place(run, bind, number_16) else {
        let why = format!("{bind} is neither an address nor unix://PATH: such servers are not opened");
        ledger.inert(&at, &why);
        ledger.report(crate::compile::codes::NOT_OPENED, &format!("{at}.bind"), why);
        return None;
    };
    ledger.consumed(&at);
    ledger.take(&at, "bind", bind);
    ledger.without_effect(&at, "name", name, "it only names statistics");
    ledger.without_effect(&at, "defaultEndpoint", default_endpoint, "Istio does not implement it");
    let inner = format!("{at}.port");
    match speaks.is_tls() {
        true => {
            ledger.take(&inner, "name", port_name);
        }
        false => ledger.without_effect(&inner, "name", port_name, "it only names the port"),
    }
    ledger.without_effect(&inner, "targetPort", target_port, "the port of the gateway's Service decides");
    ledger.take(&inner, "number", number);
    ledger.take(&inner, "protocol", protocol);
    ledger.take_list(&at, "hosts", hosts);
    let redirect = tls.as_ref().is_some_and(|t| t.https_redirect) && speaks == Speaks::Http;
    let path = format!("{at}.tls");
    let terminated = match (tls, speaks) {
        (Some(tls), Speaks::Https | Speaks::TlsTcp) => {
            let (http, namespace, workloads) = (speaks == Speaks::Https, &run.id.namespace, &run.workloads);
            let mesh = &run.world.mesh().spec;
            let of = Terminating { path: &path, tls, http, namespace, workloads, mesh };
            Some(Arc::new(downstream(ledger, &of)))
        }
        (Some(tls), _) => {
            account_rest(ledger, &path, tls, speaks);
            None
        }
        (None, _) => None,
    };
    let name = format!("{}/{}", gateway.key.namespace, gateway.key.name).into();
    Some((place, Serving { gateway, index, number: number_16, name, speaks, redirect, tls: terminated }))
}

/// Where a server listens; `None`: `bind` says nothing that could be opened.
fn place(run: &Run<'_>, bind: &str, number: u16) -> Option<Place> {
    if let Some(Address::Unix(path)) = Address::unix(bind) {
        return Some(Place::Socket(path));
    }
    let address = match bind {
        "" => None,
        text => Some(text.parse::<IpAddr>().ok()?).filter(|ip| !ip.is_unspecified()),
    };
    Some(Place::Port(address, listen_port(run, number)))
}

fn speaks(protocol: &str, tls: Option<&ServerTlsSettings>) -> Option<Speaks> {
    let mode = tls.map_or(ServerTlsMode::Passthrough, |t| t.mode);
    Some(match protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Speaks::Http,
        "TCP" | "MONGO" | "REDIS" | "MYSQL" => Speaks::Tcp,
        name @ ("HTTPS" | "TLS") => match mode {
            ServerTlsMode::Passthrough => Speaks::Passthrough,
            ServerTlsMode::AutoPassthrough => Speaks::AutoPassthrough,
            _ if name == "HTTPS" => Speaks::Https,
            _ => Speaks::TlsTcp,
        },
        _ => return None,
    })
}

/// `tls` of a server that does not end TLS.
fn account_rest(ledger: &mut Ledger<'_>, at: &str, tls: &ServerTlsSettings, speaks: Speaks) {
    let mut rest = ServerTlsSettings { https_redirect: false, ..tls.clone() };
    let why = match speaks.is_tls() {
        true => {
            ledger.consumed(at);
            ledger.take(at, "mode", &tls.mode);
            rest.mode = ServerTlsMode::default();
            "TLS is not ended here: its mode passes it on"
        }
        false => "the server's protocol is not TLS",
    };
    match speaks {
        Speaks::Http => {
            ledger.take(at, "httpsRedirect", &tls.https_redirect);
        }
        _ => ledger.without_effect(at, "httpsRedirect", &tls.https_redirect, "the server is not plain HTTP"),
    }
    if rest == ServerTlsSettings::default() {
        return;
    }
    let value = serde_json::to_value(&rest).unwrap_or_default();
    for field in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
        ledger.inert(&format!("{at}.{field}"), why);
    }
}

/// The port to listen on: `targetPort` of the gateway's Service for that port, else the port itself.
fn listen_port(run: &Run<'_>, number: u16) -> u16 {
    let Some(workload) = run.workload else { return number };
    let services = run.world.services().iter().filter(|s| s.selects(workload));
    let mut ports = services.flat_map(|s| &s.ports).filter(|p| p.number == number && p.protocol != AppProtocol::Udp);
    ports.find_map(|p| crate::compile::inbound::target_port(p, workload)).unwrap_or(number)
}
