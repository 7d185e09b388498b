//! Host patterns and networks.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A host name as Istio writes it: exact, `*`, or a leading `*` followed by a suffix. Always lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// Hosts that end in this (`.example.com` for `*.example.com`) and are longer than it.
    Suffix(Arc<str>),
    /// Exactly this host.
    Exact(Arc<str>),
}

impl HostPattern {
    /// Reads `*`, `*.example.com`, `*example.com` or a host name; upper case is folded.
    pub fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) => Self::Suffix(suffix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether it names one host.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    /// Whether a host, in lower case and without port, is covered. `*.x` covers any depth below `x`, not `x` itself.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(s) => host.len() > s.len() && host.ends_with(&**s),
            Self::Exact(e) => **e == *host,
        }
    }

    /// Whether every host that `self` covers is covered by `other` (Istio's `SubsetOf`).
    pub fn subset_of(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Any) => true,
            (Self::Any, _) | (Self::Suffix(_), Self::Exact(_)) => false,
            (Self::Suffix(a), Self::Suffix(b)) => a.ends_with(&**b),
            (Self::Exact(a), b) => b.matches(a),
        }
    }

    /// Whether some host may be covered by both (Istio's `Matches`): one contains the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.subset_of(other) || other.subset_of(self)
    }

    /// Istio's order of specificity: names before wildcards, then the longer one, then alphabetically. `Less` is more
    /// specific, so that sorting puts the one that decides first.
    pub fn more_specific(&self, other: &Self) -> Ordering {
        let rank = |p: &Self| match p {
            Self::Exact(e) => (0, usize::MAX - e.len()),
            Self::Suffix(s) => (1, usize::MAX - s.len()),
            Self::Any => (2, 0),
        };
        rank(self).cmp(&rank(other)).then_with(|| self.cmp(other))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(s) => write!(f, "*{s}"),
            Self::Exact(e) => f.write_str(e),
        }
    }
}

/// The host part of an authority: `a:80` is `a`, `[::1]:80` is `[::1]`, `::1` stays.
pub fn host_without_port(authority: &str) -> &str {
    let Some(colon) = authority.rfind(':') else { return authority };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    let bracketed = host.ends_with(']');
    if port.bytes().all(|b| b.is_ascii_digit()) && (bracketed || !host.contains(':')) { host } else { authority }
}

/// A network: address and prefix length; written as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// Network address; host bits are zero.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub length: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8` or an address, which is the network of just that address. Host bits are cleared.
    ///
    /// # Errors
    /// The text when it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not an IP address or CIDR block");
        let (address, length) = match text.split_once('/') {
            Some((a, l)) => (a, Some(l.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(bits);
        if length > bits {
            return Err(wrong());
        }
        Ok(Self { address: mask(address, length), length })
    }

    /// Whether an address is in the network; an IPv4 address in IPv6 clothing counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        mask(ip.to_canonical(), self.length) == self.address
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

fn mask(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & keep).into())
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests;
