//! details: facts about a book.

use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::reply::{self, Reply};

/// The answer of `/details/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) id: u32,
    pub(crate) author: String,
    pub(crate) year: i32,
    #[serde(rename = "type")]
    pub(crate) binding: String,
    pub(crate) pages: u32,
    pub(crate) publisher: String,
    pub(crate) language: String,
    #[serde(rename = "ISBN-10")]
    pub(crate) isbn_10: String,
    #[serde(rename = "ISBN-13")]
    pub(crate) isbn_13: String,
}

impl Details {
    /// The shop has one book, under every id.
    pub(crate) fn of(id: u32) -> Self {
        Self {
            id,
            author: "William Shakespeare".to_owned(),
            year: 1595,
            binding: "paperback".to_owned(),
            pages: 200,
            publisher: "PublisherA".to_owned(),
            language: "English".to_owned(),
            isbn_10: "1234567890".to_owned(),
            isbn_13: "123-1234567890".to_owned(),
        }
    }
}

/// Answers one request.
pub(crate) fn handle(request: &Parts) -> Reply {
    let path = request.uri.path();
    match path.strip_prefix("/details/") {
        _ if !reply::is_get(&request.method) => reply::wrong_method("GET"),
        None if path == "/health" => reply::healthy("Details"),
        None => reply::not_found(request),
        Some(id) => match reply::product_id(id) {
            Ok(id) => reply::json(StatusCode::OK, &Details::of(id)),
            Err(refusal) => *refusal,
        },
    }
}
