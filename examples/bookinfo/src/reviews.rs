//! reviews: what readers say. v1 has no stars; v2 asks ratings and shows black stars, v3 red ones.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::client::{Client, Endpoint};
use crate::config::Config;
use crate::headers::{self, END_USER};
use crate::ratings::{ProductRatings, Stars};
use crate::reply::{self, Reply};

/// Shown instead of stars.
const NO_RATINGS: &str = "Ratings service is currently unavailable";

/// The three versions of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    /// Reads `v1`, `v2` or `v3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            "v3" => Some(Self::V3),
            _ => None,
        }
    }

    /// Colour of the stars and how long the service waits for ratings; `None` does not ask at all. The two waits differ on
    /// purpose, as in Istio's sample: with a slow ratings service, v2 outlasts the patience of productpage (3 s, twice),
    /// v3 gives up in time for its reviews to be shown without stars.
    fn stars(self) -> Option<(&'static str, Duration)> {
        match self {
            Self::V1 => None,
            Self::V2 => Some(("black", Duration::from_secs(10))),
            Self::V3 => Some(("red", Duration::from_millis(2500))),
        }
    }
}

/// The answer of `/reviews/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProductReviews {
    /// A string in this service's answers; readers accept anything.
    #[serde(default)]
    pub(crate) id: serde_json::Value,
    #[serde(default)]
    pub(crate) podname: String,
    /// `"null"` when the process was not told its cluster.
    #[serde(default)]
    pub(crate) clustername: String,
    pub(crate) reviews: Vec<Review>,
}

/// One reader's opinion.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Review {
    pub(crate) reviewer: String,
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rating: Option<Rating>,
}

/// Stars, or why there are none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Rating {
    Stars { stars: i64, color: String },
    Failed { error: String },
}

/// The service.
pub(crate) struct Reviews {
    version: Version,
    podname: String,
    clustername: String,
    ratings: Endpoint,
    client: Client,
}

impl Reviews {
    pub(crate) fn new(config: &Config, client: Client) -> Self {
        Self {
            version: config.version,
            podname: config.pod.clone(),
            clustername: config.cluster.clone().unwrap_or_else(|| "null".to_owned()),
            ratings: config.ratings.clone(),
            client,
        }
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, request: &Parts) -> Reply {
        let path = request.uri.path();
        match path.strip_prefix("/reviews/") {
            _ if !reply::is_get(&request.method) => reply::wrong_method("GET"),
            None if path == "/health" => reply::healthy("Reviews"),
            None => reply::not_found(request),
            Some(id) => match reply::product_id(id) {
                Ok(id) => reply::json(StatusCode::OK, &self.of(id, request).await),
                Err(refusal) => *refusal,
            },
        }
    }

    async fn of(&self, id: u32, request: &Parts) -> ProductReviews {
        let reviews = match self.version.stars() {
            None => reviews(|_| None),
            Some((color, patience)) => {
                let stars = self.stars(id, request, patience).await;
                reviews(|reviewer| Some(rating(stars.as_ref(), reviewer, color)))
            }
        };
        let (podname, clustername) = (self.podname.clone(), self.clustername.clone());
        ProductReviews { id: id.to_string().into(), podname, clustername, reviews }
    }

    /// The stars by reviewer, `None` if ratings did not give them.
    async fn stars(&self, id: u32, request: &Parts, patience: Duration) -> Option<Stars> {
        let headers = headers::handed_on(&request.headers, request.headers.get(END_USER).cloned());
        let path = format!("/ratings/{id}");
        let body = self.client.get_ok(&self.ratings, &path, &headers, patience).await.ok()?;
        let ratings = serde_json::from_slice::<ProductRatings>(&body);
        ratings.inspect_err(|error| eprintln!("ratings at {}: {error}", self.ratings)).ok().map(|answer| answer.ratings)
    }
}

fn rating(stars: Option<&Stars>, reviewer: &str, color: &str) -> Rating {
    match stars.and_then(|stars| stars.get(reviewer)) {
        Some(&stars) => Rating::Stars { stars, color: color.to_owned() },
        None => Rating::Failed { error: NO_RATINGS.to_owned() },
    }
}

fn reviews(rating: impl Fn(&str) -> Option<Rating>) -> Vec<Review> {
    const TEXTS: [(&str, &str); 2] = [
        (
            "Reviewer1",
            "Two pairs of twins, one busy town, and not one person who knows who they are talking to. \
             I laughed on every page.",
        ),
        (
            "Reviewer2",
            "Short, fast and silly in the best way. The later comedies go deeper, but none of them runs as well as this.",
        ),
    ];
    TEXTS
        .iter()
        .map(|&(reviewer, text)| Review { reviewer: reviewer.into(), text: text.into(), rating: rating(reviewer) })
        .collect()
}
