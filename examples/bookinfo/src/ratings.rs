//! ratings: how many stars each reviewer gives a book. Ratings sent by POST live as long as the process.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::reply::{self, Reply};

/// Most products whose ratings are kept; a POST for one more is refused, so that nobody can fill the memory.
const MOST_PRODUCTS: usize = 1000;

/// Stars from 1 to 5 by reviewer.
pub(crate) type Stars = BTreeMap<String, i64>;

/// The answer of `/ratings/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProductRatings {
    pub(crate) id: serde_json::Value,
    pub(crate) ratings: Stars,
}

/// The service and what was posted to it.
#[derive(Default)]
pub(crate) struct Ratings {
    posted: Mutex<HashMap<u32, Stars>>,
}

impl Ratings {
    /// Answers one request.
    pub(crate) fn handle(&self, request: &Parts, body: &Bytes) -> Reply {
        let path = request.uri.path();
        let Some(id) = path.strip_prefix("/ratings/") else {
            return match path {
                "/health" if reply::is_get(&request.method) => reply::healthy("Ratings"),
                "/health" => reply::wrong_method("GET"),
                _ => reply::not_found(request),
            };
        };
        match reply::product_id(id) {
            Err(refusal) => *refusal,
            Ok(id) if reply::is_get(&request.method) => answer(id, self.stars(id)),
            Ok(id) if request.method == Method::POST => self.post(id, body),
            Ok(_) => reply::wrong_method("GET, POST"),
        }
    }

    fn posted(&self) -> MutexGuard<'_, HashMap<u32, Stars>> {
        // The map is whole after every step.
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stars(&self, id: u32) -> Stars {
        let posted = self.posted().get(&id).cloned();
        posted.unwrap_or_else(|| Stars::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)]))
    }

    fn post(&self, id: u32, body: &Bytes) -> Reply {
        let Ok(stars) = serde_json::from_slice::<Stars>(body) else {
            let message = "the body must be JSON with stars by reviewer, such as {\"Reviewer1\": 5}";
            return reply::json_error(StatusCode::BAD_REQUEST, message);
        };
        let mut posted = self.posted();
        if posted.len() >= MOST_PRODUCTS && !posted.contains_key(&id) {
            return reply::json_error(StatusCode::INSUFFICIENT_STORAGE, "too many products have ratings already");
        }
        posted.insert(id, stars.clone());
        answer(id, stars)
    }
}

fn answer(id: u32, ratings: Stars) -> Reply {
    reply::json(StatusCode::OK, &ProductRatings { id: id.into(), ratings })
}
