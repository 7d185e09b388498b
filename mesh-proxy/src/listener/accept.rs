//! Accept loops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Door, Engine, Shared};
use crate::net::{Listener, Net};

/// Pause after an error that concerns the whole process (descriptors used up): accepting again at once would spin.
const PAUSE: Duration = Duration::from_millis(20);

/// Accepts until `stop` is dropped or sent; then the listener is closed. Connections run on as tasks of this runtime.
pub(crate) async fn accept<N, H>(
    shared: Arc<Shared<N, H>>,
    mut listener: N::Listener,
    door: Door,
    mut stop: oneshot::Receiver<()>,
) where
    N: Net,
    H: Engine<N::Stream>,
{
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                tokio::spawn(shared.clone().serve(stream, door));
            }
            Err(error) if concerns_connection(&error) => {}
            Err(error) => {
                tracing::warn!(?door, %error, "can't accept connections");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The client gave up before we got to it.
fn concerns_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
