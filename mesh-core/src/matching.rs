//! Matching: hosts, paths, headers, query parameters. The only matcher there is: proxies, `explain` and `analyze` all
//! call it, and a miss says which condition failed.

mod header_value;
mod host;
mod request;

pub use header_value::HeaderValueTemplate;
pub use host::{Cidr, HostPattern};
pub use request::{HeaderMatch, Miss, QueryMatch, RequestFacts, RequestMatch, StringMatcher};
