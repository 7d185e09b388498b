# Sourced by the scripts beside it: a temporary folder in $dir, and `run`, which becomes the proxy itself. What measures a
# process by its session sees the proxy and nothing else; the folder goes when the proxy has gone.

bench_dir() {
    dir=$(mktemp -d)
    setsid sh -c "tail --pid=$$ -f /dev/null; rm -rf '$dir'" < /dev/null > /dev/null 2>&1 &
}

# A port that nobody has just now.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# The mesh's settings: ports of captured traffic, which nobody uses here, where they are in nobody's way.
mesh_config() {
    cat <<YAML
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    proxyListenPort: $(free_port)
    proxyInboundListenPort: $(free_port)
YAML
}

# The Pod that a sidecar is for: name.
pod() {
    cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: default, labels: {app: $1}}
spec: {serviceAccountName: $1, containers: [{name: app, image: app}]}
YAML
}

# Becomes the sidecar of a pod with the resources in $dir, and with an identity in files if there are three: name, chain,
# key, roots.
run_sidecar() {
    export ISTIO_META_TLS_CLIENT_CERT_CHAIN=${2:-} ISTIO_META_TLS_CLIENT_KEY=${3:-} ISTIO_META_TLS_CLIENT_ROOT_CERT=${4:-}
    exec "${MESH_PROXY:-mesh-proxy}" --config "$dir/mesh.yaml" --workload "default/$1" --concurrency 1 \
        --admin-port "${ADMIN_PORT:-off}" --health-port off --metrics-port off --minimum-drain 0
}

# An authority in $dir, and the certificates of workloads that it has signed, as the mesh makes them (P-256): accounts.
certificates() {
    local who options=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=cluster.local)
    {
        openssl req -x509 "${options[@]}" -keyout "$dir/ca.key" -out "$dir/ca.pem" -days 2
        for who in "$@"; do
            cat > "$dir/extensions" <<EXT
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=critical,URI:spiffe://cluster.local/ns/default/sa/$who
EXT
            openssl req -new "${options[@]}" -keyout "$dir/$who.key" -out "$dir/$who.csr"
            openssl x509 -req -in "$dir/$who.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
                -extfile "$dir/extensions" -out "$dir/$who.pem"
        done
    } 2> "$dir/openssl.log" || { cat "$dir/openssl.log" >&2; return 1; }
}
