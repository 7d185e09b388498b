//! The pure half of the mesh: Istio's resources, the model they are converted to, the compiled plan, and the
//! decisions that sidecar, gateway, embedded library and command line all take from it.
//!
//! ```text
//! YAML / kube --parse--> Object --convert--> Model --> World --scope(proxy)--> Resources ==delta==> Snapshot
//!              api, yaml           model       world         scope               wire        snapshot
//! ```
//!
//! Nothing here opens a socket or a file, reads the clock or draws a random number: what a step needs comes in as
//! an argument (see [`mod@env`]), so each step can be tested as a table and run offline by `meshctl explain`.

pub mod analyze;
pub mod api;
pub mod attach;
pub mod balance;
mod base64;
pub mod compile;
pub mod convert;
pub mod decide;
pub mod endpoints;
pub mod env;
pub mod error;
// It says what the Layers do by asking them.
#[cfg(feature = "layers")]
pub mod explain;
#[cfg(test)]
mod fixtures;
pub mod identity;
pub mod keepalive;
#[cfg(feature = "layers")]
pub mod layers;
pub mod matching;
pub mod model;
#[cfg(feature = "layers")]
pub mod outlier;
pub mod peer;
pub mod proxy_config;
pub mod record;
pub mod report;
pub mod scope;
pub mod snapshot;
pub mod validate;
pub mod wire;
pub mod world;
pub mod yaml;
