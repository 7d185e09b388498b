//! External authorizers over HTTP and gRPC, reached as clusters of the mesh.

mod grpc;
mod proto;
mod web;

use std::sync::Arc;

use mesh_core::layers::SendFuture;
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{AuthorizerPlan, ClusterPlan, ProviderPlan, Snapshot};
use mesh_policy::ext_authz::{BodyInCheck, Check, ExternalAuthorizer, Provider, Verdict};

use crate::cluster::Runtime;
use crate::net::Net;

/// What can be asked, of the providers of a plan. Clusters are those of the snapshot.
pub(crate) fn providers<N: Net>(snapshot: &Snapshot, runtime: &Arc<Runtime<N>>) -> Arc<[Provider]> {
    let provider = |plan: &Arc<ProviderPlan>| {
        let cluster = snapshot.clusters.get(&plan.cluster)?.clone();
        let authorizer = Authorizer { plan: Arc::clone(plan), cluster, runtime: Arc::clone(runtime) };
        let body = plan.body.as_ref().map(|b| BodyInCheck { max: b.max, allow_partial: b.allow_partial });
        Some(Provider {
            name: Arc::clone(&plan.name),
            authorizer: Arc::new(authorizer),
            fail_open: plan.fail_open,
            status_on_error: plan.status_on_error,
            body,
        })
    };
    snapshot.security.providers.iter().filter_map(provider).collect()
}

struct Authorizer<N: Net> {
    plan: Arc<ProviderPlan>,
    cluster: Arc<ClusterPlan>,
    runtime: Arc<Runtime<N>>,
}

impl<N: Net> ExternalAuthorizer for Authorizer<N> {
    fn admits(&self, conn: &Arc<ConnInfo>) -> SendFuture<Result<bool, String>> {
        let (plan, cluster, runtime) = (Arc::clone(&self.plan), Arc::clone(&self.cluster), Arc::clone(&self.runtime));
        let conn = Arc::clone(conn);
        Box::pin(async move {
            if plan.speaks != AuthorizerPlan::Grpc {
                return Err("authorizers over HTTP are not asked about bytes".to_owned());
            }
            match tokio::time::timeout(plan.timeout, grpc::admits(&runtime, &cluster, &plan, &conn)).await {
                Ok(admitted) => admitted,
                Err(_) => Err(format!("no answer within {:?}", plan.timeout)),
            }
        })
    }

    fn check(&self, check: &Check) -> SendFuture<Result<Verdict, String>> {
        let (plan, cluster, runtime) = (Arc::clone(&self.plan), Arc::clone(&self.cluster), Arc::clone(&self.runtime));
        let check = check.clone();
        Box::pin(async move {
            let asking = async {
                match &plan.speaks {
                    AuthorizerPlan::Http(rules) => web::ask(&runtime, &cluster, &plan, rules, &check).await,
                    AuthorizerPlan::Grpc => grpc::ask(&runtime, &cluster, &plan, &check).await,
                }
            };
            match tokio::time::timeout(plan.timeout, asking).await {
                Ok(verdict) => verdict,
                Err(_) => Err(format!("no answer within {:?}", plan.timeout)),
            }
        })
    }
}
