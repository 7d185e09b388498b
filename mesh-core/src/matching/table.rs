//! Which virtual host takes a request.

use std::borrow::Cow;
use std::sync::Arc;

use super::host_without_port;
use crate::snapshot::{RouteTable, VirtualHostPlan};

impl RouteTable {
    /// The virtual host of an authority: exact name, then longest suffix wildcard, then longest prefix wildcard, then
    /// `*`. The port is ignored and so is case; a name with a dot at the end is a different name.
    pub fn lookup(&self, authority: &str) -> Option<&Arc<VirtualHostPlan>> {
        let host = host_without_port(authority);
        let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        let from_end = |len: usize| host.get(host.len() - len..);
        let from_start = |len: usize| host.get(..len);
        self.exact
            .get(&*host)
            .or_else(|| longest(&self.suffix, host.len(), from_end))
            .or_else(|| longest(&self.prefix, host.len(), from_start))
            .or(self.any.as_ref())
    }

    /// Every virtual host, each once for each domain.
    pub fn virtual_hosts(&self) -> impl Iterator<Item = &Arc<VirtualHostPlan>> {
        let wild = self.suffix.iter().chain(&self.prefix).map(|(_, v)| v);
        self.exact.values().chain(wild).chain(&self.any)
    }

    /// Puts wildcards into the order that [`RouteTable::lookup`] needs: longest first, then by text.
    pub(crate) fn sort(&mut self) {
        for list in [&mut self.suffix, &mut self.prefix] {
            list.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        }
    }
}

/// Looks each length up by bisection: with thousands of wildcards a request costs as many steps as there are lengths.
fn longest<'t, 'h>(
    list: &'t [(Arc<str>, Arc<VirtualHostPlan>)],
    host: usize,
    part: impl Fn(usize) -> Option<&'h str>,
) -> Option<&'t Arc<VirtualHostPlan>> {
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
            return Some(&group[i].1);
        }
    }
    None
}

#[cfg(test)]
mod tests;
