use std::io::Write;

use super::*;

#[test]
fn short_and_long_messages_arrive_with_their_descriptors() {
    let (one, other) = socket_pair().unwrap();
    for length in [3, 3_000_000] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let message = Order::Start(Start {
            child: 9,
            argv: vec!["x".repeat(length)],
            env: Vec::new(),
            cwd: None,
            role: Role::App,
            targets: vec![5],
            tty: false,
            whole_group: true,
        });
        tell(&one, &message, &[writer.as_fd()]).unwrap();
        drop(writer);
        let packet = receive(&other, RecvFlags::empty()).unwrap().unwrap();
        let (received, fds) = decode::<Order>(packet).unwrap();
        let Order::Start(start) = received else { panic!("{received:?}") };
        assert_eq!((start.child, start.argv[0].len(), fds.len()), (9, length, 1));
        std::fs::File::from(fds.into_iter().next().unwrap()).write_all(b"through").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(7));
    }
    drop(one);
    assert!(receive(&other, RecvFlags::empty()).unwrap().is_none());
}

#[test]
fn nonsense_is_an_error() {
    for bytes in [vec![], vec![INLINE], vec![IN_FILE], vec![9, 9]] {
        assert!(decode::<Order>(Packet { bytes, fds: Vec::new() }).is_err());
    }
}
