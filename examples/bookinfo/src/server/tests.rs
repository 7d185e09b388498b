//! The four services on loopback, talking to each other for real.

use std::net::SocketAddr;

use http::HeaderMap;
use tokio::sync::oneshot;

use super::*;
use crate::client::{Client, Endpoint};
use crate::config;

/// A running service; stops when told.
struct Running {
    at: Endpoint,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn local(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port() }
}

async fn start(args: &[&str], change: impl FnOnce(&mut Config)) -> Running {
    let args = args.iter().map(ToString::to_string);
    let mut config = config::read(args, |name| (name == "HOSTNAME").then(|| "reviews-v3-abc".to_owned())).unwrap();
    change(&mut config);
    let listener = listen(Some(Ipv4Addr::LOCALHOST.into()), 0).await.unwrap();
    let at = local(listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let client = Client::direct(config.proxy.clone());
    let task = tokio::spawn(serve(listener, Arc::new(App::new(&config, client)), async {
        let _ = stopped.await;
    }));
    Running { at, stop, task }
}

async fn get(client: &Client, at: &Endpoint, path: &str, headers: &HeaderMap) -> String {
    let body = client.get_ok(at, path, headers, Duration::from_secs(60)).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn the_page_is_whole_and_stays_200_when_services_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ratings = start(&["ratings"], |_| {}).await;
        let details = start(&["details"], |_| {}).await;
        let reviews = start(&["reviews", "--version", "v3"], |config| config.ratings = ratings.at.clone()).await;
        let page = start(&["productpage"], |config| {
            config.details = details.at.clone();
            config.reviews = reviews.at.clone();
            config.ratings = ratings.at.clone();
        })
        .await;
        let (client, none) = (Client::direct(None), HeaderMap::new());

        let html = get(&client, &page.at, "/productpage", &none).await;
        assert!(
            html.contains("stars red") && html.contains("<u>reviews-v3-abc</u>") && html.contains("PublisherA"),
            "{html}"
        );
        let api = get(&client, &page.at, "/api/v1/products/0/ratings", &none).await;
        assert_eq!(api, r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#);

        ratings.end().await;
        let html = get(&client, &page.at, "/productpage", &none).await;
        assert!(html.contains("Ratings service is currently unavailable"), "{html}");

        details.end().await;
        reviews.end().await;
        let html = get(&client, &page.at, "/productpage", &none).await;
        assert!(
            html.contains("Error fetching product details!") && html.contains("Error fetching product reviews!"),
            "{html}"
        );
        page.end().await;
    });
}

#[test]
fn a_proxy_gets_the_whole_url() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A details service stands in for the proxy: hyper parses the absolute form, and the path selects the answer.
        let proxy = start(&["details"], |_| {}).await;
        let nowhere = Endpoint { host: "details.invalid".to_owned(), port: 9080 };
        let client = Client::direct(Some(proxy.at.clone()));
        assert!(get(&client, &nowhere, "/details/7", &HeaderMap::new()).await.starts_with(r#"{"id":7,"#));
        proxy.end().await;
    });
}
