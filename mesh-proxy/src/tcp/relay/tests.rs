use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

struct Counts(AtomicU64, AtomicU64);

impl Counts {
    fn new() -> Self {
        Self(AtomicU64::new(0), AtomicU64::new(0))
    }

    fn get(&self) -> (u64, u64) {
        (self.0.load(Ordering::Relaxed), self.1.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn one_side_may_finish_long_before_the_other() {
    let (mut client, mut downstream) = duplex(64);
    let (mut server, mut upstream) = duplex(64);
    let counts = Counts::new();
    let run = relay(&mut downstream, &mut upstream, None, (&counts.0, &counts.1));
    let talk = async {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        server.write_all(b"a longer answer").await.unwrap();
        server.shutdown().await.unwrap();
        text.clear();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "a longer answer");
    };
    let (end, ()) = tokio::join!(run, talk);
    assert!(matches!(end, End::Finished));
    assert_eq!(counts.get(), (8, 15));
}

#[tokio::test]
async fn a_slow_reader_holds_the_sender_back_and_loses_nothing() {
    let (mut client, mut downstream) = duplex(1 << 20);
    let (mut server, mut upstream) = duplex(100);
    let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let counts = Counts::new();
    let run = relay(&mut downstream, &mut upstream, None, (&counts.0, &counts.1));
    let talk = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        drop(server);
        assert_eq!(got, sent);
    };
    tokio::join!(run, talk);
    assert_eq!(counts.get(), (300_000, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_ends_after_the_timeout_since_the_last_byte() {
    let (mut client, mut downstream) = duplex(64);
    let (_server, mut upstream) = duplex(64);
    let counts = Counts::new();
    let start = Instant::now();
    let run = relay(&mut downstream, &mut upstream, Some(Duration::from_secs(10)), (&counts.0, &counts.1));
    let talk = async {
        sleep(Duration::from_secs(7)).await;
        client.write_all(b"x").await.unwrap();
    };
    let (end, ()) = tokio::join!(run, talk);
    assert!(matches!(end, End::Idle));
    assert_eq!(start.elapsed().as_secs(), 17);
}

#[tokio::test]
async fn a_broken_side_is_named() {
    let (client, mut downstream) = duplex(64);
    let (mut server, mut upstream) = duplex(64);
    drop(client);
    let counts = Counts::new();
    let run = relay(&mut downstream, &mut upstream, None, (&counts.0, &counts.1));
    // A duplex whose other end is dropped reads as ended and refuses writes.
    let (end, _) = tokio::join!(run, server.write_all(b"too late"));
    assert!(matches!(end, End::Downstream(_)), "{end:?}");
}

/// Gives its pieces, one for each read, and breaks.
struct Breaks(Vec<&'static [u8]>);

impl AsyncRead for Breaks {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(self.0.remove(0));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_came_before_a_break_is_passed_on() {
    let (mut server, mut upstream) = duplex(64);
    let mut downstream = tokio::io::join(Breaks(vec![b"one ", b"two"]), tokio::io::sink());
    let counts = Counts::new();
    let end = relay(&mut downstream, &mut upstream, None, (&counts.0, &counts.1)).await;
    assert!(matches!(end, End::Downstream(error) if error.kind() == io::ErrorKind::ConnectionReset));
    drop(upstream);
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), counts.get()), ("one two", (7, 0)));
}
