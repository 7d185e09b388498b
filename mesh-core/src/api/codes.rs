//! The codes of what reading and validating say. Istio's own code where Istio has one, `MESHnnnn` otherwise.
//!
//! | code | name | level | meaning |
//! |---|---|---|---|
//! | IST0106 | SchemaValidationError | error | a field has a wrong type or value; the object is quarantined |
//! | IST0130 | VirtualServiceUnreachableRule | warning | a rule of a VirtualService that no request reaches |
//! | IST0131 | VirtualServiceIneffectiveMatch | info | a match that an earlier rule takes |
//! | IST0133 | SchemaWarning | warning | accepted, with a warning from validation |
//! | MESH0001 | SyntaxError | error | a document is not YAML or JSON |
//! | MESH0002 | InvalidObject | error | apiVersion, kind or metadata are missing or wrong |
//! | MESH0003 | KindNotReadYet | warning | nothing reads this kind yet |
//! | MESH0004 | UnknownField | warning | Istio has no such field and ignores it |
//! | MESH0005 | InertField | info | a Kubernetes field that the local mesh does not honour |
//! | MESH0006 | VersionNotServed | error | the kind exists, but not in this apiVersion |

use super::{Key, Origin};
use crate::report::{Level, Report};

/// A kind of message: its code, name and level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    /// Code.
    pub code: &'static str,
    /// Name.
    pub name: &'static str,
    /// Severity.
    pub level: Level,
}

impl Code {
    const fn new(code: &'static str, name: &'static str, level: Level) -> Self {
        Self { code, name, level }
    }

    /// A report of this kind.
    pub fn report(self, (key, origin): (&Key, &Origin), field: &str, message: impl Into<String>) -> Report {
        Report::new(self.code, self.name, self.level, (key, origin), field, message.into())
    }
}

/// A field has a wrong type or value.
pub const SCHEMA: Code = Code::new("IST0106", "SchemaValidationError", Level::Error);
/// A document is not YAML or JSON.
pub const SYNTAX: Code = Code::new("MESH0001", "SyntaxError", Level::Error);
/// `apiVersion`, `kind` or `metadata` are missing or wrong.
pub const OBJECT: Code = Code::new("MESH0002", "InvalidObject", Level::Error);
/// Nothing reads this kind yet.
pub const KIND: Code = Code::new("MESH0003", "KindNotReadYet", Level::Warning);
/// Istio has no such field.
pub const UNKNOWN: Code = Code::new("MESH0004", "UnknownField", Level::Warning);
/// A Kubernetes field without effect in the local mesh.
pub const INERT: Code = Code::new("MESH0005", "InertField", Level::Info);
/// The kind exists, but not in this version.
pub const VERSION: Code = Code::new("MESH0006", "VersionNotServed", Level::Error);
/// Accepted, with a warning.
pub const WARNING: Code = Code::new("IST0133", "SchemaWarning", Level::Warning);
/// A rule that no request reaches.
pub const UNREACHABLE: Code = Code::new("IST0130", "VirtualServiceUnreachableRule", Level::Warning);
/// A match that an earlier rule takes.
pub const INEFFECTIVE: Code = Code::new("IST0131", "VirtualServiceIneffectiveMatch", Level::Info);
