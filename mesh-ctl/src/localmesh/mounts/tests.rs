use std::os::unix::fs::symlink;

use super::*;

/// A directory of this test alone.
fn place(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("mesh-mounts-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    fs::canonicalize(path).unwrap()
}

#[test]
fn links_are_followed_even_when_they_lead_nowhere() {
    let root = place("links");
    fs::create_dir_all(root.join("etc")).unwrap();
    symlink("../run/stub/resolv.conf", root.join("etc/resolv.conf")).unwrap();
    symlink("run", root.join("var")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    assert_eq!(resolve(&root.join("etc/resolv.conf")).unwrap(), root.join("run/stub/resolv.conf"));
    assert_eq!(resolve(&root.join("var/secret/../x")).unwrap(), root.join("run/x"));
    assert!(resolve(&root.join("loop")).unwrap_err().to_string().contains("too many"));
    assert!(resolve(Path::new("etc/hosts")).is_err());
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn standard_files_name_the_pod() {
    let spec = PodSpec::new("reviews-1", "shop", std::net::Ipv4Addr::new(10, 244, 0, 9));
    let files = standard_files(&spec);
    let text = |at: usize| String::from_utf8(files[at].content.clone()).unwrap();
    assert!(
        text(0).starts_with("nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n")
    );
    assert!(text(2).contains("10.244.0.9 reviews-1\nfd11::af4:9 reviews-1\n"), "{}", text(2));
    assert_eq!(text(3), "reviews-1\n");
}
