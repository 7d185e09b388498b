use super::*;

#[test]
#[rustfmt::skip]
fn a_batch_is_encoded_as_nf_tables_wants_it() {
    let expected: Vec<Vec<u8>> = vec![
        [&[20, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 10]].concat(),  // begin, nf_tables
        [&[32, 0, 0, 0, 0, 10, 5, 6, 1, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0, 0],               // new table, inet
         &[10, 0, 1, 0], b"trial\0\0\0"].concat(),
        [&[68, 0, 0, 0, 3, 10, 5, 6, 2, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0, 0],               // new chain
         &[10, 0, 1, 0], b"trial\0\0\0", &[8, 0, 3, 0], b"out\0",
         &[20, 0, 4, 0x80], &[8, 0, 1, 0, 0, 0, 0, 3], &[8, 0, 2, 0, 0xff, 0xff, 0xff, 0x9c],  // output, -100
         &[8, 0, 7, 0], b"nat\0"].concat(),
        [&[196, 0, 0, 0, 6, 10, 5, 12, 3, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0, 0],             // new rule, append
         &[10, 0, 1, 0], b"trial\0\0\0", &[8, 0, 2, 0], b"out\0", &[156, 0, 4, 0x80],
         &[36, 0, 1, 0x80], &[9, 0, 1, 0], b"meta\0\0\0\0",
         &[20, 0, 2, 0x80], &[8, 0, 1, 0, 0, 0, 0, 1], &[8, 0, 2, 0, 0, 0, 0, 16],             // l4proto to register 1
         &[44, 0, 1, 0x80], &[8, 0, 1, 0], b"cmp\0",
         &[32, 0, 2, 0x80], &[8, 0, 1, 0, 0, 0, 0, 1], &[8, 0, 2, 0, 0, 0, 0, 0],
         &[12, 0, 3, 0x80], &[5, 0, 1, 0, 6, 0, 0, 0],                                         // equal 6
         &[44, 0, 1, 0x80], &[14, 0, 1, 0], b"immediate\0\0\0",
         &[24, 0, 2, 0x80], &[8, 0, 1, 0, 0, 0, 0, 1],
         &[12, 0, 2, 0x80], &[6, 0, 1, 0, 0x3a, 0x99, 0, 0],                                   // 15001
         &[28, 0, 1, 0x80], &[10, 0, 1, 0], b"redir\0\0\0", &[12, 0, 2, 0x80], &[8, 0, 1, 0, 0, 0, 0, 1]].concat(),
        [&[20, 0, 0, 0, 0x11, 0, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 10]].concat(),  // end
    ];
    let mut batch = trial_rules();
    let bytes: Vec<Vec<u8>> = batch.iter_mut().enumerate().map(|(at, message)| message.finish(at as u32).to_vec()).collect();
    for (at, (one, other)) in bytes.iter().zip(&expected).enumerate() {
        assert_eq!(one, other, "message {at}");
    }
    assert_eq!(bytes.len(), expected.len());
}

/// The attributes of a message part.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        found.push((u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x7fff, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

fn get<'a>(list: &[(u16, &'a [u8])], kind: u16) -> &'a [u8] {
    list.iter().find(|(one, _)| *one == kind).map_or(&[], |(_, value)| value)
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// One expression in a few words.
fn expression(element: &[u8]) -> String {
    let list = attributes(element);
    let name = std::str::from_utf8(get(&list, 1)).unwrap().trim_end_matches('\0');
    let data = attributes(get(&list, 2));
    match name {
        "meta" => {
            let names = [(3, "mark"), (4, "iif"), (5, "oif"), (10, "skuid"), (15, "nfproto"), (16, "l4proto")];
            names.iter().find(|(key, _)| *key == number(get(&data, 2))).unwrap().1.to_owned()
        }
        "cmp" => {
            let value = get(&attributes(get(&data, 3)), 1).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("{}{value}", if number(get(&data, 2)) == 0 { "=" } else { "!=" })
        }
        "payload" => {
            let base = if number(get(&data, 2)) == 1 { "net" } else { "port" };
            format!("{base}@{}+{}", number(get(&data, 3)), number(get(&data, 4)))
        }
        "bitwise" => {
            format!("&{}", get(&attributes(get(&data, 4)), 1).iter().map(|b| format!("{b:02x}")).collect::<String>())
        }
        "immediate" if number(get(&data, 1)) == 0 => "return".to_owned(),
        "immediate" => {
            let port = get(&attributes(get(&data, 2)), 1);
            format!("to {}", u16::from_be_bytes(port.try_into().unwrap()))
        }
        other => other.to_owned(),
    }
}

/// The rules of one chain, one line each.
fn rules(messages: &[Message], chain: &str) -> Vec<String> {
    let bodies = messages.iter().map(|message| attributes(&message.body()[4..]));
    let of_chain = bodies.filter(|list| get(list, 2) == format!("{chain}\0").as_bytes() && !get(list, 4).is_empty());
    of_chain
        .map(|list| {
            let elements = attributes(get(&list, 4));
            elements.iter().map(|(_, element)| expression(element)).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn outbound_rules_in_their_order() {
    let capture = CaptureRules {
        exclude_outbound_ports: vec![5432],
        exclude_outbound_cidrs: vec![("10.1.0.0".parse().unwrap(), 20)],
        ..CaptureRules::default()
    };
    let loopback6 = "00".repeat(15) + "01";
    let expected = [
        "mark =3a050000 return".to_owned(),
        "mark =39050000 oif =01000000 l4proto =06 nfproto =02 net@16+4 &ff000000 !=7f000000 to 15006 redir".to_owned(),
        format!("mark =39050000 oif =01000000 l4proto =06 nfproto =0a net@24+16 !={loopback6} to 15006 redir"),
        "mark =39050000 return".to_owned(),
        "l4proto =11 port@2+2 =0035 to 15053 redir".to_owned(),
        "l4proto =06 port@2+2 =0035 to 15053 redir".to_owned(),
        "oif =01000000 return".to_owned(),
        "l4proto =06 port@2+2 =1538 return".to_owned(),
        "nfproto =02 net@16+4 &fffff000 =0a010000 return".to_owned(),
        "l4proto =06 to 15001 redir".to_owned(),
    ];
    assert_eq!(rules(&pod_rules(&capture).unwrap(), "out"), expected);
}

#[test]
fn inclusion_replaces_the_last_rule() {
    let capture = CaptureRules {
        include_outbound_ports: Some(vec![80]),
        include_outbound_cidrs: Some(vec![("10.96.0.0".parse().unwrap(), 16)]),
        include_inbound_ports: Some(vec![9080]),
        exclude_inbound_ports: vec![22],
        ..CaptureRules::default()
    };
    let messages = pod_rules(&capture).unwrap();
    let out = rules(&messages, "out");
    let last = [
        "l4proto =06 port@2+2 =0050 to 15001 redir",
        "l4proto =06 nfproto =02 net@16+4 &ffff0000 =0a600000 to 15001 redir",
    ];
    assert_eq!(out[7..], last);
    let ports = ["3aa0", "3aac", "3aad", "3af2", "0016"].map(|port| format!("l4proto =06 port@2+2 ={port} return"));
    let inbound = rules(&messages, "in");
    assert_eq!(inbound[..5], ports);
    assert_eq!(inbound[5..], ["l4proto =06 port@2+2 =2378 to 15006 redir"]);
}

#[test]
fn owner_stands_in_for_the_marks() {
    let capture = CaptureRules { selector: Selector::Owner(1337), ..CaptureRules::default() };
    let out = rules(&pod_rules(&capture).unwrap(), "out");
    assert_eq!(out[0], "oif =01000000 nfproto =02 net@12+4 =7f000006 return");
    assert_eq!(out[3], "skuid =39050000 return");
}

#[test]
fn nothing_to_capture_is_no_table() {
    let capture = CaptureRules { capture_inbound: false, capture_outbound: false, ..CaptureRules::default() };
    assert!(pod_rules(&capture).is_none());
    let capture = CaptureRules { capture_inbound: false, ..CaptureRules::default() };
    assert!(rules(&pod_rules(&capture).unwrap(), "in").is_empty());
}

#[test]
fn node_rules_take_names_and_what_is_no_pod() {
    let expected = [
        "iif =07000000 l4proto =11 port@2+2 =0035 to 15053 redir",
        "iif =07000000 l4proto =06 fib !=02000000 nfproto =02 net@16+4 &ffff0000 !=0af40000 to 15099 redir",
    ];
    assert_eq!(rules(&node_rules(7), "pre"), expected);
}
