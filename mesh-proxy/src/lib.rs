//! Part of the mesh.
pub mod discovery;
