//! productpage: the page that users see, made from what details and reviews answer.

mod page;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::client::{Client, Endpoint, Failure};
use crate::config::Config;
use crate::headers;
use crate::reply::{self, Reply};
use page::{Page, Part};

/// How long the page waits for one answer of another service.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often reviews is asked before the page gives up; the others are asked once.
const REVIEWS_TRIES: usize = 2;

const STYLE: &str = include_str!("../static/style.css");
const ICON: &str = include_str!("../static/icon.svg");

/// The service.
pub(crate) struct ProductPage {
    pod: String,
    details: Endpoint,
    reviews: Endpoint,
    ratings: Endpoint,
    client: Client,
}

impl ProductPage {
    pub(crate) fn new(config: &Config, client: Client) -> Self {
        Self {
            pod: config.pod.clone(),
            details: config.details.clone(),
            reviews: config.reviews.clone(),
            ratings: config.ratings.clone(),
            client,
        }
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, request: &Parts, body: &Bytes) -> Reply {
        let path = request.uri.path();
        if let Some(rest) = path.strip_prefix("/api/v1/products") {
            return self.api(request, rest).await;
        }
        let get = reply::is_get(&request.method);
        match path {
            "/login" if request.method == Method::POST => log_in(body),
            "/login" => reply::wrong_method("POST"),
            "/" | "/index.html" | "/productpage" | "/logout" | "/health" | "/static/style.css" | "/static/icon.svg"
                if !get =>
            {
                reply::wrong_method("GET")
            }
            "/" | "/index.html" => reply::page(page::landing(&self.services())),
            "/productpage" => reply::page(self.product(request).await),
            "/logout" => reply::redirect_with_cookie("/productpage", session::LOGGED_OUT),
            "/health" => reply::healthy("Product page"),
            "/static/style.css" => static_file("text/css; charset=utf-8", STYLE),
            "/static/icon.svg" => static_file("image/svg+xml", ICON),
            _ => reply::not_found(request),
        }
    }

    async fn product(&self, request: &Parts) -> String {
        let user = session::user(&request.headers);
        let headers = headers_for(request, user.as_deref());
        let (details, reviews) =
            tokio::join!(self.ask(Part::Details, 0, &headers), self.ask(Part::Reviews, 0, &headers));
        page::product(&Page {
            user: user.as_deref(),
            details: details.ok().and_then(|body| read(Part::Details, &body)),
            reviews: reviews.ok().and_then(|body| read(Part::Reviews, &body)),
            pod: &self.pod,
        })
    }

    /// `rest` is the path after `/api/v1/products`.
    async fn api(&self, request: &Parts, rest: &str) -> Reply {
        let segments: Vec<&str> = rest.strip_prefix('/').unwrap_or(rest).split('/').collect();
        let (id, part) = match segments.as_slice() {
            _ if !rest.is_empty() && !rest.starts_with('/') => return reply::not_found(request),
            _ if !reply::is_get(&request.method) => return reply::wrong_method("GET"),
            [""] => return reply::json(StatusCode::OK, &[page::PRODUCT]),
            [id] => (id, Part::Details),
            [id, "reviews"] => (id, Part::Reviews),
            [id, "ratings"] => (id, Part::Ratings),
            _ => return reply::not_found(request),
        };
        let id = match reply::product_id(id) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let user = session::user(&request.headers);
        match self.ask(part, id, &headers_for(request, user.as_deref())).await {
            Ok(body) => reply::content(StatusCode::OK, "application/json", body),
            Err(Failure::Status(status)) => reply::json_error(status, part.unavailable()),
            Err(Failure::Timeout(_) | Failure::Broken(_)) => {
                reply::json_error(StatusCode::INTERNAL_SERVER_ERROR, part.unavailable())
            }
        }
    }

    async fn ask(&self, part: Part, id: u32, headers: &HeaderMap) -> Result<Bytes, Failure> {
        let (endpoint, path, tries) = match part {
            Part::Details => (&self.details, format!("/details/{id}"), 1),
            Part::Reviews => (&self.reviews, format!("/reviews/{id}"), REVIEWS_TRIES),
            Part::Ratings => (&self.ratings, format!("/ratings/{id}"), 1),
        };
        let mut result = self.client.get_ok(endpoint, &path, headers, PATIENCE).await;
        for _ in 1..tries {
            if result.is_err() {
                result = self.client.get_ok(endpoint, &path, headers, PATIENCE).await;
            }
        }
        result
    }

    fn services(&self) -> [(&'static str, String); 3] {
        [
            ("details", self.details.to_string()),
            ("reviews", self.reviews.to_string()),
            ("ratings", self.ratings.to_string()),
        ]
    }
}

/// An answer with status 200 that is not what the service should send counts as no answer.
fn read<T: serde::de::DeserializeOwned>(part: Part, body: &Bytes) -> Option<T> {
    serde_json::from_slice(body).inspect_err(|error| eprintln!("{part:?}: unreadable answer: {error}")).ok()
}

/// The user comes from the session alone: an `end-user` header that a client sends decides nothing.
fn headers_for(request: &Parts, user: Option<&str>) -> HeaderMap {
    let user = user.and_then(|user| HeaderValue::from_bytes(user.as_bytes()).ok());
    headers::handed_on(&request.headers, user)
}

fn log_in(body: &Bytes) -> Reply {
    let form = String::from_utf8_lossy(body);
    reply::redirect_with_cookie("/productpage", &session::login(&form))
}

fn static_file(content_type: &'static str, text: &'static str) -> Reply {
    let mut reply = reply::content(StatusCode::OK, content_type, text);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    reply
}
