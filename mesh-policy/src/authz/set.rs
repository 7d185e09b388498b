//! Rules of one action, with an index that leads from a request to the few that can match.
//!
//! Each rule is filed under the values of one of its conditions, the one whose values are rarest among all rules. A
//! request is looked up in each attribute that rules are filed under, and only the rules found there, and those that
//! could not be filed, are tried. So 10,000 rules that name different callers, paths or hosts cost about what 10 do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use mesh_core::matching::Cidr;

use super::condition::address;
use super::ips::IpIndex;
use super::rule::Rule;
use super::strings::{Pattern, StringIndex};
use super::values::{self, Attribute};
use crate::PolicyInput;

/// Rules in the order of their names, in which Envoy tries them.
#[derive(Clone, Default, Debug)]
pub(super) struct RuleSet {
    rules: Box<[Rule]>,
    /// Rules that are tried for every request, in order.
    always: Box<[u32]>,
    index: Box<[(Attribute, Files)]>,
}

/// A value that a rule can be filed under.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Value {
    Text(Pattern),
    Network(Cidr),
    Port(u16),
}

/// What one condition can be filed under: any of these values of an attribute.
pub(super) type Filing = (Attribute, Vec<Value>);

/// A rule and the ways in which it can be filed.
pub(super) struct Entry {
    pub(super) rule: Rule,
    pub(super) ways: Vec<Way>,
}

/// Alternatives one of which holds for every request that the rule matches. Each can be filed under any of its conditions.
pub(super) type Way = Vec<Vec<Filing>>;

#[derive(Clone, Default, Debug)]
struct Files {
    texts: StringIndex<Vec<u32>>,
    networks: IpIndex<Vec<u32>>,
    ports: HashMap<u16, Vec<u32>, RandomState>,
}

impl RuleSet {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.rule.name.cmp(&b.rule.name));
        let mut counts: HashMap<(&Attribute, &Value), usize, RandomState> = HashMap::default();
        for (attribute, values) in entries.iter().flat_map(|e| e.ways.iter().flatten().flatten()) {
            for value in values {
                *counts.entry((attribute, value)).or_default() += 1;
            }
        }
        // How many rules share the value that most of them share.
        let crowd = |(attribute, values): &Filing| values.iter().map(|v| counts[&(attribute, v)]).max().unwrap_or(0);
        let best = |alternative: &Vec<Filing>| alternative.iter().map(crowd).min().unwrap_or(usize::MAX);
        let way_crowd = |way: &Way| way.iter().map(best).max().unwrap_or(usize::MAX);
        let mut always = Vec::new();
        let mut index: HashMap<Attribute, Files, RandomState> = HashMap::default();
        for (i, entry) in entries.iter().enumerate() {
            let number = u32::try_from(i).expect("invariant: fewer than 2^32 rules fit in memory");
            match entry.ways.iter().min_by_key(|w| way_crowd(w)) {
                None => always.push(number),
                Some(way) => {
                    for (attribute, values) in way.iter().filter_map(|a| a.iter().min_by_key(|f| crowd(f))) {
                        file(&mut index, number, attribute, values);
                    }
                }
            }
        }
        let rules = entries.into_iter().map(|e| e.rule).collect();
        Self { rules, always: always.into(), index: index.into_iter().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether any rule matches.
    pub(super) fn any(&self, input: &PolicyInput<'_>) -> bool {
        let matches = |n: u32| self.rules[n as usize].matches(input);
        self.always.iter().any(|n| matches(*n)) || self.filed(input, &mut |list| list.iter().any(|n| matches(*n)))
    }

    /// The first rule that matches.
    pub(super) fn first(&self, input: &PolicyInput<'_>) -> Option<&Rule> {
        let mut best = u32::MAX;
        let mut look = |list: &[u32]| {
            let before = list.iter().take_while(|n| **n < best);
            if let Some(n) = before.copied().find(|n| self.rules[*n as usize].matches(input)) {
                best = n;
            }
            false
        };
        look(&self.always);
        self.filed(input, &mut |list| look(list));
        self.rules.get(best as usize)
    }

    /// Calls for the lists of rules that are filed under what a request has, until the answer is yes.
    fn filed(&self, input: &PolicyInput<'_>, f: &mut impl FnMut(&[u32]) -> bool) -> bool {
        self.index.iter().any(|(attribute, files)| match attribute {
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                let ip: IpAddr = address(attribute, input);
                files.networks.find(ip, &mut |list| f(list))
            }
            Attribute::Port => files.ports.get(&input.destination_port).is_some_and(|list| f(list)),
            _ => values::strings(attribute, input, &mut |v| files.texts.find(v, &mut |list| f(list))),
        })
    }
}

fn file(index: &mut HashMap<Attribute, Files, RandomState>, rule: u32, attribute: &Attribute, values: &[Value]) {
    let files = index.entry(attribute.clone()).or_default();
    for value in values {
        let list = match value {
            Value::Text(pattern) => files.texts.entry(pattern.clone()),
            Value::Network(network) => files.networks.entry(*network),
            Value::Port(port) => files.ports.entry(*port).or_default(),
        };
        // Rules come in order, so that each list is in order.
        if list.last() != Some(&rule) {
            list.push(rule);
        }
    }
}

/// The name of a rule, as Envoy has it.
pub(super) fn rule_name(namespace: &str, policy: &str, rule: usize) -> Arc<str> {
    format!("ns[{namespace}]-policy[{policy}]-rule[{rule}]").into()
}

#[cfg(test)]
impl RuleSet {
    /// How many rules are tried for a request that none matches.
    pub(super) fn candidates(&self, input: &PolicyInput<'_>) -> usize {
        let mut count = self.always.len();
        self.filed(input, &mut |list| {
            count += list.len();
            false
        });
        count
    }
}
