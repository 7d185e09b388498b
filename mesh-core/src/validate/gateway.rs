//! Gateway, and the TLS of servers.

use std::collections::HashSet;
use std::net::IpAddr;

use super::common::{is_label, is_partial_wildcard, labels, port, wildcard_domain};
use super::{Check, below};
use crate::api::{Gateway, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::yaml::{child, item};

const PROTOCOLS: [&str; 8] = ["HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS"];
/// What Istio's parser takes besides.
const MORE_PROTOCOLS: [&str; 5] = ["REDIS", "MYSQL", "UDP", "HTTP_PROXY", "GRPCWEB"];

pub(super) fn check(check: &mut Check<'_>, spec: &Gateway, name: &str) {
    if !is_label(name) {
        check.error("metadata.name", format!("invalid gateway name: {name:?}"));
    }
    if spec.servers.is_empty() {
        check.error("spec.servers", "gateway must have at least one server");
    }
    labels(check, "spec.selector", &spec.selector);
    let mut names = HashSet::new();
    for (i, server) in spec.servers.iter().enumerate() {
        let path = item("spec.servers", i);
        self::server(check, &path, server);
        if let Some(port) = &server.port
            && !port.name.is_empty()
            && !names.insert(&port.name)
        {
            let message = format!("port names in servers must be unique: duplicate name {}", port.name);
            check.error(&below(&path, "port.name"), message);
        }
    }
}

fn server(check: &mut Check<'_>, path: &str, server: &Server) {
    let Server { port: listen, bind, hosts, tls, default_endpoint: _, name: _ } = server;
    let at = child(path, "hosts");
    if hosts.is_empty() {
        check.error(&at, "server config must contain at least one host");
    }
    for (i, host) in hosts.iter().enumerate() {
        server_host(check, &item(&at, i), host);
    }
    let is_unix = bind.starts_with("unix://");
    if !bind.is_empty() && !is_unix && bind.parse::<IpAddr>().is_err() {
        check.error(&child(path, "bind"), format!("{bind:?} is not a valid IP address or unix://path"));
    }
    let Some(listen) = listen else {
        check.required(&child(path, "port"));
        return;
    };
    let at = child(path, "port");
    if !(is_unix && listen.number == 0) {
        check.ok(&child(&at, "number"), port(listen.number));
    }
    if listen.name.is_empty() {
        check.error(&child(&at, "name"), format!("port name must be set: port {}", listen.number));
    }
    if listen.target_port != 0 {
        check.error(&child(&at, "targetPort"), "targetPort is deprecated and has no effect; remove it");
    }
    let protocol = listen.protocol.to_ascii_uppercase();
    if !PROTOCOLS.contains(&&*protocol) && !MORE_PROTOCOLS.contains(&&*protocol) {
        let names = PROTOCOLS.join(", ");
        let message = format!("invalid protocol {:?}, supported protocols are {names}", listen.protocol);
        check.error(&child(&at, "protocol"), message);
    }
    server_tls_fits(check, &child(path, "tls"), &protocol, tls.as_ref());
    if let Some(tls) = tls {
        server_tls(check, &child(path, "tls"), tls);
    }
}

/// Whether a server of the protocol may or must have TLS.
fn server_tls_fits(check: &mut Check<'_>, at: &str, protocol: &str, tls: Option<&ServerTlsSettings>) {
    let plain_http = matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "GRPCWEB" | "HTTP_PROXY");
    match tls {
        None if matches!(protocol, "HTTPS" | "TLS") => {
            check.error_fix(at, "server must have TLS settings for HTTPS/TLS protocols", "add tls with a mode");
        }
        Some(tls) if plain_http => {
            let only_redirect = ServerTlsSettings { https_redirect: tls.https_redirect, ..Default::default() };
            if *tls != only_redirect {
                let message = "server cannot have TLS settings for plain text HTTP ports";
                check.error_fix(at, message, "use protocol HTTPS, or only httpsRedirect");
            }
        }
        Some(_) if !matches!(protocol, "HTTPS" | "TLS") => {
            check.error(at, format!("server cannot have TLS settings for non HTTPS/TLS ports (protocol {protocol})"));
        }
        Some(tls) if tls.https_redirect => {
            check.warn(&child(at, "httpsRedirect"), "tls.httpsRedirect should only be used with http servers");
        }
        _ => {}
    }
}

fn server_host(check: &mut Check<'_>, path: &str, host: &str) {
    let (namespace, name) = host.split_once('/').map_or((None, host), |(ns, name)| (Some(ns), name));
    if let Some(namespace) = namespace
        && !matches!(namespace, "*" | ".")
        && !is_label(namespace)
    {
        check.error(path, format!("invalid namespace value {namespace:?} in {host:?}"));
    }
    if name.parse::<IpAddr>().is_ok() {
        return;
    }
    if let Err(message) = wildcard_domain(name) {
        check.error(path, message);
    } else if is_partial_wildcard(name) {
        let message = format!("partial wildcard {name:?} not allowed");
        check.error_fix(path, message, "write *.suffix or *");
    } else if name != "*" && !name.contains('.') {
        let message = format!("short names (non FQDN) are not allowed: {name:?}");
        check.error_fix(path, message, "write the whole name, or *");
    }
}

/// TLS of a server, of a Gateway or of a Sidecar's inbound listener.
pub(super) fn server_tls(check: &mut Check<'_>, path: &str, tls: &ServerTlsSettings) {
    sources(check, path, tls);
    match tls.mode {
        ServerTlsMode::IstioMutual => {
            let texts = [
                ("serverCertificate", "server certificate", &tls.server_certificate),
                ("privateKey", "private key", &tls.private_key),
                ("caCertificates", "CA bundle", &tls.ca_certificates),
                ("credentialName", "credentialName", &tls.credential_name),
            ];
            for (field, what, value) in texts {
                if !value.is_empty() {
                    let message = format!("ISTIO_MUTUAL TLS cannot have associated {what}");
                    check.error(&child(path, field), message);
                }
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            certificates(check, path, tls);
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            let has =
                !tls.server_certificate.is_empty() || !tls.private_key.is_empty() || !tls.ca_certificates.is_empty();
            if has {
                check.warn(path, format!("{:?} mode does not use certificates, they will be ignored", tls.mode));
            }
        }
    }
    if !tls.ca_crl.is_empty() {
        let at = child(path, "caCrl");
        if tls.mode == ServerTlsMode::Simple {
            check.error(&at, "CRL is not supported with SIMPLE TLS");
        }
        if !tls.credential_name.is_empty() {
            check.error(&at, "CRL is not supported with credentialName");
        }
    }
    versions(check, path, tls);
    let mut seen = HashSet::new();
    for (i, suite) in tls.cipher_suites.iter().enumerate() {
        let at = item(&child(path, "cipherSuites"), i);
        if !seen.insert(suite) {
            check.warn(&at, format!("ignoring duplicate cipher suite: {suite}"));
        }
    }
}

/// Certificates come from one source only.
fn sources(check: &mut Check<'_>, path: &str, tls: &ServerTlsSettings) {
    let (name, names, files) =
        (!tls.credential_name.is_empty(), !tls.credential_names.is_empty(), !tls.tls_certificates.is_empty());
    for (both, text) in [
        (names && files, "only one of credentialNames or tlsCertificates can be set"),
        (name && names, "only one of credentialName or credentialNames can be set"),
        (name && files, "only one of credentialName or tlsCertificates can be set"),
    ] {
        if both {
            check.error(path, text);
        }
    }
    for (field, count) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        if count > 2 {
            check.invalid(&child(path, field), count, "must have at most 2 items");
        }
    }
}

fn certificates(check: &mut Check<'_>, path: &str, tls: &ServerTlsSettings) {
    if !tls.credential_name.is_empty() || !tls.credential_names.is_empty() {
        return;
    }
    let mode = if tls.mode == ServerTlsMode::Simple { "SIMPLE" } else { "MUTUAL" };
    let mutual = tls.mode == ServerTlsMode::Mutual;
    if tls.tls_certificates.is_empty() {
        if tls.server_certificate.is_empty() {
            let message = format!("{mode} TLS requires a server certificate");
            check.error_fix(&child(path, "serverCertificate"), message, "or name a secret with credentialName");
        }
        if tls.private_key.is_empty() {
            check.error(&child(path, "privateKey"), format!("{mode} TLS requires a private key"));
        }
    }
    for (i, pair) in tls.tls_certificates.iter().enumerate() {
        let at = item(&child(path, "tlsCertificates"), i);
        if pair.server_certificate.is_empty() || pair.private_key.is_empty() {
            check.error(&at, format!("{mode} TLS requires a server certificate and a private key"));
        }
    }
    let has_ca = !tls.ca_certificates.is_empty()
        || !tls.ca_cert_credential_name.is_empty()
        || tls.tls_certificates.iter().any(|c| !c.ca_certificates.is_empty());
    if mutual && !has_ca {
        check.error(&child(path, "caCertificates"), "MUTUAL TLS requires a client CA bundle");
    }
}

fn versions(check: &mut Check<'_>, path: &str, tls: &ServerTlsSettings) {
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if max != TlsProtocol::TlsAuto && (min as u8) > (max as u8) {
        check.error(&child(path, "minProtocolVersion"), "minProtocolVersion is greater than maxProtocolVersion");
    }
    if matches!(min, TlsProtocol::Tlsv1_0 | TlsProtocol::Tlsv1_1) && tls.cipher_suites.is_empty() {
        let message = "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible ciphers.";
        check.warn(&child(path, "minProtocolVersion"), message);
    }
}
