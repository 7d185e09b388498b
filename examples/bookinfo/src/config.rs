//! What one process is and where it finds the others: one word on the command line, the rest from the environment.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::client::Endpoint;
use crate::reviews::Version;

/// Printed by `--help` and after a wrong command line.
pub(crate) const USAGE: &str = "\
usage: bookinfo productpage|details|reviews|ratings [--port N] [--version v1|v2|v3] [--embedded]

  --embedded           be a member of the mesh: serve and call through the library, without a sidecar

environment:
  PORT                 port to listen on (default 9080)
  BIND                 address to listen on (default [::], or 0.0.0.0 without IPv6)
  SERVICE_VERSION      reviews: v1 shows no stars, v2 black stars, v3 red stars (default v1)
  DETAILS_HOSTNAME, REVIEWS_HOSTNAME, RATINGS_HOSTNAME
                       host names of the other services (default details, reviews, ratings)
  SERVICES_DOMAIN      appended to these names after a dot
  DETAILS_SERVICE_PORT, REVIEWS_SERVICE_PORT, RATINGS_SERVICE_PORT
                       their ports (default 9080)
  HOSTNAME             pod name shown in answers (default: the host name)
  CLUSTER_NAME         cluster name shown in answers
  http_proxy           send requests to the other services through this HTTP proxy";

const DEFAULT_PORT: u16 = 9080;

/// Which of the four services this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    ProductPage,
    Details,
    Reviews,
    Ratings,
}

impl Service {
    /// The word that selects the service on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ProductPage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::ProductPage, Self::Details, Self::Reviews, Self::Ratings]
            .into_iter()
            .find(|service| service.name() == word)
    }
}

/// Everything a service process is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) service: Service,
    /// The mesh is a part of this process.
    pub(crate) embedded: bool,
    pub(crate) version: Version,
    /// `None`: all addresses, IPv6 and IPv4 where the host has both.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) details: Endpoint,
    pub(crate) reviews: Endpoint,
    pub(crate) ratings: Endpoint,
    /// Requests to the other services go through this HTTP proxy.
    pub(crate) proxy: Option<Endpoint>,
    pub(crate) pod: String,
    pub(crate) cluster: Option<String>,
}

/// Why a process does not start as a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoService {
    /// Help was asked for.
    Help,
    /// The command line or the environment is wrong; says what to write instead.
    Wrong(String),
}

/// Reads the command line (without the program's name) and the environment.
pub(crate) fn read(
    args: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, NoService> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut port = env("PORT").map(|value| ("PORT", value));
    let mut version = env("SERVICE_VERSION").map(|value| ("SERVICE_VERSION", value));
    let (mut service, mut embedded) = (None, false);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (flag, inline) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let mut value = || inline.clone().or_else(|| args.next()).ok_or_else(|| wrong(format!("{flag} needs a value")));
        match flag {
            "-h" | "--help" => return Err(NoService::Help),
            "--port" => port = Some(("--port", value()?)),
            "--embedded" => embedded = true,
            "--version" => version = Some(("--version", value()?)),
            _ if service.is_none() => {
                service = Some(Service::parse(&arg).ok_or_else(|| wrong(format!("no service is called `{arg}`")))?);
            }
            _ => return Err(wrong(format!("unexpected argument `{arg}`"))),
        }
    }
    let service = service.ok_or_else(|| wrong("which service? The first argument names it".to_owned()))?;
    Ok(Config {
        service,
        embedded,
        version: reviews_version(service, version)?,
        bind: env("BIND").map(|value| bind_address(&value)).transpose()?,
        port: port.map_or(Ok(DEFAULT_PORT), |(source, value)| parse_port(source, &value))?,
        details: endpoint(&env, "DETAILS", "details")?,
        reviews: endpoint(&env, "REVIEWS", "reviews")?,
        ratings: endpoint(&env, "RATINGS", "ratings")?,
        proxy: env("http_proxy").map(|value| proxy_address(&value)).transpose()?,
        pod: env("HOSTNAME").unwrap_or_else(host_name),
        cluster: env("CLUSTER_NAME"),
    })
}

fn wrong(message: String) -> NoService {
    NoService::Wrong(message)
}

/// Only reviews has versions that behave differently; the others may carry any version label.
fn reviews_version(service: Service, given: Option<(&str, String)>) -> Result<Version, NoService> {
    match given {
        Some((source, value)) if service == Service::Reviews => {
            Version::parse(&value).ok_or_else(|| wrong(format!("{source} is `{value}`; write v1, v2 or v3")))
        }
        _ => Ok(Version::V1),
    }
}

fn parse_port(source: &str, value: &str) -> Result<u16, NoService> {
    value.parse().map_err(|_| wrong(format!("{source} is `{value}`; write a port number from 0 to 65535")))
}

fn bind_address(value: &str) -> Result<IpAddr, NoService> {
    let bare = value.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_err(|_| wrong(format!("BIND is `{value}`; write an IP address such as 127.0.0.1")))
}

fn endpoint(env: &impl Fn(&str) -> Option<String>, prefix: &str, default_host: &str) -> Result<Endpoint, NoService> {
    let mut host = env(&format!("{prefix}_HOSTNAME")).unwrap_or_else(|| default_host.to_owned());
    if let Some(domain) = env("SERVICES_DOMAIN") {
        host = format!("{host}.{domain}");
    }
    let variable = format!("{prefix}_SERVICE_PORT");
    let port = env(&variable).map_or(Ok(DEFAULT_PORT), |value| parse_port(&variable, &value))?;
    Ok(Endpoint { host, port })
}

fn proxy_address(value: &str) -> Result<Endpoint, NoService> {
    let authority = value.strip_prefix("http://").unwrap_or(value).trim_end_matches('/');
    let parsed = authority.parse::<http::uri::Authority>().ok().filter(|authority| !authority.host().is_empty());
    let parsed = parsed.ok_or_else(|| wrong(format!("http_proxy is `{value}`; write http://ADDRESS:PORT")))?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Endpoint { host, port: parsed.port_u16().unwrap_or(80) })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}
