//! `envoyExtAuthzGrpc`: `envoy.service.auth.v3.Authorization/Check`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::Body;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{ClusterPlan, ProviderPlan};
use mesh_policy::Peer as Identity;
use mesh_policy::ext_authz::{Allowed, Check, Refused, Verdict};
use tonic_prost::ProstCodec;

use super::proto::{
    Address, AttributeContext, CheckRequest, CheckResponse, HeaderValueOption, HttpRequest, HttpResponse, Peer,
    Request, SocketAddress, Timestamp,
};
use crate::cluster::Runtime;
use crate::errand;
use crate::net::Net;

const METHOD: PathAndQuery = PathAndQuery::from_static("/envoy.service.auth.v3.Authorization/Check");

pub(super) async fn ask<N: Net>(
    runtime: &Arc<Runtime<N>>,
    cluster: &Arc<ClusterPlan>,
    plan: &ProviderPlan,
    check: &Check,
) -> Result<Verdict, String> {
    let pack = plan.body.as_ref().is_some_and(|b| b.pack_as_bytes);
    Ok(verdict(call(runtime, cluster, plan, question(check, pack)).await?))
}

/// Whether a stream of bytes may go on.
pub(super) async fn admits<N: Net>(
    runtime: &Arc<Runtime<N>>,
    cluster: &Arc<ClusterPlan>,
    plan: &ProviderPlan,
    conn: &ConnInfo,
) -> Result<bool, String> {
    let (source, destination) = (peer(conn, conn.peer), address(conn.local));
    let destination = Peer { address: Some(destination), principal: String::new() };
    let attributes = AttributeContext { source: Some(source), destination: Some(destination), request: None };
    let answer = call(runtime, cluster, plan, CheckRequest { attributes: Some(attributes) }).await?;
    Ok(matches!(verdict(answer), Verdict::Allow(_)))
}

async fn call<N: Net>(
    runtime: &Arc<Runtime<N>>,
    cluster: &Arc<ClusterPlan>,
    plan: &ProviderPlan,
    question: CheckRequest,
) -> Result<CheckResponse, String> {
    let (runtime, cluster) = (Arc::clone(runtime), Arc::clone(cluster));
    let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let (runtime, cluster) = (Arc::clone(&runtime), Arc::clone(&cluster));
        async move { errand::send(&runtime, &cluster, outgoing(request)).await }
    });
    let origin: Uri = format!("http://{}", plan.authority).parse().map_err(|e| format!("{}: {e}", plan.authority))?;
    let mut grpc = tonic::client::Grpc::with_origin(service, origin);
    grpc.ready().await.map_err(|e| e.to_string())?;
    let request = tonic::Request::new(question);
    let codec = ProstCodec::<CheckRequest, CheckResponse>::default();
    let response = grpc.unary(request, METHOD, codec).await.map_err(|s| format!("{:?}: {}", s.code(), s.message()))?;
    Ok(response.into_inner())
}

/// Between tonic's types and the stack's.
fn outgoing(request: http::Request<tonic::body::Body>) -> http::Request<Body> {
    let (mut head, body) = request.into_parts();
    if let Some(host) = head.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
        head.headers.insert(HOST, host);
    }
    head.uri = head.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    head.version = Version::HTTP_2;
    let body = body.map_err(|_| Error::new(ErrorKind::LocalReset));
    http::Request::from_parts(head, Body::stream(body))
}

fn address(at: std::net::SocketAddr) -> Address {
    Address { socket_address: Some(SocketAddress { address: at.ip().to_string(), port_value: at.port().into() }) }
}

/// Who asks.
fn peer(conn: &ConnInfo, at: std::net::SocketAddr) -> Peer {
    let principal = match Identity::of(conn) {
        Identity::Anonymous => String::new(),
        Identity::Spiffe(id) => format!("spiffe://{id}"),
        Identity::Other(name) => name.to_owned(),
    };
    Peer { address: Some(address(at)), principal }
}

fn question(check: &Check, pack_as_bytes: bool) -> CheckRequest {
    let conn = &check.cx.conn;
    let source = peer(conn, check.cx.remote());
    let destination = Peer { address: Some(address(conn.local)), principal: String::new() };
    let time = check.cx.start.get().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let time = time.map(|t| Timestamp {
        seconds: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(t.subsec_nanos()).unwrap_or(0),
    });
    let http = http_request(check, pack_as_bytes);
    let request = Request { time, http: Some(http) };
    let attributes = AttributeContext { source: Some(source), destination: Some(destination), request: Some(request) };
    CheckRequest { attributes: Some(attributes) }
}

fn http_request(check: &Check, pack_as_bytes: bool) -> HttpRequest {
    let text = |name: &str| {
        let value = check.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        value.unwrap_or_default()
    };
    let target = check.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut headers = joined(&check.headers);
    headers.insert(":method".to_owned(), check.method.to_string());
    headers.insert(":path".to_owned(), target.clone());
    headers.insert(":authority".to_owned(), text("host"));
    headers.insert(":scheme".to_owned(), check.scheme.clone());
    headers.remove("host");
    let (body, raw_body) = match &check.body {
        None => (String::new(), Bytes::new()),
        Some((shown, _)) if pack_as_bytes => (String::new(), shown.clone()),
        Some((shown, _)) => (String::from_utf8_lossy(shown).into_owned(), Bytes::new()),
    };
    if let Some((_, partial)) = &check.body {
        headers.insert("x-envoy-auth-partial-body".to_owned(), partial.to_string());
    }
    HttpRequest {
        id: text("x-request-id"),
        method: check.method.to_string(),
        headers,
        path: target,
        host: text("host"),
        scheme: check.scheme.clone(),
        size: text("content-length").parse().unwrap_or(-1),
        protocol: match check.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
        .to_owned(),
        body,
        raw_body,
    }
}

/// A map has one value for a name: lines are joined, as Envoy joins them.
fn joined(headers: &HeaderMap) -> HashMap<String, String> {
    let mut out: HashMap<String, String> = HashMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let slot = out.entry(name.as_str().to_owned()).or_default();
        if !slot.is_empty() {
            slot.push(',');
        }
        slot.push_str(&value);
    }
    out
}

fn verdict(response: CheckResponse) -> Verdict {
    let CheckResponse { status, denied, ok } = response;
    // Without a status it is code 0: OK, as everywhere in gRPC.
    if status.is_none_or(|s| s.code == 0) {
        let ok = ok.unwrap_or_default();
        let (mut set, mut append) = (Vec::new(), Vec::new());
        for option in &ok.headers {
            let list = if option.append.as_ref().is_some_and(|a| a.value) { &mut append } else { &mut set };
            list.extend(pair(option));
        }
        let remove = ok.headers_to_remove.iter().filter_map(|n| HeaderName::try_from(n.as_str()).ok());
        let response = ok.response_headers_to_add.iter().filter_map(pair).collect();
        return Verdict::Allow(Allowed { remove: remove.filter(|n| *n != HOST).collect(), set, append, response });
    }
    let HttpResponse { status, headers, body } = denied.unwrap_or_default();
    let code = status.and_then(|s| u16::try_from(s.code).ok()).and_then(|c| StatusCode::from_u16(c).ok());
    Verdict::Deny(Refused {
        status: code.filter(|c| c.as_u16() >= 200).unwrap_or(StatusCode::FORBIDDEN),
        headers: headers.iter().filter_map(pair).collect(),
        body: body.into(),
    })
}

/// A header that an authorizer sets. Pseudo headers can't be changed that way.
fn pair(option: &HeaderValueOption) -> Option<(HeaderName, HeaderValue)> {
    let header = option.header.as_ref()?;
    let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    Some((HeaderName::try_from(header.key.as_str()).ok()?, HeaderValue::from_bytes(value).ok()?))
}

#[cfg(test)]
mod tests;
