use super::*;

type Pairs = &'static [(&'static str, &'static str)];

fn with(args: &[&str], env: &[(&str, &str)]) -> Result<Config, NoService> {
    read(args.iter().map(ToString::to_string), |name| {
        env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn defaults_are_the_names_and_port_of_the_manifests() {
    let config = with(&["productpage"], &[]).unwrap();
    assert_eq!((config.service, config.port, config.bind), (Service::ProductPage, 9080, None));
    assert_eq!(config.details.to_string(), "details:9080");
    assert_eq!(config.reviews.to_string(), "reviews:9080");
    assert_eq!(config.ratings.to_string(), "ratings:9080");
    assert!(config.proxy.is_none());
    assert!(!config.pod.is_empty());
}

#[test]
fn environment_moves_services_and_the_command_line_wins() {
    let env = [
        ("PORT", "1"),
        ("BIND", "[::1]"),
        ("SERVICE_VERSION", "v2"),
        ("RATINGS_HOSTNAME", "127.0.0.1"),
        ("RATINGS_SERVICE_PORT", "9999"),
        ("HOSTNAME", "reviews-v3-abc"),
        ("http_proxy", "http://127.0.0.1:15001/"),
    ];
    let config = with(&["reviews", "--port=2", "--version", "v3"], &env).unwrap();
    assert_eq!((config.port, config.version, config.bind), (2, Version::V3, Some("::1".parse().unwrap())));
    assert_eq!(config.ratings.to_string(), "127.0.0.1:9999");
    assert_eq!(config.proxy.unwrap().to_string(), "127.0.0.1:15001");
    assert_eq!(config.pod, "reviews-v3-abc");
}

#[test]
fn services_domain_is_appended_to_every_host() {
    let config = with(&["productpage"], &[("SERVICES_DOMAIN", "books.svc"), ("DETAILS_HOSTNAME", "d")]).unwrap();
    assert_eq!(config.details.host, "d.books.svc");
    assert_eq!(config.reviews.host, "reviews.books.svc");
}

#[test]
fn other_services_carry_any_version_label() {
    assert!(with(&["ratings"], &[("SERVICE_VERSION", "v1-mysql")]).is_ok());
}

#[test]
fn mistakes_say_what_to_write() {
    let cases: [(&[&str], Pairs, &str); 6] = [
        (&[], &[], "which service"),
        (&["shop"], &[], "`shop`"),
        (&["ratings", "--port"], &[], "--port needs a value"),
        (&["ratings"], &[("PORT", "99999")], "PORT is `99999`"),
        (&["reviews"], &[("SERVICE_VERSION", "v4")], "write v1, v2 or v3"),
        (&["details"], &[("BIND", "everywhere")], "IP address"),
    ];
    for (args, env, expected) in cases {
        match with(args, env) {
            Err(NoService::Wrong(message)) => assert!(message.contains(expected), "{message}"),
            other => panic!("{args:?} {env:?}: {other:?}"),
        }
    }
    assert_eq!(with(&["--help"], &[]).unwrap_err(), NoService::Help);
}
