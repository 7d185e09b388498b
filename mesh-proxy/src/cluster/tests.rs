//! Balancers and endpoint sets.
