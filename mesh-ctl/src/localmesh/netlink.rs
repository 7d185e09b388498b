//! Links, addresses and routes by rtnetlink, and the message encoding that nf_tables uses too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::process::Pid;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// Create, and fail when it is there.
pub(super) const CREATE: u16 = 0x400 | 0x200;
const NLA_F_NESTED: u16 = 0x8000;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// One netlink message while it is written.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Header of a request that wants an acknowledgement. Length and sequence are set by [`Socket::run`].
    pub(super) fn request(kind: u16, flags: u16) -> Self {
        Self::bare(kind, flags | NLM_F_ACK)
    }

    /// Header of a request without acknowledgement.
    pub(super) fn bare(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        Self(bytes)
    }

    /// Fixed part after the header; always a multiple of four bytes.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// One attribute.
    pub(super) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("invariant: attributes are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A text attribute with its closing zero byte.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attr(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// An attribute of attributes.
    pub(super) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.attr(kind | NLA_F_NESTED, &[]);
        inside(self);
        let length = u16::try_from(self.0.len() - start).expect("invariant: attributes are short");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// The message with its length and number.
    pub(super) fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.0.len()).expect("invariant: messages are short");
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.0
    }

    /// What follows the header.
    pub(super) fn body(&self) -> &[u8] {
        &self.0[16..]
    }

    fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.0[6], self.0[7]]) & NLM_F_ACK != 0
    }
}

/// A netlink socket. It stays in the network namespace in which it was made.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// For links, addresses and routes.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// For nf_tables.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: impl Into<Option<Protocol>>) -> io::Result<Self> {
        let family = AddressFamily::NETLINK;
        Ok(Self(rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol.into())?))
    }

    /// Sends all messages at once and waits for their acknowledgements. An error tells the first message that the
    /// kernel refused, by its place in `messages`.
    pub(super) fn run(&self, messages: &mut [Message]) -> Result<(), (usize, io::Error)> {
        let mut bytes = Vec::new();
        let mut waiting = 0;
        for (index, message) in messages.iter_mut().enumerate() {
            waiting += usize::from(message.wants_ack());
            bytes.extend_from_slice(message.finish(index as u32));
        }
        rustix::net::send(&self.0, &bytes, SendFlags::empty()).map_err(|errno| (0, errno.into()))?;
        let mut buffer = vec![0_u8; 32 * 1024];
        while waiting > 0 {
            let (length, _) =
                rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()).map_err(|errno| (0, errno.into()))?;
            for (sequence, errno) in acknowledgements(&buffer[..length]) {
                if errno != 0 {
                    return Err((sequence as usize, io::Error::from_raw_os_error(-errno)));
                }
                waiting -= 1;
            }
        }
        Ok(())
    }

    fn one(&self, message: Message) -> io::Result<()> {
        self.run(&mut [message]).map_err(|(_, error)| error)
    }

    /// Sets a device up.
    pub(super) fn link_up(&self, index: u32) -> io::Result<()> {
        let mut message = Message::request(RTM_NEWLINK, 0);
        message.raw(&link_header(index));
        self.one(message)
    }

    /// Makes a bridge and sets it up.
    pub(super) fn add_bridge(&self, name: &str) -> io::Result<()> {
        self.one(bridge(name))
    }

    /// Makes a pair: `name` here as a port of `bridge`, the other end as eth0 with this hardware address in the network
    /// namespace of process `pod`.
    pub(super) fn add_veth(&self, name: &str, bridge: u32, pod: Pid, address: [u8; 6]) -> io::Result<()> {
        self.one(veth(name, Some(bridge), Some(pod), address))
    }

    /// Makes a pair with both ends here, to see whether it can be done.
    pub(super) fn try_veth(&self, name: &str) -> io::Result<()> {
        self.one(veth(name, None, None, [2, 0, 0, 0, 0, 1]))
    }

    /// Gives a device an address.
    pub(super) fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.one(new_address(index, address, prefix))
    }

    /// Makes a default route.
    pub(super) fn add_default_route(&self, index: u32, gateway: IpAddr) -> io::Result<()> {
        self.one(default_route(index, gateway))
    }

    /// The index of a device.
    pub(super) fn index_of(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }
}

/// `(sequence, negative errno or 0)` of each error message, which is what acknowledgements are.
fn acknowledgements(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let mut found = Vec::new();
    while bytes.len() >= 20 {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if u16::from_ne_bytes([bytes[4], bytes[5]]) == NLMSG_ERROR {
            found.push((word(8), word(16).cast_signed()));
        }
        let length = (word(0) as usize).next_multiple_of(4).clamp(16, bytes.len());
        bytes = &bytes[length..];
    }
    found
}

/// `ifinfomsg` of a device that shall be up.
fn link_header(index: u32) -> Vec<u8> {
    [[0_u8; 4], index.to_ne_bytes(), IFF_UP.to_ne_bytes(), IFF_UP.to_ne_bytes()].concat()
}

fn bridge(name: &str) -> Message {
    let mut message = Message::request(RTM_NEWLINK, CREATE);
    message.raw(&link_header(0)).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge");
    });
    message
}

fn veth(name: &str, bridge: Option<u32>, pod: Option<Pid>, address: [u8; 6]) -> Message {
    let mut message = Message::request(RTM_NEWLINK, CREATE);
    message.raw(&link_header(0)).text(IFLA_IFNAME, name);
    if let Some(bridge) = bridge {
        message.attr(IFLA_MASTER, &bridge.to_ne_bytes());
    }
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&[0; 16]).text(IFLA_IFNAME, "eth0").attr(IFLA_ADDRESS, &address);
                if let Some(pod) = pod {
                    peer.attr(IFLA_NET_NS_PID, &pod.as_raw_nonzero().get().to_ne_bytes());
                }
            });
        });
    });
    message
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

fn new_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let (family, bytes) = octets(address);
    // Without NODAD a v6 address cannot be used for a second or two.
    let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut message = Message::request(RTM_NEWADDR, CREATE);
    message.raw(&[family, prefix, flags, 0]).raw(&index.to_ne_bytes());
    message.attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
    message
}

fn default_route(index: u32, gateway: IpAddr) -> Message {
    const MAIN_TABLE: u8 = 254;
    const BY_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let (family, bytes) = octets(gateway);
    let mut message = Message::request(RTM_NEWROUTE, CREATE);
    message.raw(&[family, 0, 0, 0, MAIN_TABLE, BY_BOOT, 0, UNICAST, 0, 0, 0, 0]);
    message.attr(RTA_GATEWAY, &bytes).attr(RTA_OIF, &index.to_ne_bytes());
    message
}

/// The hardware address of a pod: made from its IPv4 address, so that neighbours that remember the address of a pod
/// that has gone reach the next pod with the same address.
pub(super) fn hardware_address(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x11, a, b, c, d]
}

/// The node's addresses on the bridge.
pub(super) const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// See [`NODE_V4`].
pub(super) const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests;
