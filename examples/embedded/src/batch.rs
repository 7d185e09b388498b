//! A batch job: it starts, calls, and ends. Nothing of the mesh keeps the process alive.
//!
//! ```text
//! cargo run -p embedded -- stock examples/embedded/loopback.yaml &
//! cargo run -p embedded -- batch examples/embedded/loopback.yaml
//! ```

use mesh_proxy::Mesh;
use tokio::task::JoinSet;

use crate::Error;
use crate::catalog::in_stock;

/// How many books there are, asked for all at once.
///
/// # Errors
/// One of the calls fails: then the job has.
pub async fn count(mesh: &Mesh) -> Result<u32, Error> {
    let mut calls: JoinSet<_> = (0..3).map(|id| in_stock(mesh.client(), id)).collect();
    let mut copies = 0;
    while let Some(number) = calls.join_next().await {
        copies += number??;
    }
    Ok(copies)
}
