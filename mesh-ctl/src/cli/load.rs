//! `meshctl load`: requests in numbers, with fortio's flags and figures.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::Outcome;
use super::apply::Output;
use super::client::block_on;
use super::explain::header;
use crate::load::{GrpcMethod, Plan, Protocol, Settings, Sockets, Timer, TlsSettings, callers, run as generate};

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `http[s]://HOST[:PORT][/PATH]`; for gRPC only host and port count.
    url: Uri,
    /// Connections at a time; each sends its next request when it has the answer to the last one.
    #[arg(short, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Requests in all; 0: as many as the time allows.
    #[arg(short = 'n', default_value_t = 0, value_name = "COUNT")]
    requests: u64,
    /// Requests per second of all connections together; 0: as fast as the answers come.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate)]
    qps: f64,
    /// With --qps: count the time until an answer from when its request was due, not from when a connection was free to send
    /// it.
    #[arg(long, requires = "qps")]
    corrected: bool,
    /// How long, as 30s; 0: until -n or Ctrl-C. Default: 5s without -n, else 0.
    #[arg(short = 't', value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// A header, as `end-user: jason`; can be given again.
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Method; default GET, POST with a payload.
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// Body of each request.
    #[arg(short = 'd', long, value_name = "TEXT", default_value = "")]
    payload: String,
    /// A body of this many bytes.
    #[arg(long, value_name = "BYTES", conflicts_with = "payload")]
    payload_size: Option<usize>,
    /// Longest time until an answer is complete.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Use a connection for more than one request.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    keepalive: bool,
    /// HTTP/2: with prior knowledge, over TLS by ALPN.
    #[arg(long, conflicts_with_all = ["http10", "grpc", "ping"])]
    h2: bool,
    /// HTTP/1.0: a connection for each request.
    #[arg(long = "http1.0", conflicts_with_all = ["grpc", "ping"])]
    http10: bool,
    /// gRPC: the standard health check.
    #[arg(long, visible_alias = "health")]
    grpc: bool,
    /// gRPC: fortio's ping, which sends the payload there and back.
    #[arg(long)]
    ping: bool,
    /// Service whose health is asked; default: the server's.
    #[arg(long, value_name = "NAME", default_value = "", requires = "grpc")]
    healthservice: String,
    /// https: accept every certificate.
    #[arg(short = 'k', long)]
    insecure: bool,
    /// https: authorities that may sign the server's certificate, as PEM; default: the system's.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// https: the client's own certificate chain, as PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// https: its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Connect to this address; the URL's host is only a name, as in Host and SNI.
    #[arg(long, value_name = "ADDRESS")]
    resolve: Option<IpAddr>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Read, so that command lines for fortio work; there is nothing to log.
    #[arg(long, hide = true)]
    loglevel: Option<String>,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    mesh_core::api::Duration::from_str(text).map(Into::into)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r: &f64| r.is_finite() && *r >= 0.0);
    rate.ok_or_else(|| format!("{text:?} is no rate; write requests per second, as 100, or 0 for no limit"))
}

/// fortio has long flags with one dash (`-qps 0`); after the verb `load` they get their second one.
pub(super) fn dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const LONG: [&str; 16] = [
        "qps",
        "payload",
        "payload-size",
        "timeout",
        "keepalive",
        "h2",
        "http1.0",
        "grpc",
        "health",
        "ping",
        "healthservice",
        "loglevel",
        "cacert",
        "cert",
        "key",
        "resolve",
    ];
    let mut args: Vec<OsString> = args.collect();
    let verb = args.iter().skip(1).position(|a| !a.to_string_lossy().starts_with('-')).map(|i| i + 1);
    // The first word may be the value of `--name`.
    let is_load = |i: &usize| args.get(*i).is_some_and(|a| a == "load");
    let Some(at) = verb.into_iter().flat_map(|i| [i, i + 1]).find(is_load) else { return args };
    for arg in &mut args[at + 1..] {
        let text = arg.to_string_lossy().into_owned();
        let name = text.strip_prefix('-').map(|t| t.split('=').next().unwrap_or(t));
        if name.is_some_and(|n| LONG.contains(&n)) {
            *arg = format!("-{text}").into();
        }
    }
    args
}

pub(super) fn run(args: Args) -> Outcome {
    let protocol = match () {
        () if args.ping => Protocol::Grpc(GrpcMethod::Ping(args.payload.clone())),
        () if args.grpc => Protocol::Grpc(GrpcMethod::Health(args.healthservice)),
        () if args.h2 => Protocol::Http2,
        () if args.http10 => Protocol::Http10,
        () => Protocol::Http11,
    };
    let body = match args.payload_size {
        Some(size) => Bytes::from(vec![b'x'; size]),
        None => Bytes::from(args.payload),
    };
    let default = if body.is_empty() { Method::GET } else { Method::POST };
    let mut headers = HeaderMap::new();
    for (name, value) in args.headers {
        headers.append(name, value);
    }
    let time = match args.time {
        None if args.requests == 0 => Some(Duration::from_secs(5)),
        time => time.filter(|t| !t.is_zero()),
    };
    let plan = Plan {
        requests: (args.requests > 0).then_some(args.requests),
        qps: (args.qps > 0.0).then_some(args.qps),
        corrected: args.corrected,
        time,
    };
    let settings = Settings {
        proxy: proxy(&args.url, &|name| std::env::var(name).ok()),
        uri: args.url.clone(),
        resolve: args.resolve,
        tls: TlsSettings { insecure: args.insecure, authorities: args.cacert, identity: args.cert.zip(args.key) },
        method: args.method.unwrap_or(default),
        headers,
        body,
        keep_alive: args.keepalive && protocol != Protocol::Http10,
        protocol,
        timeout: args.timeout,
    };
    let (name, count) = (settings.protocol.name(), usize::from(args.connections));
    block_on(async {
        let sockets = Sockets::default();
        let callers = callers(settings, count, &sockets)?;
        let stop = async {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without the signal it still ends by count or time.
                std::future::pending::<()>().await;
            }
        };
        let figures = generate(&plan, callers, Timer::fine, stop).await;
        let report = figures.report(&args.url.to_string(), name, count, sockets.count());
        match args.output {
            Output::Json => super::print_json(&report)?,
            Output::Text => {
                super::print(&report.to_string());
                0
            }
        };
        Ok(u8::from(figures.failed() > 0))
    })
}

/// The proxy that the environment names for this URL: in a pod of a mesh in explicit mode, the sidecar.
fn proxy(url: &Uri, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let of = |name: &str| variable(name).filter(|v| !v.is_empty());
    let host = url.host()?;
    let not = of("no_proxy").or_else(|| of("NO_PROXY")).unwrap_or_default();
    let excluded = |entry: &str| {
        let entry = entry.trim().trim_start_matches('.');
        entry == "*" || entry == host || (!entry.is_empty() && host.ends_with(&format!(".{entry}")))
    };
    if not.split(',').any(excluded) {
        return None;
    }
    let https = url.scheme_str() == Some("https");
    let proxy = if https { of("https_proxy").or_else(|| of("HTTPS_PROXY")) } else { of("http_proxy") }?;
    let text = proxy.strip_prefix("http://").unwrap_or(&proxy);
    Some(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_fortio_are_understood() {
        let words = |line: &str| dashes(line.split(' ').map(OsString::from)).join(std::ffi::OsStr::new(" "));
        assert_eq!(
            words("meshctl load -c 3 -qps 0 -n 30 -keepalive=false -loglevel Warning http://x"),
            "meshctl load -c 3 --qps 0 -n 30 --keepalive=false --loglevel Warning http://x"
        );
        assert_eq!(words("meshctl --name m load -h2 http://x"), "meshctl --name m load --h2 http://x");
        assert_eq!(words("meshctl exec a -- meshctl load -qps 1"), "meshctl exec a -- meshctl load -qps 1");
    }

    #[test]
    fn the_proxy_of_the_environment() {
        let ask = |url: &str| {
            let variable = |name: &str| match name {
                "http_proxy" => Some("http://127.0.0.1:15001/".to_owned()),
                "no_proxy" => Some("localhost,.local".to_owned()),
                _ => None,
            };
            proxy(&url.parse().unwrap(), &variable)
        };
        assert_eq!(ask("http://reviews:9080/").as_deref(), Some("127.0.0.1:15001"));
        assert_eq!((ask("http://localhost/"), ask("http://a.local/")), (None, None));
    }
}
