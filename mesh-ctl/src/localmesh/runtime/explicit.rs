//! Explicit mode: plain processes, each pod with a loopback address of its own, applications with proxy variables.

use std::collections::BTreeMap;

use super::{
    Child, ChildId, Ipv4Addr, Mode, Pending, PodId, PodRuntime, PodSpec, Pods, ProcessSpec, Role, SocketAddr,
    TcpListener, TcpStream, Usage, io,
};
use crate::localmesh::OUTBOUND_PORT;

/// Pods without namespaces.
pub(in crate::localmesh) struct Explicit(Pods);

impl Explicit {
    pub(in crate::localmesh) fn new(pods: Pods) -> Self {
        Self(pods)
    }

    async fn create(&self, spec: PodSpec) -> io::Result<PodId> {
        let [a, b, ..] = spec.ip.octets();
        if (a, b) != (127, 1) {
            let text = format!("pod {}/{}: {} is not in 127.1.0.0/16", spec.namespace, spec.name, spec.ip);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // Files cannot be laid over anything here; they would only travel to the holder.
        self.0.create(PodSpec { files: Vec::new(), volumes: Vec::new(), ..spec }).await
    }

    async fn start(&self, pod: PodId, mut process: ProcessSpec) -> io::Result<Child> {
        if process.role == Role::App {
            let ip = self.0.pod(pod)?.ip;
            add_proxy(&mut process.env, ip);
        }
        self.0.spawn(pod, process, Mode::Explicit).await
    }
}

/// The variables by which clients find the sidecar; what the caller has set stays. Lower case is what curl reads, upper
/// case what others read.
fn add_proxy(env: &mut BTreeMap<String, String>, ip: Ipv4Addr) {
    let proxy = format!("http://{ip}:{OUTBOUND_PORT}");
    let direct = format!("localhost,127.0.0.1,{ip}");
    for (name, value) in [("http_proxy", &proxy), ("https_proxy", &proxy), ("no_proxy", &direct)] {
        for name in [name.to_owned(), name.to_uppercase()] {
            env.entry(name).or_insert_with(|| value.clone());
        }
    }
}

impl PodRuntime for Explicit {
    fn mode(&self) -> Mode {
        Mode::Explicit
    }

    fn create_pod(&self, spec: PodSpec) -> Pending<'_, PodId> {
        Box::pin(self.create(spec))
    }

    fn spawn(&self, pod: PodId, process: ProcessSpec) -> Pending<'_, Child> {
        Box::pin(self.start(pod, process))
    }

    fn kill(&self, pod: PodId, child: ChildId, signal: i32) -> Pending<'_, ()> {
        Box::pin(self.0.kill(pod, child, signal))
    }

    fn destroy(&self, pod: PodId) -> Pending<'_, ()> {
        Box::pin(self.0.destroy(pod))
    }

    fn connect_in_pod(&self, pod: PodId, to: SocketAddr, _mark: Option<u32>) -> Pending<'_, TcpStream> {
        Box::pin(self.0.connect(pod, to, None))
    }

    fn listen_in_pod(&self, pod: PodId, at: SocketAddr) -> Pending<'_, TcpListener> {
        Box::pin(self.0.listen(pod, at))
    }

    fn pod_gone(&self, pod: PodId) -> Pending<'_, ()> {
        Box::pin(self.0.gone(pod))
    }

    fn usage(&self, pod: PodId) -> Pending<'_, Usage> {
        Box::pin(self.0.usage(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_variables_name_the_pods_own_listener() {
        let mut env = BTreeMap::from([("NO_PROXY".to_owned(), "mine".to_owned())]);
        add_proxy(&mut env, Ipv4Addr::new(127, 1, 2, 3));
        assert_eq!(env["http_proxy"], "http://127.1.2.3:15001");
        assert_eq!(env["HTTPS_PROXY"], "http://127.1.2.3:15001");
        assert_eq!(env["no_proxy"], "localhost,127.0.0.1,127.1.2.3");
        assert_eq!(env["NO_PROXY"], "mine");
    }
}
