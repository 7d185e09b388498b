//! A value that each try sets anew.

use std::sync::OnceLock;

/// What was set last. Nothing is overwritten, so that readers need no lock: the first value lies here, and further ones,
/// of which there are as many as retries, hang on it.
///
/// ```
/// use mesh_core::record::Latest;
///
/// let endpoint = Latest::default();
/// assert_eq!(endpoint.get(), None);
/// endpoint.set("a");
/// endpoint.set("b");
/// assert_eq!((endpoint.get(), endpoint.count()), (Some(&"b"), 2));
/// ```
#[derive(Debug)]
pub struct Latest<T> {
    value: OnceLock<T>,
    next: OnceLock<Box<Latest<T>>>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), next: OnceLock::new() }
    }
}

impl<T> Latest<T> {
    /// Sets it.
    pub fn set(&self, mut value: T) {
        let mut at = self;
        while let Err(taken) = at.value.set(value) {
            value = taken;
            at = at.next.get_or_init(Box::default);
        }
    }

    /// The value that was set last.
    pub fn get(&self) -> Option<&T> {
        self.all().last()
    }

    /// How often it was set.
    pub fn count(&self) -> usize {
        self.all().count()
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::successors(Some(self), |at| at.next.get().map(Box::as_ref)).filter_map(|at| at.value.get())
    }
}
