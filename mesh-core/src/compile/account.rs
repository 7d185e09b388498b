//! The account: what became of every field that a user wrote.
//!
//! Each step writes down fates while it reads fields; nothing else knows which fields exist. A fate on an inner field
//! (`spec.http[2]`: "can't be reached") speaks for everything below it. [`Account::leaves`] puts the two together.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::memo::Notes;
use super::routes::Routes;
use crate::api::codes::Code;
use crate::api::{Key, Object};
use crate::report::{Fate, Outcome};
use crate::snapshot::Provenance;
use crate::yaml::child;

/// What a step writes while it reads one object.
pub(super) struct Ledger<'a> {
    pub(super) key: &'a Key,
    pub(super) origin: &'a crate::api::Origin,
    /// The object is a VirtualService that another one includes.
    pub(super) is_delegate: bool,
    pub(super) notes: Notes,
}

impl<'a> Ledger<'a> {
    pub(super) fn new<S>(object: &'a Object<S>) -> Self {
        Self { key: &object.key, origin: &object.origin, is_delegate: false, notes: Notes::default() }
    }

    fn fate(&mut self, field: &str, outcome: Outcome) {
        self.notes.fates.push(Fate { object: self.key.clone(), field: field.into(), outcome });
    }

    /// The field is part of a plan.
    pub(super) fn consumed(&mut self, field: &str) {
        self.fate(field, Outcome::Consumed);
    }

    /// The field, and everything below it, can't have an effect.
    pub(super) fn inert(&mut self, field: &str, because: &str) {
        self.fate(field, Outcome::Inert { because: because.into() });
    }

    /// Something else decides instead of the field and everything below it.
    pub(super) fn overridden(&mut self, field: &str, by: &str) {
        self.fate(field, Outcome::Overridden { by: by.into() });
    }

    /// Reads a field: consumed, if it is present.
    pub(super) fn take<'v, T: Default + PartialEq>(&mut self, at: &str, name: &str, value: &'v T) -> &'v T {
        if *value != T::default() {
            self.consumed(&format!("{at}.{name}"));
        }
        value
    }

    /// Reads a list of scalars: every entry is consumed.
    pub(super) fn take_list<'v, T>(&mut self, at: &str, name: &str, values: &'v [T]) -> &'v [T] {
        for i in 0..values.len() {
            self.consumed(&format!("{at}.{name}[{i}]"));
        }
        values
    }

    /// Reads a map of scalars: every entry is consumed.
    pub(super) fn take_map<'v, V>(
        &mut self,
        at: &str,
        name: &str,
        values: &'v BTreeMap<String, V>,
    ) -> &'v BTreeMap<String, V> {
        for k in values.keys() {
            self.consumed(&child(&format!("{at}.{name}"), k));
        }
        values
    }

    /// A field that can't have an effect, with everything below it.
    pub(super) fn without_effect<T: Default + PartialEq>(&mut self, at: &str, name: &str, value: &T, because: &str) {
        if *value != T::default() {
            self.inert(&format!("{at}.{name}"), because);
        }
    }

    /// Where a field was written.
    pub(super) fn origin(&self, field: &str) -> Provenance {
        Provenance::field(self.key, self.origin, field)
    }

    /// Says something about a field.
    pub(super) fn report(&mut self, code: Code, field: &str, message: String) {
        self.notes.reports.push(code.report((self.key, self.origin), field, message));
    }
}

/// A fate for a field of an object that is at hand by provenance only.
pub(super) fn fate(origin: &Provenance, outcome: Outcome) -> Option<Fate> {
    Some(Fate { object: origin.object.clone()?, field: origin.field.clone(), outcome })
}

/// The fates of all objects that a proxy can see, in the parts that the steps wrote.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub(super) parts: Vec<Arc<Notes>>,
    /// Those of larger steps.
    pub(super) groups: Vec<Arc<[Arc<Notes>]>>,
    /// Routes, with what their making said.
    pub(super) routes: Arc<Routes>,
}

/// The fate of a leaf: of the object's field as a user wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Path.
    pub field: String,
    /// What became of it; `None` is a defect of the compiler, which a test looks for.
    pub outcome: Option<Outcome>,
}

impl Account {
    /// Every fate as written, also of inner fields.
    pub fn fates(&self) -> impl Iterator<Item = &Fate> {
        self.notes().flat_map(|p| p.fates.iter())
    }

    /// What every step said.
    pub(super) fn notes(&self) -> impl Iterator<Item = &Notes> {
        let groups = self.groups.iter().flat_map(|g| g.iter());
        self.routes.notes().chain(&self.parts).chain(groups).map(|n| &**n)
    }

    /// Fates by object and field; of several the one that says most (consumed, then not in force, then overridden).
    pub fn merged(&self) -> Merged<'_> {
        let mut objects: BTreeMap<&Key, BTreeMap<&str, &Outcome>> = BTreeMap::new();
        for fate in self.fates() {
            let fields = objects.entry(&fate.object).or_default();
            let slot = fields.entry(&fate.field).or_insert(&fate.outcome);
            if rank(&fate.outcome) < rank(slot) {
                *slot = &fate.outcome;
            }
        }
        Merged { objects }
    }

    /// The fate of every leaf of an object: of the outermost field around it that has no effect or not yet, else its
    /// own.
    pub fn leaves<S: Serialize>(&self, object: &Object<S>) -> Vec<Leaf> {
        self.merged().leaves(object)
    }
}

/// [`Account::merged`].
#[derive(Debug)]
pub struct Merged<'a> {
    objects: BTreeMap<&'a Key, BTreeMap<&'a str, &'a Outcome>>,
}

impl Merged<'_> {
    /// As [`Account::leaves`].
    pub fn leaves<S: Serialize>(&self, object: &Object<S>) -> Vec<Leaf> {
        let mut paths = Vec::new();
        if let Ok(value) = serde_json::to_value(&object.spec) {
            walk("spec", &value, &mut paths);
        }
        let none = BTreeMap::new();
        let fates = self.objects.get(&object.key).unwrap_or(&none);
        let outcome = |path: &str| {
            let ends = path.match_indices(['.', '[']).map(|(i, _)| i).chain([path.len()]);
            let mut all = ends.filter_map(|end| fates.get(&path[..end]).map(|o| (end, *o)));
            let mut own = None;
            let outer = all.find(|(end, o)| {
                own = (*end == path.len()).then_some(*o);
                **o != Outcome::Consumed
            });
            outer.map(|(_, o)| o).or(own).cloned()
        };
        paths.into_iter().map(|field| Leaf { outcome: outcome(&field), field }).collect()
    }
}

fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Consumed => 0,
        Outcome::NotInForceYet { .. } => 1,
        Outcome::Overridden { .. } => 2,
        Outcome::Inert { .. } => 3,
    }
}

/// Paths of the leaves: scalars, and empty lists and objects.
fn walk(path: &str, value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) if !map.is_empty() => {
            for (k, v) in map {
                walk(&child(path, k), v, out);
            }
        }
        serde_json::Value::Array(list) if !list.is_empty() => {
            for (i, v) in list.iter().enumerate() {
                walk(&format!("{path}[{i}]"), v, out);
            }
        }
        _ => out.push(path.into()),
    }
}

#[cfg(test)]
impl Merged<'_> {
    /// Everything in it, as text.
    pub(super) fn digest(&self) -> String {
        format!("{:?}", self.objects)
    }
}
