//! The DNS server of a sidecar: names of the mesh are answered from the plan, others by the network's resolver.

#[cfg(feature = "bin")]
mod server;

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use mesh_core::snapshot::Snapshot;

#[cfg(feature = "bin")]
pub(crate) use server::serve;

/// TTL of the mesh's own names in seconds, as Istio's agent gives it.
const TTL: u32 = 30;
/// Longest answer over UDP to a client that did not say what it takes.
const UDP_MAX: u16 = 512;

/// What to do with a query.
#[derive(Debug)]
enum Plan {
    /// Answer so.
    Reply(Box<Message>),
    /// Ask outside for this name, then [`outside`].
    Ask(Box<Message>, String),
}

/// Decides a query. `None`: it is not even a query with an id that could be answered.
fn plan(query: &[u8], snapshot: Option<&Snapshot>) -> Option<Plan> {
    let Ok(query) = Message::from_vec(query) else {
        // The id is all that is needed to say that the rest can't be read.
        let id = u16::from_be_bytes(query.get(..2)?.try_into().ok()?);
        return Some(Plan::Reply(Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))));
    };
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = reply_to(&query);
    if query.metadata.op_code != OpCode::Query {
        return Some(with_code(reply, ResponseCode::NotImp));
    }
    let [question] = &query.queries[..] else { return Some(with_code(reply, ResponseCode::FormErr)) };
    let Some(snapshot) = snapshot else { return Some(with_code(reply, ResponseCode::ServFail)) };
    if question.query_class() != DNSClass::IN {
        return Some(with_code(reply, ResponseCode::Refused));
    }
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    match addresses(snapshot, &name) {
        Some(found) => {
            reply.metadata.authoritative = true;
            add(&mut reply, question, found, TTL);
            Some(Plan::Reply(Box::new(reply)))
        }
        None if matches!(question.query_type(), RecordType::A | RecordType::AAAA) => {
            Some(Plan::Ask(Box::new(reply), name))
        }
        // Only addresses can be asked for outside.
        None => Some(with_code(reply, ResponseCode::NotImp)),
    }
}

/// Addresses of a name of the mesh: its own, else those of the longest wildcard above it.
fn addresses<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a [IpAddr]> {
    if let Some(entry) = snapshot.names.get(name) {
        return Some(&entry.addresses);
    }
    let mut rest = name;
    while let Some((_, parent)) = rest.split_once('.') {
        if let Some(entry) = snapshot.names.get(format!("*.{parent}").as_str()) {
            return Some(&entry.addresses);
        }
        rest = parent;
    }
    None
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.iter().cloned());
    reply
}

fn with_code(mut reply: Message, code: ResponseCode) -> Plan {
    reply.metadata.response_code = code;
    Plan::Reply(Box::new(reply))
}

/// Adds what of the addresses was asked for; nothing is an answer too: the name exists, but not with that type.
fn add(reply: &mut Message, question: &Query, addresses: &[IpAddr], ttl: u32) {
    for address in addresses {
        let data = match (address, question.query_type()) {
            (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => RData::A(A(*ip)),
            (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(*ip)),
            _ => continue,
        };
        reply.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
    }
}

/// Completes a reply with what the network's resolver said.
fn outside(mut reply: Message, found: std::io::Result<crate::net::Resolved>) -> Message {
    let question = reply.queries[0].clone();
    match found {
        Ok(found) => {
            let ttl = u32::try_from(found.ttl.as_secs()).unwrap_or(TTL);
            add(&mut reply, &question, &found.addresses, ttl);
        }
        // Resolvers do not tell "no such name" from other failures in one way; clients handle this one best, because
        // they go on to the next name of their search list.
        Err(_) => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply
}

/// The message as bytes; over UDP cut to what the client takes, marked so that it asks again over TCP.
fn encode(reply: &Message, udp_limit: Option<u16>) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    match udp_limit {
        Some(limit) if bytes.len() > usize::from(limit) => reply.truncate().to_vec().ok(),
        _ => Some(bytes),
    }
}

/// What a client takes over UDP.
fn udp_limit(query: &[u8]) -> u16 {
    let edns = Message::from_vec(query).ok().and_then(|m| m.edns);
    edns.map_or(UDP_MAX, |e| e.max_payload().clamp(UDP_MAX, 4096))
}

/// Answers one query that came over UDP, for whoever has the socket: names of the mesh from the plan, others by asking
/// `resolve`. `None`: the bytes are no query.
pub async fn answer<F, R>(query: &[u8], snapshot: Option<&Snapshot>, resolve: F) -> Option<Vec<u8>>
where
    F: FnOnce(String) -> R,
    R: Future<Output = std::io::Result<crate::net::Resolved>>,
{
    let limit = udp_limit(query);
    match plan(query, snapshot)? {
        Plan::Reply(reply) => encode(&reply, Some(limit)),
        Plan::Ask(reply, name) => encode(&outside(*reply, resolve(name).await), Some(limit)),
    }
}

#[cfg(test)]
mod tests;
