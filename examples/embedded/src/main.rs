//! `embedded PROGRAM [FILE]`: without a file, configuration and identity come from the mesh that started this.

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;

use embedded::{Error, batch, catalog, fetch, stock, words};
use mesh_proxy::{Application, Builder, Mesh};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(program), true) = (arguments.first(), arguments.len() <= 2) else {
        eprintln!("usage: embedded catalog|stock|words|say|fetch|batch [FILE]");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(program, member(program, arguments.get(1)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

fn member(program: &str, file: Option<&String>) -> Builder {
    match file {
        // This file, which is followed while running; the program is one of its workloads.
        Some(file) => Mesh::builder().files([file]).workload(program),
        // The mesh that has started this: its configuration, and certificates of its CA.
        None => Mesh::builder(),
    }
}

async fn run(program: &str, builder: Builder) -> Result<(), Error> {
    let mesh = builder.access_log().start().await?;
    match program {
        "catalog" => serve(&mesh, 8080, catalog::app(mesh.client())).await?,
        "stock" => serve(&mesh, 8081, tower::service_fn(stock::answer)).await?,
        "words" => serve(&mesh, 8082, tower::service_fn(words::answer)).await?,
        "say" => words::say(&mesh).await?,
        "fetch" => println!("{}", fetch::get(&fetch::client(&mesh), "http://stock:8081/stock/0").await?),
        "batch" => println!("{} copies in stock", batch::count(&mesh).await?),
        other => return Err(format!("{other} is none of the programs").into()),
    }
    Ok(())
}

/// Serves until a signal asks for the end, and then to the end of what is in flight.
async fn serve<B>(mesh: &Mesh, port: u16, app: impl Application<B>) -> io::Result<()>
where
    B: http_body::Body<Data = bytes::Bytes, Error: Into<Error>> + Send + 'static,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        terminate.recv().await;
        mesh.shutdown().await;
        Ok(())
    };
    tokio::try_join!(mesh.serve(TcpListener::bind(("0.0.0.0", port))?, app), stop)?;
    Ok(())
}
