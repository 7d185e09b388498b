//! The environment of a container, as the kubelet makes it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_core::api::Object;
use mesh_core::api::kube::{Container, EnvVar, EnvVarSource, PodSpec, ServiceSpec};

/// What a container's variables can refer to.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The pod.
    pub pod: &'a Object<PodSpec>,
    /// Its address.
    pub ip: IpAddr,
    /// ConfigMaps of its namespace by name.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets of its namespace by name, decoded.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Services of its namespace with their virtual addresses, for `NAME_SERVICE_HOST`.
    pub services: Vec<(&'a Object<ServiceSpec>, Option<IpAddr>)>,
}

/// Variables of a container. `base` comes first and loses to everything else.
///
/// # Errors
/// A reference to something that is not there; the text names the variable and what to create.
pub(super) fn environment(
    facts: &Facts<'_>,
    container: &Container,
    base: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = base.clone();
    let (name, namespace) = (facts.pod.key.name.to_string(), facts.pod.key.namespace.to_string());
    let host = &facts.pod.spec.hostname;
    env.insert("HOSTNAME".into(), if host.is_empty() { name.clone() } else { host.clone() });
    env.insert("POD_NAME".into(), name);
    env.insert("POD_NAMESPACE".into(), namespace);
    env.insert("POD_IP".into(), facts.ip.to_string());
    service_links(facts, &mut env);
    for from in &container.env_from {
        let (what, reference, found) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => ("ConfigMap", r, facts.config_maps.get(&r.name)),
            (None, Some(r)) => ("Secret", r, facts.secrets.get(&r.name)),
            (None, None) => continue,
        };
        match found {
            Some(data) => env.extend(data.iter().map(|(k, v)| (format!("{}{k}", from.prefix), v.clone()))),
            None if reference.optional == Some(true) => {}
            None => {
                return Err(format!(
                    "envFrom: {what} {} does not exist; apply it or set optional: true",
                    reference.name
                ));
            }
        }
    }
    for variable in &container.env {
        if let Some(value) = value_of(facts, variable, &env)? {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

fn value_of(facts: &Facts<'_>, variable: &EnvVar, env: &BTreeMap<String, String>) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else { return Ok(Some(expand(&variable.value, env))) };
    let name = &variable.name;
    let EnvVarSource { field_ref, config_map_key_ref, secret_key_ref, resource_field_ref } = source;
    if let Some(field) = field_ref {
        return field_of(facts, &field.field_path)
            .map(Some)
            .ok_or_else(|| format!("env {name}: the field {:?} is not known here", field.field_path));
    }
    let lookups = [("ConfigMap", config_map_key_ref, &facts.config_maps), ("Secret", secret_key_ref, &facts.secrets)];
    for (what, reference, all) in lookups {
        let Some(r) = reference else { continue };
        return match all.get(&r.name).and_then(|data| data.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if r.optional == Some(true) => Ok(None),
            None => Err(format!("env {name}: {what} {} has no key {}; apply it or set optional: true", r.name, r.key)),
        };
    }
    match resource_field_ref {
        // There are no limits in the local mesh; Kubernetes then says what the node has.
        Some(r) if r.resource.ends_with(".cpu") => {
            Ok(Some(std::thread::available_parallelism().map_or(1, usize::from).to_string()))
        }
        Some(_) => Ok(Some("0".into())),
        None => Ok(Some(String::new())),
    }
}

fn field_of(facts: &Facts<'_>, path: &str) -> Option<String> {
    let meta = &facts.pod.meta;
    let key = |list: &str| path.strip_prefix(list)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(label) = key("metadata.labels") {
        return Some(meta.labels.get(label).cloned().unwrap_or_default());
    }
    if let Some(annotation) = key("metadata.annotations") {
        return Some(meta.annotations.get(annotation).cloned().unwrap_or_default());
    }
    let spec = &facts.pod.spec;
    let account = [&spec.service_account_name, &spec.service_account].into_iter().find(|a| !a.is_empty());
    Some(match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => facts.pod.key.namespace.to_string(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "spec.serviceAccountName" => account.map_or("default", String::as_str).to_owned(),
        "spec.nodeName" => "local".to_owned(),
        "status.podIP" | "status.podIPs" => facts.ip.to_string(),
        "status.hostIP" | "status.hostIPs" => "10.244.0.1".to_owned(),
        _ => return None,
    })
}

/// `$(NAME)` refers to a variable before it, `$$` is a dollar sign; what is not known stays as it is.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `REVIEWS_SERVICE_HOST` and its like, for the Services that exist when the pod starts.
fn service_links(facts: &Facts<'_>, env: &mut BTreeMap<String, String>) {
    for (service, ip) in &facts.services {
        let (Some(ip), Some(first)) = (ip, service.spec.ports.first()) else { continue };
        let name = service.key.name.to_uppercase().replace(['-', '.'], "_");
        env.insert(format!("{name}_SERVICE_HOST"), ip.to_string());
        env.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
        for port in service.spec.ports.iter().filter(|p| !p.name.is_empty()) {
            let port_name = port.name.to_uppercase().replace('-', "_");
            env.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
