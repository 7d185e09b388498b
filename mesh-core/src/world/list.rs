//! Lists of objects in merging order: oldest first.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::api::{ContentHash, Key, Object};
use crate::model::{Service, Workload};

/// What can be in a [`List`]: it has an identity and a place in the order of merging.
pub trait Listed {
    /// Identity.
    type Id: Ord + Clone;
    /// Identity of this one.
    fn id(&self) -> Self::Id;
    /// Sort key: creation time (objects without one come last), name, namespace.
    fn age(&self) -> (bool, &str, &str, &str);
    /// Hash of identity and content.
    fn content(&self) -> ContentHash;
}

impl<S> Listed for Object<S> {
    type Id = Key;

    fn id(&self) -> Key {
        self.key.clone()
    }

    fn age(&self) -> (bool, &str, &str, &str) {
        let created = self.meta.creation_timestamp.as_deref();
        (created.is_none(), created.unwrap_or_default(), &self.key.name, &self.key.namespace)
    }

    fn content(&self) -> ContentHash {
        self.hash.with_str(&self.key.cluster).with_str(&self.key.namespace).with_str(&self.key.name)
    }
}

impl Listed for Service {
    type Id = (Arc<str>, Arc<str>);

    fn id(&self) -> Self::Id {
        (self.namespace.clone(), self.hostname.clone())
    }

    fn age(&self) -> (bool, &str, &str, &str) {
        let created = self.created.as_deref();
        (created.is_none(), created.unwrap_or_default(), &self.hostname, &self.namespace)
    }

    fn content(&self) -> ContentHash {
        self.hash.with_str(&self.namespace).with_str(&self.hostname)
    }
}

impl Listed for Workload {
    type Id = Arc<str>;

    fn id(&self) -> Arc<str> {
        self.uid.clone()
    }

    fn age(&self) -> (bool, &str, &str, &str) {
        (false, "", &self.uid, "")
    }

    fn content(&self) -> ContentHash {
        self.hash.with_str(&self.uid)
    }
}

/// Up to so many changes each find their place in a list; with more the list is sorted anew.
const FEW: usize = 16;

/// Objects of one kind, oldest first; dereferences to a slice.
#[derive(Debug)]
pub struct List<T: Listed> {
    sorted: Vec<Arc<T>>,
    by_id: BTreeMap<T::Id, Arc<T>>,
    /// Sum over the contents, so that a change costs what it changes; their order follows from them.
    sum: u64,
}

// By hand: the objects need not be Clone.
impl<T: Listed> Clone for List<T> {
    fn clone(&self) -> Self {
        let Self { sorted, by_id, sum } = self;
        Self { sorted: sorted.clone(), by_id: by_id.clone(), sum: *sum }
    }
}

impl<T: Listed> Default for List<T> {
    fn default() -> Self {
        Self { sorted: Vec::new(), by_id: BTreeMap::new(), sum: 0 }
    }
}

impl<T: Listed> List<T> {
    /// Hash of all objects; lists of equal content have an equal one, however they came about.
    pub fn hash(&self) -> ContentHash {
        ContentHash(self.sum)
    }

    /// The object of an identity.
    pub fn get(&self, id: &T::Id) -> Option<&Arc<T>> {
        self.by_id.get(id)
    }
}

impl<T: Listed> Deref for List<T> {
    type Target = [Arc<T>];

    fn deref(&self) -> &[Arc<T>] {
        &self.sorted
    }
}

/// Changes to a list; of several for one identity the last counts.
pub(super) struct Edit<T: Listed>(BTreeMap<T::Id, Option<Arc<T>>>);

impl<T: Listed> Default for Edit<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Listed> Edit<T> {
    pub(super) fn set(&mut self, item: Arc<T>) {
        self.0.insert(item.id(), Some(item));
    }

    pub(super) fn remove(&mut self, id: T::Id) {
        self.0.insert(id, None);
    }

    /// Applies the changes; says whether the list is another one now. A list that nobody else has is changed in place.
    pub(super) fn apply(self, list: &mut Arc<List<T>>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let List { sorted, by_id, sum } = Arc::make_mut(list);
        let many = self.0.len() > FEW;
        for (id, item) in self.0 {
            let old = match item.clone() {
                Some(item) => by_id.insert(id, item),
                None => by_id.remove(&id),
            };
            *sum = old.iter().fold(*sum, |sum, old| sum.wrapping_sub(old.content().0));
            *sum = item.iter().fold(*sum, |sum, new| sum.wrapping_add(new.content().0));
            if many {
                continue;
            }
            if let Some(old) = old {
                let from = sorted.partition_point(|x| x.age() < old.age());
                let place = sorted[from..].iter().position(|x| Arc::ptr_eq(x, &old));
                sorted.remove(from + place.expect("invariant: both parts of a list have the same objects"));
            }
            if let Some(item) = item {
                // Among those of one age the order is that of their identities.
                let at = sorted.partition_point(|x| (x.age(), x.id()) < (item.age(), item.id()));
                sorted.insert(at, item);
            }
        }
        if many {
            *sorted = by_id.values().cloned().collect();
            sorted.sort_by(|a, b| a.age().cmp(&b.age()));
        }
        true
    }
}
