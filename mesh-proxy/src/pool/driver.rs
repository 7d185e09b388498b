//! What moves the bytes of an HTTP/1 connection: whoever uses it.
//!
//! A request polls its connection until the response's head is there, the response's body until its end, and the shard
//! while it lies idle, which is how a close by the peer is noticed. A task for each connection would be woken for each of
//! these steps, and would have to hand every piece on. It gets one where its user may have to wait for somebody else: a
//! response that begins before its request has ended, a new protocol, a connection that has to be wound up.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

thread_local! {
    /// Set while this thread looks at what a connection has given.
    static LOOK: Cell<Look> = const { Cell::new(Look::Away) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Away,
    Here,
    /// The connection was asked for more.
    Asked,
}

/// Takes something from a connection's other end, or gives it something. That wakes who drives the connection; here it is
/// who does this, so it is enough to say so.
pub(super) fn hushed<T>(look: impl FnOnce() -> T) -> (T, bool) {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            LOOK.set(Look::Away);
        }
    }
    LOOK.set(Look::Here);
    let _reset = Reset;
    let seen = look();
    (seen, LOOK.get() == Look::Asked)
}

/// Rings for whoever drives the connection now.
struct Bell {
    /// It has rung since the connection was driven.
    rung: AtomicBool,
    user: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if LOOK.get() != Look::Away {
            LOOK.set(Look::Asked);
            return;
        }
        self.rung.store(true, Ordering::Release);
        self.user.wake();
    }
}

/// A connection that is driven by its user. Dropped, it is wound up by a task: it says goodbye, and frees its slot then.
pub(super) struct Driver {
    /// `None`: it has ended.
    connection: Option<Connection>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl Driver {
    pub(super) fn new(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        // It has not been driven yet.
        let bell = Arc::new(Bell { rung: true.into(), user: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { connection: Some(Box::pin(connection)), bell, waker }
    }

    /// Moves what can be moved now. `cx` is woken when there is more to move.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        self.bell.user.register(cx.waker());
        self.bell.rung.store(false, Ordering::Release);
        if let Poll::Ready(ended) = connection.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            trace(ended);
            self.connection = None;
        }
    }

    /// There is nothing to move.
    pub(super) fn is_quiet(&self) -> bool {
        !self.bell.rung.load(Ordering::Acquire)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    /// Wakes this from now on, at once if there is something to move.
    pub(super) fn wakes(&self, waker: &Waker) {
        self.bell.user.register(waker);
        if !self.is_quiet() {
            waker.wake_by_ref();
        }
    }

    /// Gives the connection a task of its own; `ended` is called when it has ended.
    pub(super) fn depart(mut self, ended: impl FnOnce() + Send + 'static) {
        if let Some(connection) = self.connection.take() {
            tokio::spawn(async move {
                trace(connection.await);
                ended();
            });
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { trace(connection.await) });
        }
    }
}

/// Drives a connection, if nobody else does, and looks at what it has given.
pub(super) fn poll<T>(
    driver: &mut Option<Driver>,
    cx: &mut Context<'_>,
    mut look: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let Some(driver) = driver else { return look(cx) };
    loop {
        driver.drive(cx);
        let (seen, asked) = hushed(|| look(&mut Context::from_waker(Waker::noop())));
        if seen.is_ready() || !asked {
            return seen;
        }
    }
}

fn trace(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "upstream connection");
    }
}
