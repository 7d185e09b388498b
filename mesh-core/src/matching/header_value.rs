//! Header values with `%VAR%` operators, parsed once.

use std::sync::Arc;

/// A header value as configured. Literal text is the common case; the operators are parsed at compile time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderValueTemplate {
    /// No operator in it; `%%` already is `%`.
    Literal(http::HeaderValue),
    /// Parts to put together per request.
    Parts(Arc<[Part]>),
}

/// A part of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Text.
    Text(Arc<str>),
    /// An operator by name with its argument: `REQ(x-a)` is (`REQ`, `x-a`).
    Operator(Arc<str>, Arc<str>),
}
