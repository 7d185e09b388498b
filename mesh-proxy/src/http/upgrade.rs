//! WebSocket: after a 101 from the upstream the connection carries bytes both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Request as HttpRequest, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_core::layers::MeterBody;
use mesh_core::record::{Cx, Flag};
use mesh_policy::layers::Tenure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;

use super::dispatch::Answer;
use super::exchange::without_body;
use super::rules::names_upgrade;
use crate::drain::Drain;
use crate::pool::Switched;
use crate::tcp;
use crate::tcp::relay::End;

/// Whether the head of a request asks for the one upgrade that is let through.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|token| token.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(CONNECTION).iter().any(|v| names_upgrade(v.as_bytes()))
}

/// The client's half of an upgrade that was asked for.
pub(super) struct Tunnel(OnUpgrade);

impl Tunnel {
    pub(super) fn asked_for(request: &mut HttpRequest<Incoming>) -> Option<Self> {
        asks_for_websocket(request.headers()).then(|| Self(hyper::upgrade::on(request)))
    }

    /// Joins both connections if the upstream agreed; otherwise the client's connection ends with the answer, because it
    /// may already be speaking the new protocol.
    pub(super) fn settle(self, mut answer: Answer, cx: &Arc<Cx>, limits: TunnelLimits, drain: &Drain) -> Answer {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(upstream) = Switching::of(&mut answer) {
                let tenure = answer.extensions_mut().remove::<Tenure>();
                let (head, meter) = answer.into_parts();
                tokio::spawn(relay((self.0, upstream), meter, Arc::clone(cx), limits, (drain.clone(), tenure)));
                return Answer::from_parts(head, MeterBody::unmetered());
            }
            return answer;
        }
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        if answer.status() == StatusCode::OK {
            let _ = cx.details.set("websocket_handshake_unsuccessful".into());
            return without_body(answer);
        }
        answer
    }
}

/// The upstream's half, which its codec gives in its own way.
enum Switching {
    Http1(OnUpgrade),
    Http2(Switched),
}

impl Switching {
    fn of(answer: &mut Answer) -> Option<Self> {
        let extensions = answer.extensions_mut();
        let http1 = extensions.remove::<OnUpgrade>().map(Self::Http1);
        http1.or_else(|| extensions.remove::<Switched>().map(Self::Http2))
    }

    async fn done(self) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send> {
        match self {
            Self::Http1(upgrade) => upgrade.await.ok().map(|upgraded| Either::Left(TokioIo::new(upgraded))),
            Self::Http2(switched) => switched.take().map(Either::Right),
        }
    }
}

/// How long a tunnel may be idle, and last: `httpStreamIdleTimeout`, `httpMaxStreamDuration`.
#[derive(Clone, Copy, Default)]
pub(super) struct TunnelLimits {
    pub(super) idle: Option<Duration>,
    pub(super) total: Option<Duration>,
}

/// The request lasts as long as the tunnel; how it ends is how Envoy logs it.
async fn relay(
    (client, upstream): (OnUpgrade, Switching),
    meter: MeterBody,
    cx: Arc<Cx>,
    limits: TunnelLimits,
    (drain, tenure): (Drain, Option<Tenure>),
) {
    let _open = drain.enter_alone();
    let sent = AtomicU64::new(0);
    let (Ok(client), Some(mut upstream)) = tokio::join!(client, upstream.done()) else { return meter.abandon(0) };
    let mut client = TokioIo::new(client);
    let relayed = tcp::relay::relay(&mut client, &mut upstream, limits.idle, (&cx.request_bytes, &sent));
    let limited = async {
        match limits.total {
            Some(limit) => tokio::time::timeout(limit, relayed).await.ok(),
            None => Some(relayed.await),
        }
    };
    let refused = async {
        match tenure {
            Some(tenure) => tenure.refused().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = limited => ended,
        // It may not go on: its connection, or itself.
        () = drain.revoked() => Some(End::Finished),
        () = refused => Some(End::Finished),
    };
    let sent = sent.load(Ordering::Relaxed);
    match ended {
        Some(End::Finished) => meter.abandon(sent),
        Some(End::Downstream(error) | End::Upstream(error)) => {
            tracing::trace!(%error, "tunnel");
            meter.abandon(sent);
        }
        Some(End::Idle) => {
            cx.flag(Flag::Si);
            let _ = cx.details.set("stream_idle_timeout".into());
            meter.finish(sent);
        }
        None => {
            let _ = cx.details.set("max_duration_timeout".into());
            meter.finish(sent);
        }
    }
}
