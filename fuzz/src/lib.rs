//! Fuzz targets: each takes any bytes, must return, and must not panic. An assertion in a target is a property that has to
//! hold for every input.
//!
//! The inputs are texts wherever that is possible, so that a seed can be read and written by hand. `tests/seeds.rs` runs
//! every target on its seeds and on changed copies of them; `cargo fuzz` runs them for as long as one likes.
#![forbid(unsafe_code)]

mod deltas;
mod identities;
mod jwt;
mod matching;
pub mod mutate;
mod paths;
mod patterns;
mod policy;
mod sniff;
mod wire;
mod yaml;

pub use deltas::deltas;
pub use identities::identities;
pub use jwt::jwt;
pub use matching::matching;
pub use paths::paths;
pub use patterns::patterns;
pub use policy::policy;
pub use sniff::sniff;
pub use wire::wire;
pub use yaml::yaml;

/// A target: name, which is also the name of its folder of seeds, and what to run.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("deltas", deltas),
    ("identities", identities),
    ("jwt", jwt),
    ("matching", matching),
    ("paths", paths),
    ("patterns", patterns),
    ("policy", policy),
    ("sniff", sniff),
    ("wire", wire),
    ("yaml", yaml),
];
