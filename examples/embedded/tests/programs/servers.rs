//! The three servers, each a member of the mesh with a port of its own.

use std::net::TcpListener;

use embedded::{catalog, stock, words};
use mesh_proxy::{Application, Mesh};
use tokio::task::JoinSet;
use tower::service_fn;

/// They end when this is dropped.
pub(crate) struct Servers {
    /// Where they are.
    pub(crate) yaml: String,
    _tasks: JoinSet<()>,
}

/// A member of a mesh with this configuration.
pub(crate) async fn member(yaml: &str, workload: &str) -> Mesh {
    Mesh::builder().yaml(yaml).workload(workload).start().await.unwrap()
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let mut yaml = include_str!("../../loopback.yaml").to_owned();
        let mut listen = |address: &str, port: u16| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let (from, to) = (format!("targetPort: {port}"), listener.local_addr().unwrap().port());
            assert!(yaml.contains(&from), "{from}");
            yaml = yaml.replace(&from, &format!("targetPort: {to}"));
            listener
        };
        let (at_catalog, at_stock, at_words) =
            (listen("127.0.0.1", 8080), listen("127.0.0.2", 8081), listen("127.0.0.3", 8082));
        let mut tasks = JoinSet::new();
        let mesh = member(&yaml, "catalog").await;
        serve(&mut tasks, at_catalog, catalog::app(mesh.client()), mesh);
        serve(&mut tasks, at_stock, service_fn(stock::answer), member(&yaml, "stock").await);
        serve(&mut tasks, at_words, service_fn(words::answer), member(&yaml, "words").await);
        Self { yaml, _tasks: tasks }
    }
}

fn serve<B>(tasks: &mut JoinSet<()>, listener: TcpListener, app: impl Application<B>, mesh: Mesh)
where
    B: http_body::Body<Data = bytes::Bytes, Error: Into<embedded::Error>> + Send + 'static,
{
    tasks.spawn(async move { mesh.serve(listener, app).await.unwrap() });
}
