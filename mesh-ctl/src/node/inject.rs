//! Which pods get a sidecar, and what of their traffic it takes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_core::convert::inject;
use serde::{Deserialize, Serialize};

use crate::localmesh::CaptureRules;

/// Which rule decides about sidecars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Inject {
    /// Every pod, unless the pod or its namespace says no.
    #[default]
    All,
    /// Istio's rule on Kubernetes: only where the pod or its namespace says yes.
    Labels,
}

impl Inject {
    /// The rule.
    pub fn rule(self) -> inject::Inject {
        match self {
            Self::All => inject::Inject::All,
            Self::Labels => inject::Inject::Labels,
        }
    }
}

type Labels = BTreeMap<String, String>;

/// Capture rules from the pod's annotations `traffic.sidecar.istio.io/*`.
///
/// # Errors
/// An annotation that is no list of ports or ranges; the text names it and says what to write.
pub fn capture(annotations: &Labels) -> Result<CaptureRules, String> {
    let get = |name: &str| annotations.get(&format!("traffic.sidecar.istio.io/{name}")).map(|v| v.trim());
    let mut rules = CaptureRules::default();
    match annotations.get("sidecar.istio.io/interceptionMode").map(String::as_str) {
        // TPROXY would keep the clients' addresses; here both are done by redirection.
        None | Some("" | "REDIRECT" | "TPROXY") => {}
        Some("NONE") => (rules.capture_outbound, rules.capture_inbound) = (false, false),
        Some(other) => {
            let wanted = "write REDIRECT, TPROXY or NONE";
            return Err(format!("annotation sidecar.istio.io/interceptionMode: {other:?} is no mode; {wanted}"));
        }
    }
    if let Some(v) = get("excludeOutboundPorts") {
        rules.exclude_outbound_ports = ports("excludeOutboundPorts", v)?;
    }
    if let Some(v) = get("excludeInboundPorts") {
        rules.exclude_inbound_ports = ports("excludeInboundPorts", v)?;
    }
    if let Some(v) = get("excludeOutboundIPRanges") {
        rules.exclude_outbound_cidrs = ranges("excludeOutboundIPRanges", v)?;
    }
    match get("includeOutboundIPRanges") {
        None | Some("*") => {}
        // Empty: only what includeOutboundPorts adds.
        Some(v) => rules.include_outbound_cidrs = Some(ranges("includeOutboundIPRanges", v)?),
    }
    match get("includeOutboundPorts") {
        None | Some("" | "*") => {}
        // Istio adds these ports to the ranges; with every range captured there is nothing to add.
        Some(v) if rules.include_outbound_cidrs.is_some() => {
            rules.include_outbound_ports = Some(ports("includeOutboundPorts", v)?);
        }
        Some(_) => {}
    }
    match get("includeInboundPorts") {
        None | Some("*") => {}
        Some("") => rules.capture_inbound = false,
        Some(v) => rules.include_inbound_ports = Some(ports("includeInboundPorts", v)?),
    }
    Ok(rules)
}

fn ports(name: &str, text: &str) -> Result<Vec<u16>, String> {
    words(text)
        .map(|w| {
            w.parse().map_err(|_| {
                format!("annotation traffic.sidecar.istio.io/{name}: {w:?} is no port; write a list like 3306,6379")
            })
        })
        .collect()
}

fn ranges(name: &str, text: &str) -> Result<Vec<(IpAddr, u8)>, String> {
    words(text)
        .map(|w| {
            range(w).ok_or_else(|| {
                format!("annotation traffic.sidecar.istio.io/{name}: {w:?} is no range; write a list like 10.0.0.0/8,192.168.1.1/32")
            })
        })
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty())
}

fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((a, b)) => (a.parse::<IpAddr>().ok()?, Some(b.parse::<u8>().ok()?)),
        None => (text.parse().ok()?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn annotations_narrow_the_capture() {
        let rules = capture(&labels(&[
            ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306, 6379"),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8,fd00::/8"),
            ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
            ("traffic.sidecar.istio.io/includeInboundPorts", ""),
        ]))
        .unwrap();
        assert_eq!(rules.exclude_outbound_ports, [3306, 6379]);
        assert_eq!(rules.include_outbound_cidrs.unwrap().len(), 2);
        assert_eq!(rules.include_outbound_ports.unwrap(), [443]);
        assert!(!rules.capture_inbound);
        assert!(rules.capture_outbound);

        let e = capture(&labels(&[("traffic.sidecar.istio.io/excludeInboundPorts", "http")])).unwrap_err();
        assert!(e.contains("excludeInboundPorts") && e.contains("\"http\""), "{e}");
        assert!(capture(&labels(&[("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/40")])).is_err());
    }
}
