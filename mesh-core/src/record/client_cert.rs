//! What `x-forwarded-client-cert` says about the peer of a connection.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;

use super::PeerCertificate;
use crate::snapshot::XfccDetails;

/// Writes an element: the own URI, the peer, and what is to be said of it.
type Write = fn(Option<&str>, &PeerCertificate, XfccDetails) -> String;

/// How a peer is named in `x-forwarded-client-cert`. The element is written when a request first wants it and kept for the
/// next ones; a request that wants other details, because the configuration has changed while the connection was open, has it
/// written anew.
pub struct ClientCert {
    write: Write,
    last: Mutex<Option<(XfccDetails, Option<HeaderValue>)>>,
}

impl ClientCert {
    /// Elements that `write` writes. One that can't be in a header says nothing.
    pub fn new(write: Write) -> Self {
        Self { write, last: Mutex::new(None) }
    }

    /// The element for a peer, which is the same at each call.
    pub(super) fn element(
        &self,
        by: Option<&str>,
        peer: &PeerCertificate,
        details: XfccDetails,
    ) -> Option<HeaderValue> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, element)) if *of == details => element.clone(),
            _ => {
                let element = HeaderValue::try_from((self.write)(by, peer, details)).ok();
                *last = Some((details, element.clone()));
                element
            }
        }
    }
}

impl Clone for ClientCert {
    fn clone(&self) -> Self {
        Self::new(self.write)
    }
}

/// What was said last is no part of what it is.
impl PartialEq for ClientCert {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.write, other.write)
    }
}

impl Eq for ClientCert {}

impl fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCert")
    }
}
