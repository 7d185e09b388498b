//! Programs without a sidecar, to copy from. Each takes a [`Mesh`](mesh_proxy::Mesh); `main.rs` starts one and ends it.

pub mod batch;
pub mod catalog;
pub mod fetch;
pub mod stock;
pub mod words;

/// What may go wrong.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
