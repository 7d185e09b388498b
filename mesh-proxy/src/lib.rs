//! Part of the mesh.
pub mod admin;
pub mod discovery;
pub mod telemetry;
