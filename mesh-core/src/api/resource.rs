//! [`Resource`]: an object of any kind, read from its Kubernetes form.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::decode::{DecodeError, Unknown, decode};
use super::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use super::{Condition, ContentHash, DestinationRule, Gateway, Key, Kind, Meta, Object, Origin, ServiceEntry, Sidecar};
use super::{LocalRateLimit, ProxySettings, VirtualService, WorkloadEntry, WorkloadGroup, codes, kube};
use crate::report::Report;
use crate::yaml::child;

mod foreign;
mod kinds;

pub use kinds::{ServedKind, served_kinds};

/// An object of a kind that the mesh reads, or of one that nobody reads yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// `networking.istio.io` VirtualService.
    VirtualService(Arc<Object<VirtualService>>),
    /// `networking.istio.io` DestinationRule.
    DestinationRule(Arc<Object<DestinationRule>>),
    /// `networking.istio.io` Gateway.
    Gateway(Arc<Object<Gateway>>),
    /// `networking.istio.io` ServiceEntry.
    ServiceEntry(Arc<Object<ServiceEntry>>),
    /// `networking.istio.io` WorkloadEntry.
    WorkloadEntry(Arc<Object<WorkloadEntry>>),
    /// `networking.istio.io` WorkloadGroup.
    WorkloadGroup(Arc<Object<WorkloadGroup>>),
    /// `networking.istio.io` Sidecar.
    Sidecar(Arc<Object<Sidecar>>),
    /// `policy.mesh.local` LocalRateLimit.
    LocalRateLimit(Arc<Object<LocalRateLimit>>),
    /// `networking.istio.io` ProxyConfig.
    ProxyConfig(Arc<Object<ProxySettings>>),
    /// `security.istio.io` PeerAuthentication.
    PeerAuthentication(Arc<Object<PeerAuthentication>>),
    /// `security.istio.io` AuthorizationPolicy.
    AuthorizationPolicy(Arc<Object<AuthorizationPolicy>>),
    /// `policy.mesh.local` EgressPolicy: as an AuthorizationPolicy, for what its workloads ask of others.
    EgressPolicy(Arc<Object<AuthorizationPolicy>>),
    /// `security.istio.io` RequestAuthentication.
    RequestAuthentication(Arc<Object<RequestAuthentication>>),
    /// Kubernetes Service.
    Service(Arc<Object<kube::ServiceSpec>>),
    /// Kubernetes Deployment.
    Deployment(Arc<Object<kube::DeploymentSpec>>),
    /// Kubernetes Pod.
    Pod(Arc<Object<kube::PodSpec>>),
    /// Kubernetes ServiceAccount.
    ServiceAccount(Arc<Object<kube::ServiceAccount>>),
    /// Kubernetes Namespace.
    Namespace(Arc<Object<kube::Namespace>>),
    /// Kubernetes ConfigMap.
    ConfigMap(Arc<Object<kube::ConfigMap>>),
    /// A kind that nothing reads yet; the whole object as written.
    Unread(Arc<Object<Value>>),
}

/// What all objects have, borrowed from any of them.
struct Head<'a> {
    key: &'a Key,
    meta: &'a Meta,
    origin: &'a Origin,
    hash: ContentHash,
}

fn head<S>(object: &Object<S>) -> Head<'_> {
    let Object { key, meta, origin, hash, spec: _ } = object;
    Head { key, meta, origin, hash: *hash }
}

impl Resource {
    fn head(&self) -> Head<'_> {
        match self {
            Self::VirtualService(o) => head(o),
            Self::DestinationRule(o) => head(o),
            Self::Gateway(o) => head(o),
            Self::ServiceEntry(o) => head(o),
            Self::WorkloadEntry(o) => head(o),
            Self::WorkloadGroup(o) => head(o),
            Self::Sidecar(o) => head(o),
            Self::LocalRateLimit(o) => head(o),
            Self::ProxyConfig(o) => head(o),
            Self::PeerAuthentication(o) => head(o),
            Self::AuthorizationPolicy(o) | Self::EgressPolicy(o) => head(o),
            Self::RequestAuthentication(o) => head(o),
            Self::Service(o) => head(o),
            Self::Deployment(o) => head(o),
            Self::Pod(o) => head(o),
            Self::ServiceAccount(o) => head(o),
            Self::Namespace(o) => head(o),
            Self::ConfigMap(o) => head(o),
            Self::Unread(o) => head(o),
        }
    }

    /// Identity.
    pub fn key(&self) -> &Key {
        self.head().key
    }

    /// Metadata.
    pub fn meta(&self) -> &Meta {
        self.head().meta
    }

    /// Where it was written.
    pub fn origin(&self) -> &Origin {
        self.head().origin
    }

    /// Hash of metadata and spec.
    pub fn hash(&self) -> ContentHash {
        self.head().hash
    }

    /// The object in Kubernetes' form: `apiVersion`, `kind`, `metadata`, and `spec` or what the kind has instead.
    pub fn to_value(&self) -> Value {
        let body = match self {
            Self::VirtualService(o) => spec_value(&o.spec),
            Self::DestinationRule(o) => spec_value(&o.spec),
            Self::Gateway(o) => spec_value(&o.spec),
            Self::ServiceEntry(o) => spec_value(&o.spec),
            Self::WorkloadEntry(o) => spec_value(&o.spec),
            Self::WorkloadGroup(o) => spec_value(&o.spec),
            Self::Sidecar(o) => spec_value(&o.spec),
            Self::LocalRateLimit(o) => spec_value(&o.spec),
            Self::ProxyConfig(o) => spec_value(&o.spec),
            Self::PeerAuthentication(o) => spec_value(&o.spec),
            Self::AuthorizationPolicy(o) | Self::EgressPolicy(o) => spec_value(&o.spec),
            Self::RequestAuthentication(o) => spec_value(&o.spec),
            Self::Service(o) => spec_value(&o.spec),
            Self::Deployment(o) => spec_value(&o.spec),
            Self::Pod(o) => spec_value(&o.spec),
            Self::ServiceAccount(o) => json_of(&o.spec),
            Self::Namespace(o) => json_of(&o.spec),
            Self::ConfigMap(o) => json_of(&o.spec),
            Self::Unread(o) => return o.spec.clone(),
        };
        let head = self.head();
        let mut map = match body {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        map.insert("apiVersion".to_owned(), Value::String(head.meta.api_version.clone()));
        map.insert("kind".to_owned(), Value::String(head.key.kind.kind.to_string()));
        map.insert("metadata".to_owned(), json_of(head.meta));
        Value::Object(map)
    }

    /// Reads one object from its Kubernetes form, with what is worth knowing about it.
    ///
    /// # Errors
    /// The object can't be used: fields are missing, of the wrong type, or its version is not served.
    pub fn parse(value: Value, origin: Origin) -> Result<(Self, Vec<Report>), Vec<Report>> {
        let mut reader = Reader::new(&value, origin)?;
        let Some(served) = kinds::find(&reader.key.kind) else {
            reader.not_read_yet();
            let object = Arc::new(reader.object(value.clone()));
            return Ok((Self::Unread(object), reader.reports));
        };
        reader.version(served)?;
        let resource = match (served.group, served.kind) {
            ("networking.istio.io", "VirtualService") => Self::VirtualService(reader.spec()?),
            ("networking.istio.io", "DestinationRule") => Self::DestinationRule(reader.spec()?),
            ("networking.istio.io", "Gateway") => Self::Gateway(reader.spec()?),
            ("networking.istio.io", "ServiceEntry") => Self::ServiceEntry(reader.spec()?),
            ("networking.istio.io", "WorkloadEntry") => Self::WorkloadEntry(reader.spec()?),
            ("networking.istio.io", "WorkloadGroup") => Self::WorkloadGroup(reader.spec()?),
            ("networking.istio.io", "ProxyConfig") => Self::ProxyConfig(reader.spec()?),
            ("networking.istio.io", _) => Self::Sidecar(reader.spec()?),
            ("security.istio.io", "PeerAuthentication") => Self::PeerAuthentication(reader.spec()?),
            ("security.istio.io", "RequestAuthentication") => Self::RequestAuthentication(reader.spec()?),
            ("security.istio.io", _) => Self::AuthorizationPolicy(reader.spec()?),
            ("policy.mesh.local", "EgressPolicy") => Self::EgressPolicy(reader.spec()?),
            ("policy.mesh.local", _) => Self::LocalRateLimit(reader.spec()?),
            (_, "Service") => Self::Service(reader.spec()?),
            (_, "Deployment") => Self::Deployment(reader.spec()?),
            (_, "Pod") => Self::Pod(reader.spec()?),
            (_, "ServiceAccount") => Self::ServiceAccount(reader.whole()?),
            (_, "Namespace") => Self::Namespace(reader.whole()?),
            _ => Self::ConfigMap(reader.whole()?),
        };
        Ok((resource, reader.reports))
    }
}

fn json_of<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("invariant: our structs have text keys and serialize without errors")
}

fn spec_value<T: Serialize>(spec: &T) -> Value {
    Value::Object(Map::from_iter([("spec".to_owned(), json_of(spec))]))
}

/// Reads the parts of one object and collects what there is to say.
struct Reader<'a> {
    value: &'a Map<String, Value>,
    key: Key,
    meta: Meta,
    origin: Origin,
    reports: Vec<Report>,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl<'a> Reader<'a> {
    fn new(value: &'a Value, origin: Origin) -> Result<Self, Vec<Report>> {
        let (api_version, kind) = (text(value, "/apiVersion"), text(value, "/kind"));
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let (namespace, name) = (text(value, "/metadata/namespace"), text(value, "/metadata/name"));
        let mut key = Key::new(Kind::new(group, kind), namespace, name);
        let fail = |key: &Key, field: &str, message: &str, fix: &str| {
            Err(vec![codes::OBJECT.report((key, &origin), field, message).fix(fix)])
        };
        let Value::Object(map) = value else {
            return fail(&key, "", "the document is not an object", "write apiVersion, kind, metadata and spec");
        };
        if kind.is_empty() {
            return fail(&key, "kind", "the object has no kind", "write kind: VirtualService, for example");
        }
        if api_version.is_empty() {
            let fix = kinds::named(kind).map_or("write apiVersion: networking.istio.io/v1, for example".into(), |k| {
                format!("write apiVersion: {}", k.api_version())
            });
            return fail(&key, "apiVersion", "the object has no apiVersion", &fix);
        }
        let empty = Value::Object(Map::new());
        let metadata = map.get("metadata").filter(|m| !m.is_null()).unwrap_or(&empty);
        let (meta, unknown) = decode::<Meta>(metadata, "metadata", false);
        let mut meta = meta.map_err(|e| vec![schema((&key, &origin), e)])?;
        if meta.name.is_empty() {
            return fail(&key, "metadata.name", "the object has no name", "write metadata.name");
        }
        let namespaced = kinds::is_namespaced(&key.kind);
        api_version.clone_into(&mut meta.api_version);
        meta.conditions = map.get("status").map(Condition::of).unwrap_or_default();
        meta.namespace_defaulted = namespaced && meta.namespace.is_empty();
        match (namespaced, meta.namespace.is_empty()) {
            (true, true) => "default".clone_into(&mut meta.namespace),
            (false, false) => meta.namespace.clear(),
            _ => {}
        }
        key.namespace = meta.namespace.as_str().into();
        let mut reader = Self { value: map, key, meta, origin, reports: vec![] };
        reader.unknown(unknown.into_iter().filter(|u| !kinds::OBJECT_META.contains(&&*u.name)).collect());
        Ok(reader)
    }

    fn subject(&self) -> (&Key, &Origin) {
        (&self.key, &self.origin)
    }

    fn not_read_yet(&mut self) {
        let kind = &self.key.kind;
        if kind.group.is_empty() && &*kind.kind == "Secret" {
            // Gateways get Secrets from who keeps the objects, past everything that is compiled.
            return;
        }
        let message = format!("kind {kind} ({}) is not read yet; the object has no effect", self.meta.api_version);
        let mut report = codes::KIND.report(self.subject(), "kind", message);
        if let Some(near) = kinds::nearest(kind) {
            report = report.fix(format!("did you mean kind {} of apiVersion {}?", near.kind, near.api_version()));
        }
        self.reports.push(report);
    }

    fn version(&self, served: &ServedKind) -> Result<(), Vec<Report>> {
        let version = self.meta.api_version.rsplit('/').next().unwrap_or_default();
        if served.versions.contains(&version) {
            return Ok(());
        }
        let names = served.versions.join(", ");
        let message = format!("{} has no version {version}; served are {names}", served.kind);
        let report = codes::VERSION.report(self.subject(), "apiVersion", message);
        Err(vec![report.fix(format!("write apiVersion: {}", served.api_version()))])
    }

    /// An object whose content is in `spec`.
    fn spec<T: DeserializeOwned + Serialize + Default>(&mut self) -> Result<Arc<Object<T>>, Vec<Report>> {
        let names = ["apiVersion", "kind", "metadata", "spec", "status"];
        let others = self.value.iter().filter(|(k, v)| !names.contains(&k.as_str()) && !v.is_null());
        let others: Vec<_> = others
            .map(|(k, _)| Unknown { path: child("", k), name: k.clone(), known: &["spec", "metadata"] })
            .collect();
        self.unknown(others);
        match self.value.get("spec").filter(|s| !s.is_null()) {
            // The kinds whose CRD requires it; the others are refused for what is then missing inside.
            None if matches!(&*self.key.kind.kind, "ServiceEntry" | "WorkloadEntry" | "WorkloadGroup") => {
                self.reports.push(codes::SCHEMA.report(self.subject(), "spec", "spec: Required value"));
                Err(std::mem::take(&mut self.reports))
            }
            None => Ok(Arc::new(self.object(T::default()))),
            Some(spec) => self.decode(spec, "spec"),
        }
    }

    /// An object whose content is next to the metadata.
    fn whole<T: DeserializeOwned + Serialize>(&mut self) -> Result<Arc<Object<T>>, Vec<Report>> {
        let mut body = self.value.clone();
        for name in ["apiVersion", "kind", "metadata", "status"] {
            body.remove(name);
        }
        self.decode(&Value::Object(body), "")
    }

    fn decode<T: DeserializeOwned + Serialize>(
        &mut self,
        value: &Value,
        base: &str,
    ) -> Result<Arc<Object<T>>, Vec<Report>> {
        let proto_names = self.is_istio();
        let (result, unknown) = decode::<T>(value, base, proto_names);
        self.unknown(unknown);
        match result {
            Ok(spec) => Ok(Arc::new(self.object(spec))),
            Err(error) => {
                let report = schema(self.subject(), error);
                self.reports.push(report);
                Err(std::mem::take(&mut self.reports))
            }
        }
    }

    fn is_istio(&self) -> bool {
        self.key.kind.group.ends_with("istio.io")
    }

    fn unknown(&mut self, fields: Vec<Unknown>) {
        for Unknown { path, name, known } in fields {
            let near = kinds::closest(&name, known.iter().copied());
            let mut report = if self.is_istio() || path.starts_with("metadata") {
                codes::UNKNOWN.report(self.subject(), &path, format!("unknown field {path} is ignored by Istio"))
            } else {
                codes::INERT.report(self.subject(), &path, format!("{path} is inert in the local mesh"))
            };
            let foreign = foreign::instead(&path).filter(|_| self.is_istio());
            if let Some(instead) = foreign {
                report = report.fix(instead);
            } else if let Some(near) = near {
                report = report.fix(format!("did you mean {near}?"));
            }
            self.reports.push(report);
        }
    }

    fn object<T: Serialize>(&self, spec: T) -> Object<T> {
        let Meta { name, namespace, labels, annotations, creation_timestamp, .. } = &self.meta;
        let hashed = (&self.key.kind, name, namespace, labels, annotations, creation_timestamp, &spec);
        let hash = ContentHash::of_json(&hashed);
        Object { key: self.key.clone(), meta: self.meta.clone(), origin: self.origin.clone(), hash, spec }
    }
}

fn schema(subject: (&Key, &Origin), error: DecodeError) -> Report {
    let DecodeError { path, message } = error;
    codes::SCHEMA.report(subject, &path, format!("{path} {message}"))
}

#[cfg(test)]
mod tests;
