"""What `logged`, `tail` and `soak` share: an nginx to forward to, proxies and load, each pinned to its processor."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = "svc7.default.svc.cluster.local"
PATH = "/api/ping"
# Istio's default format.
ACCESS_LOG = (
    '[%START_TIME%]',
    '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"',
    '%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%',
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION%',
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%"',
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS%',
    '%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%',
)
CORE_LOAD = os.environ.get("CORE_LOAD", "0")
CORE_PROXY = os.environ.get("CORE_PROXY", "1")


def tool(name, variable=None):
    """The program that a variable names, or that is found; ends the run without it."""
    given = os.environ.get(variable or name.upper())
    found = shutil.which(given or name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return found or sys.exit(f"there is no {given or name}; {variable or name.upper()} names it")


def free_port():
    while True:
        port = random.randint(20000, 30000)
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                return port


def pin(core):
    taskset = shutil.which("taskset")
    return [taskset, "-c", core] if taskset and core else []


class Bench:
    """A folder and processes that end with it."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="mesh-bench-")
        self.processes = []
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, command, core, **environment):
        log = open(os.path.join(self.dir, name + ".log"), "w")
        process = subprocess.Popen(
            pin(core) + command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        self.processes.append(process)
        return process

    def log(self, name):
        with open(os.path.join(self.dir, name + ".log")) as log:
            return log.read()

    def backend(self):
        port = free_port()
        config = os.path.join(self.dir, "nginx.conf")
        with open(config, "w") as f:
            f.write(
                f"""daemon off; master_process off; pid {self.dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;
  client_body_temp_path {self.dir}; proxy_temp_path {self.dir}; fastcgi_temp_path {self.dir};
  uwsgi_temp_path {self.dir}; scgi_temp_path {self.dir};
  server {{ listen 127.0.0.1:{port} backlog=4096; default_type application/json;
    location / {{ return 200 "{'x' * 200}"; }} }}
}}
"""
            )
        self.start("nginx", [tool("nginx"), "-p", self.dir, "-c", config, "-e", "stderr"], CORE_LOAD)
        wait_for(lambda: get(port) is not None, lambda: self.log("nginx"))
        return f"127.0.0.1:{port}"


    def gateway(self, name, listen, upstream, **environment):
        """The hop of `h1`, with its variables."""
        return self.start(name, [os.path.join(HERE, "h1"), listen, upstream, "1"], CORE_PROXY, **environment)

    def envoy(self, name, listen, upstream, log=None):
        """The same hop: one listener, one prefix route, one static cluster; an access log in Istio's format in `log`."""
        config = os.path.join(self.dir, name + ".json")
        with open(config, "w") as f:
            json.dump(envoy_config(listen, upstream, log), f)
        command = [tool("envoy"), "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        return self.start(name, command, CORE_PROXY)


def envoy_config(listen, upstream, log):
    address = lambda at: {"socket_address": {"address": at.split(":")[0], "port_value": int(at.split(":")[1])}}
    kinds = "type.googleapis.com/envoy.extensions"
    route = {"match": {"prefix": "/api"}, "route": {"cluster": "upstream"}}
    manager = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "hop",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"}}
        ],
    }
    if log:
        line = {"text_format_source": {"inline_string": " ".join(ACCESS_LOG) + "\n"}}
        typed = {"@type": f"{kinds}.access_loggers.file.v3.FileAccessLog", "path": log, "log_format": line}
        manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": typed}]
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": address(upstream)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "hop", "address": address(listen), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def get(port, path=PATH):
    """Status and headers (lower case) of one request, or None."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
            answer = b""
            while more := s.recv(65536):
                answer += more
    except OSError:
        return None
    head = answer.split(b"\r\n\r\n")[0].decode("latin1").split("\r\n")
    if len(head[0].split(" ")) < 2:
        return None
    return int(head[0].split(" ")[1]), dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)


def wait_for(true, why, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            sys.exit("it does not answer: " + why())
        time.sleep(0.02)


def saturation(port, seconds=10):
    """Requests per second of 64 connections that wait for nothing but the answer."""
    command = [tool("wrk"), "-t1", "-c64", f"-d{seconds}s", "-H", f"Host: {HOST}", f"http://127.0.0.1:{port}{PATH}"]
    said = subprocess.run(pin(CORE_LOAD) + command, capture_output=True, text=True, timeout=seconds + 60).stdout
    wrong = re.search(r"Non-2xx.*|Socket errors.*", said)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if wrong or not rate:
        sys.exit(f"wrk: {wrong.group() if wrong else said}")
    return float(rate.group(1))


def load_command(port, rate, seconds):
    """An open loop with 64 connections, whose times count from when a request was due."""
    url = f"http://127.0.0.1:{port}{PATH}"
    options = ["-c", "64", "--qps", f"{rate:.1f}", "--corrected", "-t", f"{seconds}s", "-H", f"host: {HOST}", "-o", "json"]
    return pin(CORE_LOAD) + [tool("meshctl"), "load", *options, url]


def answers(said):
    """What `meshctl load` printed; anything but 200 ends the run."""
    report = json.loads(said)
    if report["errors"] or set(report["codes"]) - {"200"}:
        sys.exit(f"errors: {report['errors']} {report['codes']}")
    return report


def percentile(report, which):
    """In milliseconds."""
    found = [p["value"] for p in report["latencySeconds"]["percentiles"] if p["percentile"] == which]
    return found[0] * 1e3


def cpu(pid):
    """Seconds of processor time."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Resident and anonymous memory in KiB."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    return int(fields["VmRSS"].split()[0]), int(fields["RssAnon"].split()[0])
