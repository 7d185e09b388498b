//! Matching: hosts, paths, headers, query parameters. The only matcher there is: proxies, `explain` and `analyze` all
//! call it, and a miss says which condition failed.

mod claims;
mod header_value;
mod host;
mod paths;
mod policy;
mod regex;
mod request;
mod table;

pub use self::regex::Regex;
pub use claims::{CLAIM_PREFIX, ClaimMatch, Claims};
pub use header_value::{HeaderValueTemplate, Part};
pub use host::{Cidr, HostPattern, host_without_port};
pub use paths::PathIndex;
pub use policy::{HeaderKey, PathTemplate, PolicyAttribute};
pub use request::{HeaderMatch, Miss, QueryMatch, RequestFacts, RequestMatch, StringMatcher};
