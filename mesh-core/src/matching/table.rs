//! Which virtual host takes a request.

use std::borrow::Cow;
use std::sync::Arc;

use super::host_without_port;
use crate::api::ContentHash;
use crate::snapshot::{Domains, RouteTable, VirtualHostPlan};

impl RouteTable {
    /// A table of virtual hosts whose domains don't overlap.
    pub fn of(name: &str, hosts: Vec<Arc<VirtualHostPlan>>) -> Self {
        let domains = Arc::new(Domains::of(hosts.iter().map(|h| &h.domains[..])));
        let hash = hosts.iter().fold(ContentHash::of(name.as_bytes()), |h, v| h.with(v.hash));
        Self { name: name.into(), hosts, domains, hash }
    }

    /// The virtual host of an authority: exact name, then longest suffix wildcard, then longest prefix wildcard, then
    /// `*`. The port is ignored and so is case; a name with a dot at the end is a different name.
    pub fn lookup(&self, authority: &str) -> Option<&Arc<VirtualHostPlan>> {
        self.hosts.get(self.domains.lookup(authority)?)
    }

    /// Every virtual host.
    pub fn virtual_hosts(&self) -> impl Iterator<Item = &Arc<VirtualHostPlan>> {
        self.hosts.iter()
    }
}

impl Domains {
    /// Those of virtual hosts, given by their domains.
    pub fn of<'d>(hosts: impl Iterator<Item = &'d [Arc<str>]>) -> Self {
        let mut all = Self::default();
        for (place, domains) in hosts.enumerate() {
            for domain in domains {
                match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
                    (Some(""), _) => all.any = Some(place),
                    (Some(suffix), _) => all.suffix.push((suffix.into(), place)),
                    (None, Some(prefix)) => all.prefix.push((prefix.into(), place)),
                    (None, None) => {
                        all.exact.insert(domain.clone(), place);
                    }
                }
            }
        }
        // As `lookup` needs them.
        for list in [&mut all.suffix, &mut all.prefix] {
            list.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        }
        all
    }

    /// As [`RouteTable::lookup`], the place in the table.
    pub fn lookup(&self, authority: &str) -> Option<usize> {
        let host = host_without_port(authority);
        let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        let from_end = |len: usize| host.get(host.len() - len..);
        let from_start = |len: usize| host.get(..len);
        self.exact
            .get(&*host)
            .copied()
            .or_else(|| longest(&self.suffix, host.len(), from_end))
            .or_else(|| longest(&self.prefix, host.len(), from_start))
            .or(self.any)
    }
}

/// Looks each length up by bisection: with thousands of wildcards a request costs as many steps as there are lengths.
fn longest<'h>(list: &[(Arc<str>, usize)], host: usize, part: impl Fn(usize) -> Option<&'h str>) -> Option<usize> {
    let mut rest = list;
    while let Some((first, _)) = rest.first() {
        let len = first.len();
        let (group, next) = rest.split_at(rest.partition_point(|(t, _)| t.len() == len));
        rest = next;
        // A wildcard stands for at least one character.
        if len < host
            && let Some(text) = part(len)
            && let Ok(i) = group.binary_search_by(|(t, _)| (**t).cmp(text))
        {
            return Some(group[i].1);
        }
    }
    None
}

#[cfg(test)]
mod tests;
