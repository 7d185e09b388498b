//! The few messages of Envoy's discovery service that the channel uses, with Envoy's field numbers
//! (`envoy.service.discovery.v3`, `envoy.config.core.v3.Node`, `google.rpc.Status`, `google.protobuf`). Fields that we
//! neither send nor read are left out; decoding skips them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mesh_core::api::ContentHash;
use mesh_core::wire::{Ack, Delta, Rejection, ResourceName, WireResource};

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Type of the value.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Encoded value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Text.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Details.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Value`, of which we use texts only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// A text; other kinds of value decode as `None`.
    #[prost(string, optional, tag = "3")]
    pub string_value: Option<String>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    /// Fields.
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// `type~ip~pod.namespace~domain`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Cluster of the proxy.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Free fields.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    /// Name of the program.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
}

impl Node {
    /// A text of the metadata.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.metadata.as_ref()?.fields.get(field)?.string_value.as_deref()
    }

    /// Metadata of one text.
    pub fn with_text(mut self, field: &str, text: String) -> Self {
        let fields = &mut self.metadata.get_or_insert_default().fields;
        fields.insert(field.to_owned(), Value { string_value: Some(text) });
        self
    }
}

/// `DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaRequest {
    /// Who asks.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// Type subscribed to.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names added to the subscription.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names taken off the subscription.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What is held already, by name and version.
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    /// The response this acknowledges.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Why it was refused.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Content.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaResponse {
    /// For people.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Added or changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// Type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Names this response.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Removed.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

const METADATA_CONFIG: &str = "MESH_CONFIG";
/// Metadata field of the [`mesh_core::snapshot::ProxyId`].
pub(super) const METADATA_PROXY: &str = "MESH_PROXY";
const TYPE_PREFIX: &str = "type.mesh.local/";
const INVALID_ARGUMENT: i32 = 3;

/// `KIND:NAME`. Kinds hold no colon, names may.
pub fn name_text(name: &ResourceName) -> String {
    format!("{}:{}", name.kind, name.name)
}

/// The reverse of [`name_text`].
pub fn parse_name(text: &str) -> Option<ResourceName> {
    let (kind, name) = text.split_once(':')?;
    Some(ResourceName { kind: kind.into(), name: name.into() })
}

/// The reverse of a [`ContentHash`]'s `Display`.
pub fn parse_hash(text: &str) -> Option<ContentHash> {
    u64::from_str_radix(text, 16).ok().map(ContentHash)
}

impl From<&Delta> for DeltaResponse {
    fn from(delta: &Delta) -> Self {
        let resource = |r: &Arc<WireResource>| Resource {
            version: r.version.to_string(),
            resource: Some(Any {
                type_url: format!("{TYPE_PREFIX}{}", r.name.kind),
                value: Bytes::from_owner(r.body.bytes()),
            }),
            name: name_text(&r.name),
        };
        Self {
            system_version_info: String::new(),
            resources: delta.changed.iter().map(resource).collect(),
            type_url: super::TYPE_URL.to_owned(),
            nonce: delta.nonce.clone(),
            removed_resources: delta.removed.iter().map(name_text).collect(),
        }
    }
}

impl DeltaResponse {
    /// The delta, and the names of resources that are no resources of ours, which the proxy refuses by name.
    pub fn into_delta(self) -> (Delta, Vec<String>) {
        let mut foreign = Vec::new();
        let mut delta = Delta { nonce: self.nonce, ..Delta::default() };
        for r in self.resources {
            match (parse_name(&r.name), parse_hash(&r.version), r.resource) {
                (Some(name), Some(version), Some(any)) => {
                    delta.changed.push(Arc::new(WireResource { name, version, body: (&*any.value).into() }));
                }
                _ => foreign.push(r.name),
            }
        }
        delta.removed = self.removed_resources.iter().filter_map(|n| parse_name(n)).collect();
        (delta, foreign)
    }
}

impl From<&Ack> for DeltaRequest {
    fn from(ack: &Ack) -> Self {
        let detail = |r: &Rejection| Any {
            type_url: format!("{TYPE_PREFIX}Rejection"),
            value: serde_json::to_vec(r).expect("invariant: a rejection is two texts").into(),
        };
        let error_detail = (!ack.rejected.is_empty()).then(|| Status {
            code: INVALID_ARGUMENT,
            message: ack
                .rejected
                .iter()
                .map(|r| format!("{}: {}", name_text(&r.name), r.message))
                .collect::<Vec<_>>()
                .join("; "),
            details: ack.rejected.iter().map(detail).collect(),
        });
        Self {
            node: Some(Node::default().with_text(METADATA_CONFIG, ack.config.to_string())),
            type_url: super::TYPE_URL.to_owned(),
            response_nonce: ack.nonce.clone(),
            error_detail,
            ..Self::default()
        }
    }
}

impl DeltaRequest {
    /// The acknowledgement that this is; `None` for a first request.
    pub fn to_ack(&self) -> Option<Ack> {
        if self.response_nonce.is_empty() {
            return None;
        }
        let config = self.node.as_ref().and_then(|n| n.text(METADATA_CONFIG)).and_then(parse_hash);
        let details = self.error_detail.iter().flat_map(|s| &s.details);
        Some(Ack {
            nonce: self.response_nonce.clone(),
            config: config.unwrap_or_default(),
            rejected: details.filter_map(|d| serde_json::from_slice(&d.value).ok()).collect(),
        })
    }
}
