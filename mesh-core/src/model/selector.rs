//! Labels that pick workloads.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels that a workload must have. Hardly any selector has more than two, so a map would be mostly room; in text it is
/// one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector(Box<[(Box<str>, Box<str>)]>);

impl Selector {
    /// It asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these labels have all of its own.
    pub fn is_in(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(name, value)| labels.get(&**name).is_some_and(|v| **v == **value))
    }
}

impl From<&BTreeMap<String, String>> for Selector {
    fn from(labels: &BTreeMap<String, String>) -> Self {
        Self(labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect())
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(|labels| Self::from(&labels))
    }
}
