//! gRPC by tonic, one call and a stream in both directions. What `tonic-build` generates is written by hand here, so that
//! no protoc is needed; generated clients and servers are used in the same way.
//!
//! ```text
//! cargo run -p embedded -- words examples/embedded/loopback.yaml &
//! cargo run -p embedded -- say examples/embedded/loopback.yaml
//! ```

use std::convert::Infallible;

use http::Uri;
use http::uri::PathAndQuery;
use mesh_proxy::{Body, Client, Mesh};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::Error;

/// The message of both calls.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Words {
    /// Any text.
    #[prost(string, tag = "1")]
    pub text: String,
}

impl From<&str> for Words {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

/// The server: what [`Mesh::serve`] takes, wrapped by [`service_fn`]. A generated `WordsServer` is such a service itself.
///
/// # Errors
/// None; a status is an answer, too.
pub async fn answer(request: http::Request<Body>) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
    let path = request.uri().path().to_owned();
    Ok(match &*path {
        "/words.Words/Shout" => grpc.unary(service_fn(shout), request).await,
        "/words.Words/Talk" => grpc.streaming(service_fn(talk), request).await,
        _ => Status::unimplemented(format!("{path} is not served")).into_http(),
    })
}

async fn shout(request: Request<Words>) -> Result<Response<Words>, Status> {
    match request.into_inner() {
        Words { text } if text.is_empty() => Err(Status::invalid_argument("nothing to shout")),
        Words { text } => Ok(Response::new(Words { text: text.to_uppercase() })),
    }
}

/// Each message is answered as soon as it is there.
async fn talk(
    request: Request<Streaming<Words>>,
) -> Result<Response<impl Stream<Item = Result<Words, Status>>>, Status> {
    let heard = request.into_inner();
    Ok(Response::new(heard.map(|next| Ok(Words { text: next?.text.to_uppercase() }))))
}

/// The client: the mesh's own takes the place of a tonic `Channel`. It is always ready.
#[derive(Clone, Debug)]
pub struct WordsClient(tonic::client::Grpc<Client>);

impl WordsClient {
    /// Of the service `words`.
    #[must_use]
    pub fn new(mesh: &Mesh) -> Self {
        Self(tonic::client::Grpc::with_origin(mesh.client(), Uri::from_static("http://words:8082")))
    }

    /// One call.
    ///
    /// # Errors
    /// The status of the server, or of the mesh where it can't be reached.
    pub async fn shout(&mut self, words: Words) -> Result<Words, Status> {
        let method = PathAndQuery::from_static("/words.Words/Shout");
        Ok(self.0.unary(Request::new(words), method, ProstCodec::default()).await?.into_inner())
    }

    /// A stream in both directions.
    ///
    /// # Errors
    /// As of [`WordsClient::shout`]; later ones are in the stream.
    pub async fn talk(
        &mut self,
        words: impl Stream<Item = Words> + Send + 'static,
    ) -> Result<Streaming<Words>, Status> {
        let method = PathAndQuery::from_static("/words.Words/Talk");
        Ok(self.0.streaming(Request::new(words), method, ProstCodec::default()).await?.into_inner())
    }
}

/// The program `say`.
///
/// # Errors
/// The server can't be reached.
pub async fn say(mesh: &Mesh) -> Result<(), Error> {
    let mut client = WordsClient::new(mesh);
    println!("{}", client.shout("hello".into()).await?.text);
    let mut answers = client.talk(tokio_stream::iter(["one", "two", "three"].map(Words::from))).await?;
    while let Some(answer) = answers.next().await {
        println!("{}", answer?.text);
    }
    Ok(())
}
