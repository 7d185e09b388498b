use super::*;

/// The bytes of a message, which read like the kernel's structures on a little-endian machine.
fn bytes(mut message: Message) -> Vec<u8> {
    message.finish(7).to_vec()
}

#[test]
#[rustfmt::skip]
fn bridge_is_encoded_as_rtnetlink_wants_it() {
    let expected = [
        &[60, 0, 0, 0, 16, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0][..],       // length, NEWLINK, request+ack+excl+create, number
        &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],             // no index, up, change up
        &[10, 0, 3, 0], b"mesh0\0\0\0",                                // IFNAME
        &[16, 0, 18, 0x80], &[11, 0, 1, 0], b"bridge\0\0",             // LINKINFO { KIND }
    ].concat();
    assert_eq!(bytes(bridge("mesh0")), expected);
}

#[test]
#[rustfmt::skip]
fn veth_names_bridge_peer_and_namespace() {
    let pod = Pid::from_raw(0x1234).unwrap();
    let expected = [
        &[120, 0, 0, 0, 16, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
        &[7, 0, 3, 0], b"p1\0\0",                                      // IFNAME
        &[8, 0, 10, 0, 9, 0, 0, 0],                                    // MASTER
        &[72, 0, 18, 0x80], &[9, 0, 1, 0], b"veth\0\0\0\0",            // LINKINFO { KIND,
        &[56, 0, 2, 0x80], &[52, 0, 1, 0x80],                          //   DATA { PEER {
        &[0; 16],
        &[9, 0, 3, 0], b"eth0\0\0\0\0",                                //     IFNAME
        &[10, 0, 1, 0, 2, 0x11, 10, 244, 1, 2, 0, 0],                  //     ADDRESS
        &[8, 0, 19, 0, 0x34, 0x12, 0, 0],                              //     NET_NS_PID
    ].concat();
    let address = hardware_address(Ipv4Addr::new(10, 244, 1, 2));
    assert_eq!(bytes(veth("p1", Some(9), Some(pod), address)), expected);
}

#[test]
#[rustfmt::skip]
fn addresses_and_routes() {
    let expected = [
        &[40, 0, 0, 0, 20, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0][..],
        &[2, 16, 0, 0, 3, 0, 0, 0],                                    // AF_INET /16 on device 3
        &[8, 0, 2, 0, 10, 244, 0, 1], &[8, 0, 1, 0, 10, 244, 0, 1],
    ].concat();
    assert_eq!(bytes(new_address(3, NODE_V4.into(), 16)), expected);
    let v6 = bytes(new_address(3, NODE_V6.into(), 64));
    assert_eq!(v6[16..20], [10, 64, 2, 0], "AF_INET6 /64 without duplicate address detection");
    let expected = [
        &[44, 0, 0, 0, 24, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0][..],
        &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0],                       // AF_INET default, main table, boot, unicast
        &[8, 0, 5, 0, 10, 244, 0, 1], &[8, 0, 4, 0, 3, 0, 0, 0],
    ].concat();
    assert_eq!(bytes(default_route(3, NODE_V4.into())), expected);
}

#[test]
fn acknowledgements_give_number_and_error() {
    let ack = |number: u32, errno: i32| {
        let head = [&36_u32.to_ne_bytes()[..], &NLMSG_ERROR.to_ne_bytes(), &[0; 2], &number.to_ne_bytes(), &[0; 4]];
        [&head.concat()[..], &errno.to_ne_bytes(), &[0; 16]].concat()
    };
    assert_eq!(acknowledgements(&[ack(3, 0), ack(4, -17)].concat()), [(3, 0), (4, -17)]);
    assert_eq!(acknowledgements(&[1, 2, 3]), []);
}
