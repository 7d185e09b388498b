//! Small languages inside fields: host patterns, networks, header values, regular expressions.

use mesh_core::matching::{Cidr, HeaderValueTemplate, HostPattern, Regex, host_without_port};

/// Reads every line as each of them; lines are also compared with each other as host patterns.
pub fn patterns(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.lines().take(12).collect();
    for line in &lines {
        header_value(line);
        network(line);
        let _ = Regex::full(line).map(|r| r.is_match(lines[0]));
        let _ = Regex::anywhere(line).map(|r| r.replace_all(lines[0], "$1").len());
        assert!(line.starts_with(host_without_port(line)));
    }
    for a in &lines {
        for b in &lines {
            hosts(a, b);
        }
    }
}

fn header_value(text: &str) {
    if let Ok(template) = HeaderValueTemplate::parse(text) {
        let value = template.render(|name, argument| Some(format!("{name}<{argument}>ä")));
        assert!(value.is_some() || !matches!(template, HeaderValueTemplate::Literal(_)));
        let _ = template.render(|_, _| None);
    }
}

fn network(text: &str) {
    if let Ok(net) = Cidr::parse(text) {
        assert_eq!(Cidr::parse(&net.to_string()), Ok(net));
        assert!(net.contains(net.address) || net.address.to_canonical() != net.address);
    }
}

fn hosts(a: &str, b: &str) {
    let (p, q) = (HostPattern::parse(a), HostPattern::parse(b));
    assert_eq!(HostPattern::parse(&p.to_string()), p);
    assert_eq!(p.more_specific(&q), q.more_specific(&p).reverse());
    assert_eq!(p.overlaps(&q), q.overlaps(&p));
    assert!(p.subset_of(&p));
    let name = b.to_ascii_lowercase();
    if p.subset_of(&q) && p.matches(&name) {
        assert!(q.matches(&name), "{p} is a subset of {q}, but only the first takes {name}");
    }
}
