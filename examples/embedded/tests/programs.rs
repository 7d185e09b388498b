//! The programs do what they say, each in this process, and the batch job in its own.

#![allow(clippy::unwrap_used)]

#[path = "programs/faults.rs"]
mod faults;
#[path = "programs/page.rs"]
mod page;
#[path = "programs/servers.rs"]
mod servers;

use std::process::Command;

use embedded::words::{Words, WordsClient};
use embedded::{batch, catalog, fetch};
use http_body_util::BodyExt;
use mesh_proxy::{Body, Client};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Endpoint;
use tower::{ServiceBuilder, ServiceExt};

use crate::servers::{Servers, member};

async fn get(client: Client, url: &str) -> (u16, String) {
    let request = http::Request::get(url).body(Body::Empty).unwrap();
    let response = client.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn axum_serves_and_calls() {
    let servers = Servers::start().await;
    let client = member(&servers.yaml, "fetch").await.client();
    let book = get(client.clone(), "http://catalog:8080/books/1").await;
    assert_eq!(book, (200, "Hamlet: 12 in stock\n".into()));
    assert_eq!(get(client, "http://catalog:8080/books/9").await, (404, "no book 9\n".into()));
}

#[tokio::test]
async fn tonic_calls_and_streams() {
    let servers = Servers::start().await;
    let mut client = WordsClient::new(&member(&servers.yaml, "say").await);
    assert_eq!(client.shout("hello".into()).await.unwrap(), Words::from("HELLO"));
    let status = client.shout("".into()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "nothing to shout"));
    // Each side waits for the other.
    let (say, said) = mpsc::channel(1);
    let mut answers = client.talk(ReceiverStream::new(said)).await.unwrap();
    for (word, answer) in [("one", "ONE"), ("two", "TWO")] {
        say.send(word.into()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), Words::from(answer));
    }
    drop(say);
    assert!(answers.next().await.is_none(), "the status is OK");
}

#[tokio::test]
async fn a_tonic_channel_takes_the_connector() {
    let servers = Servers::start().await;
    let mesh = member(&servers.yaml, "say").await;
    let endpoint = Endpoint::from_static("http://words:8082");
    let channel = endpoint.connect_with_connector(fetch::connector(&mesh)).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let method = http::uri::PathAndQuery::from_static("/words.Words/Shout");
    let request = tonic::Request::new(Words::from("hello"));
    let answer = grpc.unary::<_, Words, _>(request, method, tonic_prost::ProstCodec::default()).await.unwrap();
    assert_eq!(answer.into_inner(), Words::from("HELLO"));
}

#[tokio::test]
async fn a_grpc_client_learns_why_nobody_answers() {
    let servers = Servers::start().await;
    let nobody = servers.yaml.replace("selector: {app: words}", "selector: {app: nobody}");
    let status = WordsClient::new(&member(&nobody, "say").await).shout("hello".into()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "no healthy upstream"));
}

#[tokio::test]
async fn hyper_gets_its_connections_from_the_mesh() {
    let servers = Servers::start().await;
    let mesh = member(&servers.yaml, "fetch").await;
    let client = fetch::client(&mesh);
    assert_eq!(fetch::get(&client, "http://stock:8081/stock/2").await.unwrap(), "7");
    let error = fetch::get(&client, "http://stock:8081/stock/9").await.unwrap_err();
    assert_eq!(error.to_string(), "http://stock:8081/stock/9 says 404 Not Found");
    let requests = mesh.metrics().lines().filter(|l| l.starts_with("istio_requests_total{")).count();
    assert_eq!(requests, 2, "one row for each status: {}", mesh.metrics());
}

const DENY: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-tempest, namespace: default}
spec:
  selector: {matchLabels: {app: catalog}}
  action: DENY
  rules: [{to: [{operation: {paths: [/books/2]}}]}]
";

#[tokio::test]
async fn a_layer_stands_before_servers_of_somebody_else() {
    let servers = Servers::start().await;
    let mesh = member(&format!("{}{DENY}", servers.yaml), "catalog").await;
    let app = ServiceBuilder::new().layer(mesh.layer(8080)).service(catalog::app(mesh.client()));
    let ask = async |path: &str| {
        let request = http::Request::get(path).header("host", "catalog:8080").body(Body::Empty).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!((ask("/books/1").await, ask("/books/2").await), (200, 403));
}

#[tokio::test]
async fn a_batch_job_ends() {
    let servers = Servers::start().await;
    let file = std::env::temp_dir().join(format!("embedded-batch-{}.yaml", std::process::id()));
    std::fs::write(&file, &servers.yaml).unwrap();
    let run = |yaml: &std::path::Path| Command::new(env!("CARGO_BIN_EXE_embedded")).arg("batch").arg(yaml).output();
    let path = file.clone();
    let output = tokio::task::spawn_blocking(move || run(&path)).await.unwrap().unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert_eq!(said(&output.stdout), "22 copies in stock\n");
    // So does one whose calls fail.
    let nobody = member(&servers.yaml.replace("selector: {app: stock}", "selector: {app: nobody}"), "batch").await;
    assert_eq!(batch::count(&nobody).await.unwrap_err().to_string(), "stock says 503 Service Unavailable");
}
