//! Following which configuration is in force.

use tokio::sync::watch;

/// Says which configuration is in force, as log lines name it. From [`crate::Mesh::watch`].
#[derive(Clone, Debug)]
pub struct ConfigWatch(watch::Receiver<String>);

impl ConfigWatch {
    pub(super) fn new(mut receiver: watch::Receiver<String>) -> Self {
        receiver.mark_unchanged();
        Self(receiver)
    }

    /// The hash of the configuration in force.
    #[must_use]
    pub fn current(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until another configuration is in force than when this was made, or returned last; its hash. `None`: the mesh
    /// is gone.
    pub async fn changed(&mut self) -> Option<String> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
