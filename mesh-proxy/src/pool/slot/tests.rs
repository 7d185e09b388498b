use futures_util::FutureExt;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;

fn shard() -> Arc<Shard> {
    Arc::new(Shard::new(Arc::default()))
}

fn at_most(max_connections: u32) -> PoolPlan {
    PoolPlan { max_connections, ..PoolPlan::default() }
}

#[test]
fn connections_are_limited_for_all_workers_together_but_each_has_its_first() {
    let (one, other, usage) = (shard(), shard(), Arc::new(Usage::default()));
    let first = Slot::take(&one, &usage, &at_most(2)).expect("the first of this worker");
    let second = Slot::take(&one, &usage, &at_most(2)).expect("the second");
    assert!(Slot::take(&one, &usage, &at_most(2)).is_none());
    let third = Slot::take(&other, &usage, &at_most(2)).expect("the first of the other, over the limit");
    assert!(Slot::take(&other, &usage, &at_most(2)).is_none());
    assert_eq!((one.open(), other.open(), usage.now(Resource::Connections)), (2, 1, 3));
    drop((first, second));
    assert_eq!((one.open(), usage.now(Resource::Connections)), (0, 1));
    drop(third);
    assert_eq!(usage.now(Resource::Connections), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_free_again_goes_to_the_first_that_still_waits() {
    let (shard, usage) = (shard(), Arc::new(Usage::default()));
    let slot = Slot::take(&shard, &usage, &at_most(1)).unwrap();
    let given_up = shard.wait(false);
    let mut first = shard.wait(false);
    let mut second = shard.wait(false);
    drop(given_up);
    drop(slot);
    let Ok(Turn::Dial(slot)) = first.try_recv() else { panic!("the first gets the slot") };
    assert_eq!(second.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!((shard.open(), usage.now(Resource::Connections)), (1, 1), "it is one connection all the time");
    drop(slot);
    assert!(matches!(second.now_or_never(), Some(Ok(Turn::Dial(_)))));
    // Handed to a receiver that was dropped, it is free.
    assert_eq!((shard.open(), usage.now(Resource::Connections)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_socket_holds_its_slot_and_says_when_it_has_heard() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (shard, usage) = (shard(), Arc::new(Usage::default()));
    let slot = Slot::take(&shard, &usage, &at_most(1)).unwrap();
    let (near, mut far) = tokio::io::duplex(64);
    let heard = Arc::new(AtomicBool::new(false));
    let mut held = Held::new(near, slot, Arc::clone(&heard));
    held.write_all(b"request").await.unwrap();
    assert!(!heard.load(Ordering::Relaxed));
    far.write_all(b"r").await.unwrap();
    assert_eq!(held.read_u8().await.unwrap(), b'r');
    assert!(heard.load(Ordering::Relaxed));
    assert_eq!(shard.open(), 1);
    drop(held);
    assert_eq!(shard.open(), 0);
}
