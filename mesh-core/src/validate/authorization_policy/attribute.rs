//! Keys of `when`.

use super::Rule;
use crate::matching::PolicyAttribute;

/// What the values of an attribute have to be; why there is no such attribute.
pub(super) fn rule(key: &str) -> Result<Rule, String> {
    Ok(match PolicyAttribute::parse(key)? {
        PolicyAttribute::SourceIp | PolicyAttribute::RemoteIp | PolicyAttribute::DestinationIp => Rule::Ip,
        PolicyAttribute::SourcePrincipal => Rule::Principal,
        PolicyAttribute::SourceServiceAccount => Rule::Account,
        PolicyAttribute::SourceTrustDomain => Rule::TrustDomain,
        PolicyAttribute::DestinationPort => Rule::Port,
        PolicyAttribute::SourceNamespace
        | PolicyAttribute::RequestHeader(_)
        | PolicyAttribute::RequestPrincipal
        | PolicyAttribute::Audiences
        | PolicyAttribute::Presenter
        | PolicyAttribute::Claim(_)
        | PolicyAttribute::Sni
        | PolicyAttribute::Metadata => Rule::Any,
    })
}

/// An attribute of the peer's or the user's identity, which is not known yet when an external authorizer is asked.
pub(super) fn is_identity(key: &str) -> bool {
    let peer = ["source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"];
    peer.contains(&key) || key.starts_with("request.auth.")
}
