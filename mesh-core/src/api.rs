//! Resources as users write them: Kubernetes' and Istio's own kinds, with where each field was written.

mod meta;

pub use meta::{ContentHash, Key, Kind, Meta, Object, Origin, Source, Span, Spans};
