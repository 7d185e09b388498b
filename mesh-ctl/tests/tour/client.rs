//! A plain HTTP/1 client that notices everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The version of reviews that answered, from the pod's name on the page or in the JSON.
    pub(crate) fn reviews(&self) -> &str {
        let at = self.body.find("reviews-v").unwrap_or_else(|| panic!("no reviews: {self:?}"));
        &self.body[at + 8..at + 10]
    }
}

/// A keep-alive connection.
pub(crate) struct Client {
    at: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(at: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self { at, stream: BufReader::new(stream) })
    }

    /// One exchange. When the peer has announced the end of the connection, the next one gets a new connection.
    pub(crate) fn send(&mut self, head: &str, lines: &[&str], body: &str) -> std::io::Result<Reply> {
        let host = if lines.iter().any(|l| l.starts_with("host:")) { "" } else { "host: bookinfo.test\r\n" };
        let lines: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let text = format!("{head} HTTP/1.1\r\n{host}{lines}{length}\r\n{body}");
        self.stream.get_mut().write_all(text.as_bytes())?;
        let reply = self.read(head.starts_with("HEAD "))?;
        if reply.header("connection") == Some("close") {
            *self = Self::new(self.at)?;
        }
        Ok(reply)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed without an answer"));
        }
        Ok(line.trim_end().to_owned())
    }

    fn read(&mut self, to_head: bool) -> std::io::Result<Reply> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no HTTP: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut reply = Reply { status, headers, body: String::new() };
        let mut bytes = Vec::new();
        if to_head {
            return Ok(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).expect("a chunk's size");
                let at = bytes.len();
                bytes.resize(at + size, 0);
                self.stream.read_exact(&mut bytes[at..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = reply.header("content-length") {
            bytes.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut bytes)?;
        }
        reply.body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(reply)
    }
}

/// One GET on a connection of its own.
pub(crate) fn get(at: SocketAddr, path: &str, lines: &[&str]) -> Reply {
    Client::new(at).unwrap().send(&format!("GET {path}"), lines, "").unwrap()
}
