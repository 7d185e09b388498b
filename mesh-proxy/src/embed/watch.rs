//! Following which configuration is in force.

use tokio::sync::watch;

/// Says which configuration is in force, as log lines name it. From [`crate::Mesh::watch`].
#[derive(Clone, Debug)]
pub struct ConfigWatch(watch::Receiver<String>);

impl ConfigWatch {
    pub(super) fn new(receiver: watch::Receiver<String>) -> Self {
        Self(receiver)
    }

    /// The hash of the configuration in force.
    #[must_use]
    pub fn current(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until another configuration is in force than the one that was seen last; its hash. `None`: the mesh is gone.
    pub async fn changed(&mut self) -> Option<String> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
