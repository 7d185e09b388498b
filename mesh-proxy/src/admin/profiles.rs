//! `/debug/pprof/`, with the paths of Go's programs: profiles that `pprof`, `go tool pprof` and speedscope read.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::Full;

use super::{AdminState, Port, text};

/// Where they are.
const ROOT: &str = "/debug/pprof/";
/// How long a CPU profile may take, in seconds.
const SECONDS: std::ops::RangeInclusive<u64> = 1..=60;
/// How long it takes if nobody says.
const DEFAULT: u64 = 30;

/// Takes profiles of the process, in pprof's format, packed with gzip.
pub trait Profiles: Send + Sync + 'static {
    /// Where processor time goes during this time.
    fn cpu(&self, now: SystemTime, time: Duration) -> Taking<'_>;
    /// What was allocated, and what is still in use.
    fn heap(&self, now: SystemTime) -> Taking<'_>;
}

/// A profile that is being taken; dropping it gives it up.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, NotTaken>> + Send + 'a>>;

/// Why there is no profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// Another one is being taken.
    Busy,
    /// It did not work.
    Failed(String),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another profile is being taken; one at a time"),
            Self::Failed(why) => write!(f, "the profile could not be taken: {why}"),
        }
    }
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// What there is.
    Index,
    /// A CPU profile of so many seconds, as written.
    Cpu(Option<String>),
    Heap,
    /// Something that is not there.
    Other,
}

/// Whether a request is for here.
pub(super) fn asked(port: Port, uri: &Uri) -> Option<Asked> {
    let path = uri.path();
    let rest = path.strip_prefix(ROOT).or_else(|| (path == ROOT.trim_end_matches('/')).then_some(""))?;
    if port != Port::Admin {
        return None;
    }
    let seconds = || uri.query()?.split('&').find_map(|pair| pair.strip_prefix("seconds=")).map(str::to_owned);
    Some(match rest {
        "" => Asked::Index,
        "profile" => Asked::Cpu(seconds()),
        "heap" => Asked::Heap,
        _ => Asked::Other,
    })
}

pub(super) async fn respond<S: AdminState>(state: &S, asked: Asked) -> Response<Full<Bytes>> {
    let Some(profiles) = state.profiles() else {
        let off = "Profiling is off. Start the program with --profiling, or with MESH_PROFILING=true in its environment: \
                   in a mesh, proxyMetadata of its ProxyConfig, which is read when a proxy starts. An application that \
                   embeds the mesh brings its own profiler.\n";
        return text(StatusCode::NOT_FOUND, off.into());
    };
    let taken = match asked {
        Asked::Index => {
            let all = format!(
                "{ROOT}profile?seconds=N  where processor time goes, for {} to {} s (default {DEFAULT})\n\
                 {ROOT}heap  what has been allocated since the start, and what of it is in use\n",
                SECONDS.start(),
                SECONDS.end()
            );
            return text(StatusCode::OK, all);
        }
        Asked::Other => {
            return text(StatusCode::NOT_FOUND, format!("invalid path; there are {ROOT}profile and {ROOT}heap\n"));
        }
        Asked::Cpu(seconds) => match seconds.as_deref().map_or(Some(DEFAULT), whole_seconds) {
            Some(seconds) => ("profile.pb.gz", profiles.cpu(state.now(), Duration::from_secs(seconds)).await),
            None => {
                let (least, most) = (SECONDS.start(), SECONDS.end());
                let wrong = seconds.unwrap_or_default();
                let body = format!("seconds is a whole number from {least} to {most}, not {wrong:?}\n");
                return text(StatusCode::BAD_REQUEST, body);
            }
        },
        Asked::Heap => ("heap.pb.gz", profiles.heap(state.now()).await),
    };
    match taken {
        (file, Ok(profile)) => download(file, profile),
        (_, Err(NotTaken::Busy)) => text(StatusCode::TOO_MANY_REQUESTS, format!("{}\n", NotTaken::Busy)),
        (_, Err(why)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
    }
}

fn whole_seconds(text: &str) -> Option<u64> {
    text.parse().ok().filter(|seconds| SECONDS.contains(seconds))
}

fn download(file: &'static str, content: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, String::new());
    *response.body_mut() = Full::new(Bytes::from(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{file}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
