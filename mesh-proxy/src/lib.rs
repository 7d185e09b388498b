//! Part of the mesh.
pub mod discovery;
pub mod telemetry;
