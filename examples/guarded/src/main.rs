//! A service that takes mutual TLS and decides by Istio's policies itself: plain hyper with the mesh's Layers around it, and
//! no proxy. Workloads of a small mesh ask it for things, and the program prints what they get.
//!
//! ```text
//! cargo run -p guarded
//! ```

mod client;
mod identities;
mod server;

use mesh_core::snapshot::TlsParameters;
use mesh_tls::{CaError, MtlsUpstream};

use identities::{ca, identity};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The service as its clients know it, and the account that has to answer there.
fn books() -> MtlsUpstream {
    MtlsUpstream {
        host: "books.default.svc.cluster.local".into(),
        port: 80,
        subset: "".into(),
        accounts: vec!["spiffe://cluster.local/ns/default/sa/books".into()],
        parameters: TlsParameters::mesh(false, []),
    }
}

/// A token of `anna`, whose key is in `policies.yaml`.
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImV4YW1wbGUifQ.eyJpc3MiOiJleGFtcGxlIiwic3ViIjoiYW5uYSJ9.\
                     Ml9lmesnWmDq4Rcu_aZV7RlMRorFisIx4yPrYnaHM6PelYJ-5EydfozZqe1ZksY4hNONsN59eRLIqgfaqK5_Ag";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mesh = ca()?;
    let at = server::start(&identity(&mesh, "books").await?).await?;
    let (reader, guest) = (identity(&mesh, "reader").await?, identity(&mesh, "guest").await?);
    let stranger = identity(&ca()?, "reader").await?;
    let changed = TOKEN.replacen(".Ml9", ".Nl9", 1);
    for (who, secrets, method, token) in [
        ("reader", &reader, "GET", None),
        ("reader", &reader, "POST", None),
        ("reader with a token", &reader, "POST", Some(TOKEN)),
        ("reader with a broken token", &reader, "GET", Some(&*changed)),
        ("guest", &guest, "GET", None),
        ("reader of another mesh", &stranger, "GET", None),
    ] {
        match client::ask(at, secrets, method, token).await {
            Ok((status, text)) => println!("{who}: {method} /books -> {status} {text}"),
            Err(_) => println!("{who}: {method} /books -> no connection"),
        }
    }
    println!("anybody in plaintext: {}", client::plaintext(at).await);
    Ok(())
}
