//! The order of the Layers, pinned.
