//! What every resource has: a key, metadata, an origin and a content hash.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Spans;

/// API group and kind, without the version: `networking.istio.io` and `VirtualService`. Core Kubernetes kinds have an
/// empty group. Two kinds are called `Gateway`, which is why the group belongs to the identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// API group; empty for Kubernetes' core group.
    pub group: Arc<str>,
    /// Kind name in CamelCase.
    pub kind: Arc<str>,
}

impl Kind {
    /// A kind by group and name.
    pub fn new(group: &str, kind: &str) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.kind)
    }
}

/// Identity of a resource. Reports, fates and much of a plan name the same few objects again and again, so that a copy is
/// a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Arc<Identity>);

/// What a [`Key`] says. The derived order groups resources by cluster, kind and namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Cluster the object lives in; empty for the only or local one.
    pub cluster: Arc<str>,
    /// Group and kind.
    pub kind: Kind,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key in the local cluster.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self(Arc::new(Identity { cluster: "".into(), kind, namespace: namespace.into(), name: name.into() }))
    }
}

impl std::ops::Deref for Key {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl std::ops::DerefMut for Key {
    /// Other copies stay as they are.
    fn deref_mut(&mut self) -> &mut Identity {
        Arc::make_mut(&mut self.0)
    }
}

/// `VirtualService default/reviews`, the form in which reports name an object.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            ns => write!(f, "{} {ns}/{}", self.kind, self.name),
        }
    }
}

/// 64 bits over the content of something; equal content has an equal hash in every process and on every machine.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentHash(pub u64);

impl ContentHash {
    /// Hash of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sink = Fnv::default();
        sink.add(bytes);
        Self(mix(sink.0))
    }

    /// Hash of a value as JSON, which is not written for it.
    pub(crate) fn of_json(value: &impl Serialize) -> Self {
        let mut sink = Fnv::default();
        serde_json::to_writer(&mut sink, value).expect("invariant: our structs have text keys");
        Self(mix(sink.0))
    }

    /// The hash of a sequence of parts, in order.
    #[must_use]
    pub fn with(self, part: ContentHash) -> Self {
        Self(mix(self.0.rotate_left(17) ^ part.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// The hash of a sequence of parts with a text appended.
    #[must_use]
    pub fn with_str(self, text: &str) -> Self {
        self.with(Self::of(text.as_bytes()))
    }
}

/// FNV-1a; a finalizer comes after it. Stable across builds, which std's and foldhash's hashers do not promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl std::io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Kubernetes' `metadata`, as far as the mesh reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; the reader fills in the default namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `metadata.labels`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`, RFC 3339. Merging is oldest first; objects without one come after those with one
    /// and are ordered by name, then namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// `metadata.generation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// `metadata.resourceVersion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// `metadata.uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `apiVersion` as written (`networking.istio.io/v1`); not part of the metadata's own text form.
    #[serde(skip)]
    pub api_version: String,
    /// No namespace was written, and `default` was filled in.
    #[serde(skip)]
    pub namespace_defaulted: bool,
    /// `status.conditions`, which a control plane wrote; not part of the metadata's own text form.
    #[serde(skip)]
    pub conditions: Vec<Condition>,
}

/// What a control plane has found out about an object: one of `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// What it is about.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl Condition {
    /// Those of an object or of a part of it that has a list of them; what can't be read is left out.
    pub fn of(status: &serde_json::Value) -> Vec<Self> {
        let all = status.get("conditions").and_then(|c| c.as_array()).into_iter().flatten();
        all.filter_map(|c| Self::deserialize(c).ok()).collect()
    }
}

/// A place in a source file; both numbers count from 1, 0 means unknown.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Span {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// Where an object came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A document of a file (or of standard input, named `-`).
    File {
        /// Path as the user gave it.
        path: Arc<str>,
        /// Index of the document in the file, from 0.
        document: u32,
    },
    /// A live object of a cluster.
    Live,
    /// Made by the mesh itself, for the reason given (`"default service account"`).
    Generated(Arc<str>),
}

/// Where an object and each of its fields was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// File or cluster.
    pub source: Source,
    /// Start of the document.
    pub span: Span,
    /// Spans of the fields; empty for live objects.
    pub spans: Arc<Spans>,
}

impl Origin {
    /// An origin without spans.
    pub fn generated(why: &str) -> Self {
        Self { source: Source::Generated(why.into()), span: Span::default(), spans: Arc::default() }
    }

    /// The span of a field, or of the nearest enclosing field that has one, or of the document.
    pub fn at(&self, path: &str) -> Span {
        let mut p = path;
        loop {
            if let Some(s) = self.spans.get(p) {
                return s;
            }
            match p.rfind(['.', '[']) {
                Some(i) => p = &p[..i],
                None => return self.span,
            }
        }
    }

    /// Hash of all of it.
    pub(crate) fn hash(&self) -> ContentHash {
        let Self { source, span: Span { line, column }, spans } = self;
        let source = match source {
            Source::File { path, document } => ContentHash::of(path.as_bytes()).with(ContentHash((*document).into())),
            Source::Live => ContentHash(0),
            Source::Generated(why) => ContentHash::of(why.as_bytes()),
        };
        source.with(ContentHash((*line).into())).with(ContentHash((*column).into())).with(spans.hash())
    }

    /// Whether the user wrote this field, as opposed to a default that was merged in. Without places everything counts
    /// as written, except in what the mesh itself made.
    pub fn wrote(&self, path: &str) -> bool {
        match self.source {
            Source::Generated(_) => false,
            Source::File { .. } | Source::Live => self.spans.is_empty() || self.spans.contains(path),
        }
    }

    /// `file:line` of a field, as reports and `explain` print it; live objects have none.
    pub fn location(&self, path: &str) -> Option<String> {
        match &self.source {
            Source::File { path: file, .. } => Some(format!("{file}:{}", self.at(path).line)),
            Source::Live | Source::Generated(_) => None,
        }
    }
}

/// A resource: identity, metadata, what the user asked for, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// Identity.
    pub key: Key,
    /// Metadata.
    pub meta: Meta,
    /// Where it was written.
    pub origin: Origin,
    /// Hash of metadata and spec as parsed (not of the origin): equal hashes compile to equal plans.
    pub hash: ContentHash,
    /// The kind's own part: `spec`, or `data` for a ConfigMap.
    pub spec: S,
}
