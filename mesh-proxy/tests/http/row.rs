//! One observed row: what is configured, what is sent, what has to come back.

use mesh_core::record::RequestRecord;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::mesh::{Config, DEFAULT, Door, Mesh, details, flags};
use crate::upstream::{Up, Upstream};

pub(crate) const GET: &str = "GET /x HTTP/1.1\r\nhost: up.example\r\n\r\n";

/// A response as it came over HTTP/1.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Status code and reason phrase.
    pub(crate) status: String,
    /// Header lines.
    pub(crate) headers: Vec<String>,
    /// The body, without chunk framing.
    pub(crate) body: String,
    /// Heads of 1xx responses before it.
    pub(crate) interim: Vec<String>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Answer {
    pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin), to_head: bool) -> Self {
        Self::read_next(io, &mut Vec::new(), to_head).await
    }

    /// One of several; `got` is what came after the one before.
    pub(crate) async fn read_next(io: &mut (impl AsyncRead + Unpin), got: &mut Vec<u8>, to_head: bool) -> Self {
        let mut answer = Self::default();
        loop {
            let head = take_until(io, got, b"\r\n\r\n").await.expect("a response's head");
            let (status, headers) = head.split_once("\r\n").unwrap();
            let status = status.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1").to_owned();
            let headers: Vec<_> = headers.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
            if status.starts_with('1') && !status.starts_with("101") {
                answer.interim.push(head);
                continue;
            }
            (answer.status, answer.headers) = (status, headers);
            break;
        }
        let code = &answer.status[..3];
        if to_head || matches!(code, "101" | "204" | "304") {
            return answer;
        }
        let length = answer.header("content-length").map(|l| l.parse::<usize>().unwrap());
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.chunks(io, got).await;
        } else {
            while length.is_none_or(|l| got.len() < l) && io.read_buf(got).await.unwrap_or(0) > 0 {}
            answer.cut = length.is_some_and(|l| got.len() < l);
            let body: Vec<u8> = got.drain(..length.unwrap_or(got.len()).min(got.len())).collect();
            answer.body = String::from_utf8_lossy(&body).into_owned();
        }
        answer
    }

    async fn chunks(&mut self, io: &mut (impl AsyncRead + Unpin), got: &mut Vec<u8>) {
        loop {
            let Some(size) = take_until(io, got, b"\r\n").await else { break };
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            while got.len() < size + 2 {
                if io.read_buf(got).await.unwrap_or(0) == 0 {
                    self.cut = true;
                    return;
                }
            }
            self.body += &String::from_utf8_lossy(&got[..size]);
            got.drain(..size + 2);
            if size == 0 {
                return;
            }
        }
        self.cut = true;
    }

    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|h| h.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(crate) async fn take_until(io: &mut (impl AsyncRead + Unpin), got: &mut Vec<u8>, end: &[u8]) -> Option<String> {
    loop {
        if let Some(at) = got.windows(end.len()).position(|w| w == end) {
            let rest = got.split_off(at + end.len());
            return Some(String::from_utf8_lossy(&std::mem::replace(got, rest)).into_owned());
        }
        if io.read_buf(got).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// A row of the table.
pub(crate) struct Row {
    id: &'static str,
    config: Config,
    up: Up,
    raw: Vec<u8>,
    status: &'static str,
    body: Option<&'static str>,
    text: bool,
    flags: &'static str,
    details: &'static str,
    has: &'static [&'static str],
    lacks: &'static [&'static str],
    upstream_has: &'static [&'static str],
    upstream_lacks: &'static [&'static str],
    closes: bool,
    tries: Option<usize>,
    failure: Option<&'static str>,
}

/// A row with an upstream; a GET through a gateway that is answered with 200 unless said otherwise.
pub(crate) fn row(id: &'static str, up: Up) -> Row {
    Row {
        id,
        config: DEFAULT,
        up,
        raw: GET.into(),
        status: "200 OK",
        body: None,
        text: false,
        flags: "-",
        details: "via_upstream",
        has: &[],
        lacks: &[],
        upstream_has: &[],
        upstream_lacks: &[],
        closes: false,
        tries: None,
        failure: None,
    }
}

/// What a row gave, for what the row itself can't say.
pub(crate) struct Seen {
    pub(crate) answer: Answer,
    pub(crate) record: RequestRecord,
    pub(crate) node: String,
}

impl Row {
    pub(crate) fn door(mut self, door: Door) -> Self {
        self.config.door = door;
        self
    }

    pub(crate) fn hosts(mut self, hosts: &'static str) -> Self {
        self.config.hosts = hosts;
        self
    }

    pub(crate) fn routes(mut self, routes: &'static str) -> Self {
        self.config.routes = routes;
        self
    }

    /// Further documents of the configuration.
    pub(crate) fn extra(mut self, extra: &'static str) -> Self {
        self.config.extra = extra;
        self
    }

    /// The identity that the client has shown over TLS; empty: none.
    pub(crate) fn peer(mut self, peer: &'static str) -> Self {
        self.config.peer = peer;
        self
    }

    pub(crate) fn http2_upstream(mut self) -> Self {
        self.config.protocol = "HTTP2";
        self
    }

    /// The request, byte for byte.
    pub(crate) fn raw(mut self, raw: impl Into<Vec<u8>>) -> Self {
        self.raw = raw.into();
        self
    }

    /// A GET of this target.
    pub(crate) fn get(self, target: &str) -> Self {
        self.raw(format!("GET {target} HTTP/1.1\r\nhost: up.example\r\n\r\n"))
    }

    /// A GET with these header lines.
    pub(crate) fn headers(self, lines: &[&str]) -> Self {
        self.raw(format!("GET /x HTTP/1.1\r\nhost: up.example\r\n{}\r\n\r\n", lines.join("\r\n")))
    }

    pub(crate) fn status(mut self, status: &'static str) -> Self {
        self.status = status;
        self
    }

    /// The response's body, exactly.
    pub(crate) fn body(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    /// A local reply with a text, or an empty one.
    pub(crate) fn local(mut self, status: &'static str, text: &'static str) -> Self {
        (self.status, self.body, self.text) = (status, Some(text), true);
        self
    }

    pub(crate) fn log(mut self, flags: &'static str, details: &'static str) -> Self {
        (self.flags, self.details) = (flags, details);
        self
    }

    /// Header lines (or beginnings of them) of the response.
    pub(crate) fn has(mut self, lines: &'static [&'static str]) -> Self {
        self.has = lines;
        self
    }

    pub(crate) fn lacks(mut self, lines: &'static [&'static str]) -> Self {
        self.lacks = lines;
        self
    }

    /// Lines of the request as the echoing upstream got it, complete.
    pub(crate) fn upstream_has(mut self, lines: &'static [&'static str]) -> Self {
        self.upstream_has = lines;
        self
    }

    /// Beginnings of lines that it must not get.
    pub(crate) fn upstream_lacks(mut self, lines: &'static [&'static str]) -> Self {
        self.upstream_lacks = lines;
        self
    }

    /// The response says `connection: close`, and the connection is closed.
    pub(crate) fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The upstream gets so many requests.
    pub(crate) fn tries(mut self, tries: usize) -> Self {
        self.tries = Some(tries);
        self
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(crate) fn failure(mut self, reason: &'static str) -> Self {
        self.failure = Some(reason);
        self
    }

    /// Runs it. What hangs is stopped, so that its name is printed.
    pub(crate) async fn run(self) -> Seen {
        let id = self.id;
        let hung = std::time::Duration::from_secs(5);
        tokio::time::timeout(hung, self.exchange()).await.unwrap_or_else(|_| panic!("{id} hangs"))
    }

    async fn exchange(self) -> Seen {
        let upstream = Upstream::start(self.up).await;
        let mut mesh = Mesh::start(&self.config, upstream.at).await;
        let mut client = mesh.connect().await;
        client.write_all(&self.raw).await.unwrap();
        let answer = Answer::read(&mut client, self.raw.starts_with(b"HEAD ")).await;
        if self.closes {
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{}: {rest:?} after the answer", self.id);
        }
        drop(client);
        let record = mesh.record().await;
        self.check(&answer, &record);
        if let Some(tries) = self.tries {
            assert_eq!(upstream.requests(), tries, "{}: tries", self.id);
        }
        Seen { answer, record, node: mesh.node }
    }

    fn check(&self, answer: &Answer, record: &RequestRecord) {
        let said = format!("{}: {answer:#?} {} {}", self.id, flags(record), details(record));
        assert_eq!(answer.status, self.status, "{said}");
        if let Some(body) = self.body {
            assert_eq!(answer.body, body, "{said}");
        }
        if self.text {
            let typed = answer.header("content-type") == Some("text/plain");
            assert_eq!(typed, self.body != Some(""), "{said}");
            assert!(answer.header("server").is_some() && answer.header("date").is_some(), "{said}");
            assert!(answer.header("x-envoy-upstream-service-time").is_none(), "{said}");
        }
        for line in self.has {
            assert!(answer.headers.iter().any(|h| h.starts_with(line)), "no {line:?} in {said}");
        }
        for line in self.lacks {
            assert!(!answer.headers.iter().any(|h| h.starts_with(line)), "{line:?} in {said}");
        }
        for line in self.upstream_has {
            assert!(answer.body.lines().any(|l| l == *line), "upstream: no {line:?} in {said}");
        }
        for line in self.upstream_lacks {
            assert!(!answer.body.lines().any(|l| l.starts_with(line)), "upstream: {line:?} in {said}");
        }
        assert_eq!(answer.header("connection") == Some("close"), self.closes, "closing: {said}");
        assert_eq!((&*flags(record), &*details(record)), (self.flags, self.details), "{said}");
        let failure = record.cx.failure_reason.get().map(String::as_str);
        if let Some(reason) = self.failure {
            assert_eq!(failure, Some(reason), "{said}");
        }
    }
}

/// Status of the answer to a request, where nothing else matters and no upstream is asked.
pub(crate) async fn status(id: &'static str, config: &Config, raw: &str) -> String {
    let mesh = Mesh::start(config, None).await;
    let mut client = mesh.connect().await;
    client.write_all(raw.as_bytes()).await.unwrap_or_else(|e| panic!("{id}: {e}"));
    Answer::read(&mut client, false).await.status
}
