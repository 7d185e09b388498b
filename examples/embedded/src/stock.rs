//! A service without a framework: a function of `http`'s types.
//!
//! ```text
//! cargo run -p embedded -- stock examples/embedded/loopback.yaml &
//! curl http://127.0.0.1:8081/stock/0
//! ```

use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use mesh_proxy::Body;

/// `GET /stock/{id}`: how many there are.
///
/// # Errors
/// None.
pub async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let number = match request.uri().path().strip_prefix("/stock/") {
        Some("0") => "3",
        Some("1") => "12",
        Some("2") => "7",
        _ => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(Body::from(number)))
}
