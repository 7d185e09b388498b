//! Part of the mesh.
pub mod localmesh;
