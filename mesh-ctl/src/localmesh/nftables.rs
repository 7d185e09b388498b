//! The nf_tables rules of pods and of the node, as one netlink batch each.
//!
//! Integers inside attributes are big-endian, except values that are compared: those have the order in which the kernel
//! loads them, wire order for packet fields, the machine's for marks, devices and user ids.

use std::io;
use std::net::IpAddr;

use super::netlink::{CREATE, Message, Socket};
use super::{CaptureRules, DNS_PORT, MARK_TO_APP, MARK_UPSTREAM, NODE_PROXY_PORT, OUTBOUND_PORT, Selector};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const APPEND: u16 = 0x800;
const FAMILY_INET: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LOOPBACK_INDEX: u32 = 1;

/// Ports of a sidecar itself, reached without its inbound side.
const OWN_PORTS: [u16; 4] = [15008, 15020, 15021, 15090];

/// What a `meta` expression loads.
#[derive(Clone, Copy)]
enum Meta {
    Mark = 3,
    InputIndex = 4,
    OutputIndex = 5,
    UserId = 10,
    NetworkProtocol = 15,
    TransportProtocol = 16,
}

/// One rule: its expressions in order.
#[derive(Debug)]
struct Rule(Vec<(&'static str, Message)>);

impl Rule {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn push(mut self, name: &'static str, fill: impl FnOnce(&mut Message)) -> Self {
        let mut data = Message::bare(0, 0);
        fill(&mut data);
        self.0.push((name, data));
        self
    }

    fn compare(self, operator: u32, value: &[u8]) -> Self {
        self.push("cmp", |data| {
            data.attr(1, &REGISTER.to_be_bytes()).attr(2, &operator.to_be_bytes()).nest(3, |inner| {
                inner.attr(1, value);
            });
        })
    }

    fn meta(self, key: Meta, value: &[u8]) -> Self {
        self.push("meta", |data| {
            data.attr(1, &REGISTER.to_be_bytes()).attr(2, &(key as u32).to_be_bytes());
        })
        .compare(EQUAL, value)
    }

    /// Loads `length` bytes of the network (1) or transport (2) header.
    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        self.push("payload", |data| {
            data.attr(1, &REGISTER.to_be_bytes()).attr(2, &base.to_be_bytes());
            data.attr(3, &offset.to_be_bytes()).attr(4, &length.to_be_bytes());
        })
    }

    fn mark(self, mark: u32) -> Self {
        self.meta(Meta::Mark, &mark.to_ne_bytes())
    }

    fn output_loopback(self) -> Self {
        self.meta(Meta::OutputIndex, &LOOPBACK_INDEX.to_ne_bytes())
    }

    fn transport(self, protocol: u8) -> Self {
        self.meta(Meta::TransportProtocol, &[protocol])
    }

    fn port(self, protocol: u8, port: u16) -> Self {
        self.transport(protocol).payload(2, 2, 2).compare(EQUAL, &port.to_be_bytes())
    }

    /// Compares the destination (or the source, with `source`) with a range.
    fn range(self, source: bool, operator: u32, (address, prefix): (IpAddr, u8)) -> Self {
        let (family, offset, bytes) = match address {
            IpAddr::V4(v4) => (libc::NFPROTO_IPV4 as u8, if source { 12 } else { 16 }, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::NFPROTO_IPV6 as u8, if source { 8 } else { 24 }, v6.octets().to_vec()),
        };
        let length = bytes.len() as u32;
        let mask: Vec<u8> = (0..bytes.len()).map(|at| prefix_byte(prefix, at)).collect();
        let network: Vec<u8> = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        let rule = self.meta(Meta::NetworkProtocol, &[family]).payload(1, offset, length);
        let rule = if mask.iter().all(|byte| *byte == 0xff) {
            rule
        } else {
            rule.push("bitwise", |data| {
                data.attr(1, &REGISTER.to_be_bytes()).attr(2, &REGISTER.to_be_bytes()).attr(3, &length.to_be_bytes());
                data.nest(4, |inner| {
                    inner.attr(1, &mask);
                });
                data.nest(5, |inner| {
                    inner.attr(1, &vec![0; mask.len()]);
                });
            })
        };
        rule.compare(operator, &network)
    }

    /// Not an address of this machine.
    fn not_local(self) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        self.push("fib", |data| {
            data.attr(1, &REGISTER.to_be_bytes()).attr(2, &ADDRESS_TYPE.to_be_bytes());
            data.attr(3, &DESTINATION.to_be_bytes());
        })
        .compare(NOT_EQUAL, &LOCAL.to_ne_bytes())
    }

    fn leave(self) -> Self {
        const RETURN: i32 = -5;
        self.push("immediate", |data| {
            data.attr(1, &VERDICT.to_be_bytes()).nest(2, |inner| {
                inner.nest(2, |verdict| {
                    verdict.attr(1, &RETURN.to_be_bytes());
                });
            });
        })
    }

    fn redirect(self, port: u16) -> Self {
        self.push("immediate", |data| {
            data.attr(1, &REGISTER.to_be_bytes()).nest(2, |inner| {
                inner.attr(1, &port.to_be_bytes());
            });
        })
        .push("redir", |data| {
            data.attr(1, &REGISTER.to_be_bytes());
        })
    }
}

fn prefix_byte(prefix: u8, at: usize) -> u8 {
    let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
    !(0xff_u16 >> bits) as u8
}

/// A table under construction.
#[derive(Debug)]
struct Batch {
    table: &'static str,
    messages: Vec<Message>,
}

impl Batch {
    fn new(table: &'static str) -> Self {
        let mut begin = Message::bare(BATCH_BEGIN, 0);
        begin.raw(&[0, 0, 0, SUBSYSTEM as u8]);
        let mut new = Message::request(NEW_TABLE, CREATE);
        new.raw(&[FAMILY_INET, 0, 0, 0]).text(1, table);
        Self { table, messages: vec![begin, new] }
    }

    /// A nat chain at the place where destinations are rewritten.
    fn chain(&mut self, name: &str, hook: u32) {
        const DESTINATION_NAT: i32 = -100;
        let mut new = Message::request(NEW_CHAIN, CREATE);
        new.raw(&[FAMILY_INET, 0, 0, 0]).text(1, self.table).text(3, name).nest(4, |inner| {
            inner.attr(1, &hook.to_be_bytes()).attr(2, &DESTINATION_NAT.to_be_bytes());
        });
        new.text(7, "nat");
        self.messages.push(new);
    }

    fn rule(&mut self, chain: &str, rule: Rule) {
        let mut new = Message::request(NEW_RULE, CREATE & 0x400 | APPEND);
        new.raw(&[FAMILY_INET, 0, 0, 0]).text(1, self.table).text(2, chain).nest(4, |list| {
            for (name, data) in &rule.0 {
                list.nest(1, |element| {
                    element.text(1, name).nest(2, |inner| {
                        inner.raw(data.body());
                    });
                });
            }
        });
        self.messages.push(new);
    }

    fn finish(mut self) -> Vec<Message> {
        let mut end = Message::bare(BATCH_END, 0);
        end.raw(&[0, 0, 0, SUBSYSTEM as u8]);
        self.messages.push(end);
        self.messages
    }
}

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;

/// The rules of a pod; `None` if nothing is captured.
pub(super) fn pod_rules(rules: &CaptureRules) -> Option<Vec<Message>> {
    if !rules.capture_outbound && !rules.capture_inbound {
        return None;
    }
    let mut batch = Batch::new("mesh");
    if rules.capture_outbound {
        batch.chain("out", OUTPUT);
        outbound(&mut batch, rules);
    }
    if rules.capture_inbound {
        batch.chain("in", PREROUTING);
        inbound(&mut batch, rules);
    }
    Some(batch.finish())
}

fn outbound(batch: &mut Batch, rules: &CaptureRules) {
    let mut add = |rule: Rule| batch.rule("out", rule);
    let own = |rule: Rule| match rules.selector {
        Selector::Mark => rule.mark(MARK_UPSTREAM),
        Selector::Owner(uid) => rule.meta(Meta::UserId, &uid.to_ne_bytes()),
    };
    // The inbound side's way into the application: never again through the sidecar.
    add(match rules.selector {
        Selector::Mark => Rule::new().mark(MARK_TO_APP).leave(),
        Selector::Owner(_) => Rule::new().output_loopback().range(true, EQUAL, (INBOUND_SOURCE, 32)).leave(),
    });
    // The sidecar picked its own pod as the endpoint.
    for localhost in [(IpAddr::from([127, 0, 0, 0]), 8), (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128)] {
        let rule = own(Rule::new()).output_loopback().transport(TCP);
        add(rule.range(false, NOT_EQUAL, localhost).redirect(rules.inbound_port));
    }
    add(own(Rule::new()).leave());
    add(Rule::new().port(UDP, 53).redirect(DNS_PORT));
    add(Rule::new().port(TCP, 53).redirect(DNS_PORT));
    // The application talks to itself.
    add(Rule::new().output_loopback().leave());
    for port in &rules.exclude_outbound_ports {
        add(Rule::new().port(TCP, *port).leave());
    }
    for range in &rules.exclude_outbound_cidrs {
        add(Rule::new().range(false, EQUAL, *range).leave());
    }
    if rules.include_outbound_ports.is_none() && rules.include_outbound_cidrs.is_none() {
        add(Rule::new().transport(TCP).redirect(rules.outbound_port));
    }
    for port in rules.include_outbound_ports.iter().flatten() {
        add(Rule::new().port(TCP, *port).redirect(rules.outbound_port));
    }
    for range in rules.include_outbound_cidrs.iter().flatten() {
        add(Rule::new().transport(TCP).range(false, EQUAL, *range).redirect(rules.outbound_port));
    }
}

/// From where Istio's sidecar dials its own application.
const INBOUND_SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 6));

fn inbound(batch: &mut Batch, rules: &CaptureRules) {
    for port in OWN_PORTS.iter().chain(&rules.exclude_inbound_ports) {
        batch.rule("in", Rule::new().port(TCP, *port).leave());
    }
    match &rules.include_inbound_ports {
        None => batch.rule("in", Rule::new().transport(TCP).redirect(rules.inbound_port)),
        Some(ports) => {
            for port in ports {
                batch.rule("in", Rule::new().port(TCP, *port).redirect(rules.inbound_port));
            }
        }
    }
}

/// The node's rules for what leaves pods without a sidecar: names, and connections to anything that is no pod.
pub(super) fn node_rules(bridge: u32) -> Vec<Message> {
    let from_pods = || Rule::new().meta(Meta::InputIndex, &bridge.to_ne_bytes());
    let mut batch = Batch::new("node");
    batch.chain("pre", PREROUTING);
    batch.rule("pre", from_pods().port(UDP, 53).redirect(DNS_PORT));
    let pods = (IpAddr::from([10, 244, 0, 0]), 16);
    let rule = from_pods().transport(TCP).not_local().range(false, NOT_EQUAL, pods);
    batch.rule("pre", rule.redirect(NODE_PROXY_PORT));
    batch.finish()
}

/// One table with a redirect, to see whether it can be done.
pub(super) fn trial_rules() -> Vec<Message> {
    let mut batch = Batch::new("trial");
    batch.chain("out", OUTPUT);
    batch.rule("out", Rule::new().transport(TCP).redirect(OUTBOUND_PORT));
    batch.finish()
}

/// Loads a batch into the network namespace of this process.
pub(super) fn load(mut messages: Vec<Message>) -> io::Result<()> {
    Socket::netfilter()?.run(&mut messages).map_err(|(_, error)| error)
}

#[cfg(test)]
mod tests;
