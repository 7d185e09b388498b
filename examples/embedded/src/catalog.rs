//! An axum service: the mesh decides who gets in, and what it asks others goes through the mesh.
//!
//! ```text
//! cargo run -p embedded -- stock examples/embedded/loopback.yaml &
//! cargo run -p embedded -- catalog examples/embedded/loopback.yaml &
//! curl http://127.0.0.1:8080/books/0
//! ```

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use mesh_proxy::{Body, Client};
use tower::Service;

use crate::Error;

const TITLES: [&str; 3] = ["The Comedy of Errors", "Hamlet", "The Tempest"];
/// How long a page waits for the number in stock.
const PATIENCE: Duration = Duration::from_secs(1);

/// `GET /books/{id}`: its title, and how many there are.
pub fn app(client: Client) -> Router {
    Router::new().route("/books/{id}", get(book)).with_state(client)
}

async fn book(State(client): State<Client>, Path(id): Path<usize>) -> (StatusCode, String) {
    let Some(title) = TITLES.get(id) else {
        return (StatusCode::NOT_FOUND, format!("no book {id}\n"));
    };
    // A page without the number is better than none.
    let stock = match tokio::time::timeout(PATIENCE, in_stock(client, id)).await {
        Ok(Ok(number)) => format!("{number} in stock"),
        Ok(Err(_)) | Err(_) => "ask in the shop".to_owned(),
    };
    (StatusCode::OK, format!("{title}: {stock}\n"))
}

/// Asks the service `stock`.
///
/// # Errors
/// It does not say a number.
pub async fn in_stock(mut client: Client, id: usize) -> Result<u32, Error> {
    let request = Request::get(format!("http://stock:8081/stock/{id}")).body(Body::Empty)?;
    let response = client.call(request).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("stock says {}", response.status()).into());
    }
    let number = response.into_body().collect().await?.to_bytes();
    Ok(std::str::from_utf8(&number)?.parse()?)
}
