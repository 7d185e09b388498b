//! TLS and TCP rules.

use super::{Names, Wrong, backend, matches};
use crate::api::{L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute};
use crate::compile::account::Ledger;
use crate::matching::{Cidr, HostPattern};
use crate::model::{Backend, L4Match, L4Route};

pub(super) fn tls_rule(ledger: &mut Ledger<'_>, at: &str, from: &TlsRoute, names: Names<'_>) -> Result<L4Route, Wrong> {
    let TlsRoute { r#match, route } = from;
    let mut out = Vec::with_capacity(r#match.len());
    for (i, m) in r#match.iter().enumerate() {
        let at = format!("{at}.match[{i}]");
        let TlsMatchAttributes { sni_hosts, destination_subnets, port, source_labels, gateways, source_namespace } = m;
        out.push(L4Match {
            origin: ledger.origin(&at),
            sni: ledger.take_list(&at, "sniHosts", sni_hosts).iter().map(|h| HostPattern::parse(h)).collect(),
            destination_subnets: subnets(ledger, &at, destination_subnets)?,
            only: matches::only(ledger, &at, (*port, source_labels, source_namespace, gateways), names, false)?,
        });
    }
    Ok(L4Route { origin: ledger.origin(at), matches: out, backends: backends(ledger, at, route, names)? })
}

pub(super) fn tcp_rule(ledger: &mut Ledger<'_>, at: &str, from: &TcpRoute, names: Names<'_>) -> Result<L4Route, Wrong> {
    let TcpRoute { r#match, route } = from;
    let mut out = Vec::with_capacity(r#match.len());
    for (i, m) in r#match.iter().enumerate() {
        let at = format!("{at}.match[{i}]");
        let L4MatchAttributes { destination_subnets, port, source_subnet, source_labels, gateways, source_namespace } =
            m;
        ledger.without_effect(&at, "sourceSubnet", source_subnet, "the field is deprecated and ignored, as in Istio");
        out.push(L4Match {
            origin: ledger.origin(&at),
            sni: Vec::new(),
            destination_subnets: subnets(ledger, &at, destination_subnets)?,
            only: matches::only(ledger, &at, (*port, source_labels, source_namespace, gateways), names, false)?,
        });
    }
    Ok(L4Route { origin: ledger.origin(at), matches: out, backends: backends(ledger, at, route, names)? })
}

fn subnets(ledger: &mut Ledger<'_>, at: &str, from: &[String]) -> Result<Vec<Cidr>, Wrong> {
    let mut out = Vec::with_capacity(from.len());
    for (i, text) in ledger.take_list(at, "destinationSubnets", from).iter().enumerate() {
        out.push(Cidr::parse(text).map_err(Wrong::at(&format!("{at}.destinationSubnets[{i}]")))?);
    }
    Ok(out)
}

fn backends(
    ledger: &mut Ledger<'_>,
    at: &str,
    route: &[RouteDestination],
    names: Names<'_>,
) -> Result<Vec<Backend>, Wrong> {
    let mut out = Vec::with_capacity(route.len());
    for (i, d) in route.iter().enumerate() {
        let RouteDestination { destination, weight } = d;
        out.push(backend(ledger, &format!("{at}.route[{i}]"), destination.as_ref(), (*weight, route.len()), names)?);
    }
    Ok(out)
}
