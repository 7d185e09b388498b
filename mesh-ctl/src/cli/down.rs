//! `meshctl down`.

use std::time::Duration;

use super::Outcome;
use super::client::{Call, block_on};
use crate::control::Request;
use crate::localmesh::connect_control;

/// Between two looks whether the mesh has gone.
const LOOK: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(mesh: &str) -> Outcome {
    block_on(async {
        Call::start(mesh, &Request::Down, &[]).await?.finish().await?;
        // The name is free once the last process of the mesh has gone; nothing tells a stranger about that but the name.
        let gone = async {
            while connect_control(mesh).is_ok() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(LIMIT, gone).await.is_err() {
            return Err(format!(
                "mesh {mesh} is still there after {} s; end its `meshctl up` process",
                LIMIT.as_secs()
            ));
        }
        super::print(&format!("mesh {mesh} has ended\n"));
        Ok(0)
    })
}
