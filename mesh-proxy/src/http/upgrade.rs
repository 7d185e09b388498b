//! WebSocket: after a 101 from the upstream the connection carries bytes both ways.

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request as HttpRequest, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_core::layers::MeterBody;
use mesh_core::record::Cx;

use super::exchange::{Answer, without_body};
use super::rules::names_upgrade;

/// The client's half of an upgrade that was asked for.
pub(super) struct Tunnel(OnUpgrade);

impl Tunnel {
    pub(super) fn asked_for(request: &mut HttpRequest<Incoming>) -> Option<Self> {
        let token = request.headers().get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
        let asked = token && request.headers().get_all(CONNECTION).iter().any(|v| names_upgrade(v.as_bytes()));
        asked.then(|| Self(hyper::upgrade::on(request)))
    }

    /// Joins both connections if the upstream agreed; otherwise the client's connection ends with the answer, because it
    /// may already be speaking the new protocol.
    pub(super) fn settle(self, mut answer: Answer, cx: &Cx) -> Answer {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(upstream) = answer.extensions_mut().remove::<OnUpgrade>() {
                let (head, meter) = answer.into_parts();
                tokio::spawn(relay(self.0, upstream, meter));
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

/// The request lasts as long as the tunnel; how it ends is how Envoy logs it.
async fn relay(client: OnUpgrade, upstream: OnUpgrade, meter: MeterBody) {
    if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        match tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
            Ok((_, sent)) => meter.abandon(sent),
            Err(error) => {
                tracing::trace!(%error, "tunnel");
                meter.abandon(0);
            }
        }
    } else {
        meter.abandon(0);
    }
}
