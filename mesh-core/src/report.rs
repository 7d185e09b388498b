//! What the mesh says about configuration: [`Report`]s (something is wrong or worth knowing) and [`Fate`]s (what became
//! of each field).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::{Key, Origin, Span};

/// How bad it is; the order is the order of severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Probably not what was meant; the object is in force.
    Warning,
    /// Wrong: the object is quarantined, or can't do what it says.
    Error,
}

/// One message about one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Stable code: Istio's `ISTnnnn` where Istio has one, ours `MESHnnnn` otherwise.
    pub code: Arc<str>,
    /// Istio's name of the message (`ReferencedResourceNotFound`).
    pub name: Arc<str>,
    /// Severity.
    pub level: Level,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The object it is about.
    pub object: Key,
    /// The field it is about (`spec.http[0].route[0].destination.host`); empty for the whole object.
    pub field: Arc<str>,
    /// File of the object, as the user gave it; empty for live objects.
    pub file: Arc<str>,
    /// Place of the field in the file.
    pub span: Span,
    /// What to write instead, if that is known.
    pub fix: Option<String>,
}

impl Report {
    /// A report about `field` of the object with that key and origin.
    pub fn new(
        code: &str,
        name: &str,
        level: Level,
        (object, origin): (&Key, &Origin),
        field: &str,
        message: String,
    ) -> Self {
        let file = match &origin.source {
            crate::api::Source::File { path, .. } => path.clone(),
            crate::api::Source::Live | crate::api::Source::Generated(_) => "".into(),
        };
        Self {
            code: code.into(),
            name: name.into(),
            level,
            message,
            object: object.clone(),
            field: field.into(),
            file,
            span: origin.at(field),
            fix: None,
        }
    }

    /// The same report with what to write instead.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}:{}: ", self.file, self.span.line, self.span.column)?;
        }
        write!(f, "{:?} [{}] ({}) {}", self.level, self.code, self.object, self.message)?;
        if let Some(fix) = &self.fix {
            write!(f, " ({fix})")?;
        }
        Ok(())
    }
}

/// What became of a field that a user wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is part of a plan.
    Consumed,
    /// Something else decides, named as `VirtualService ns/name field` or a rule in words.
    Overridden {
        /// Who or what decides instead.
        by: Arc<str>,
    },
    /// It can't have an effect here.
    Inert {
        /// Why not.
        because: Arc<str>,
    },
    /// It is read and validated, but this version does not act on it.
    #[serde(rename_all = "camelCase")]
    NotInForceYet {
        /// The part of the mesh that is still to come: `tracing`.
        belongs_to: Arc<str>,
    },
}

/// The fate of one field of one object, for the proxy or the mesh that was compiled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    /// The object.
    pub object: Key,
    /// Path of the leaf (`spec.http[0].timeout`).
    pub field: Arc<str>,
    /// What became of it.
    pub outcome: Outcome,
}
