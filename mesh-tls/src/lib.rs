//! Part of the mesh.
