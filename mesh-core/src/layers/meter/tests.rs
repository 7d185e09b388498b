//! Tests of this Layer.
