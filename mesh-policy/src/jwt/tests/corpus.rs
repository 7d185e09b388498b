//! Istio's demo keys and tokens. The corpus is not part of the repository; without it these tests say so and pass.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn corpus() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../../shared/corpus/jwt", "../../../shared/corpus/jwt"].map(|p| here.join(p));
    let found = places.into_iter().find(|p| p.is_dir());
    if found.is_none() {
        println!("skipped: corpus not present");
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn rule(issuer: &str, jwks: &str) -> Authenticator {
    authenticator(&[&format!("issuer: '{issuer}', jwks: '{}'", jwks.trim())])
}

#[test]
fn demo_tokens_are_good() {
    let Some(folder) = corpus() else { return };
    let demo = rule("testing@secure.istio.io", &read(&folder.join("istio-demo/jwks.json")));
    for name in ["demo.jwt", "groups-scope.jwt"] {
        let token = read(&folder.join("istio-demo").join(name));
        // They were made before anybody's clock of the tests, and last for decades.
        assert_eq!(taken(&demo, bearer(token.trim())), Ok(true), "{name}");
    }
}

#[test]
fn test_tokens_are_as_their_names_say() {
    let Some(folder) = corpus() else { return };
    let jwks = read(&folder.join("istio-tests/jwks.json"));
    let tokens: Value = serde_json::from_str(&read(&folder.join("istio-tests/tokens.json"))).unwrap();
    let (mut good, mut bad) = (0, 0);
    for token in tokens.as_array().unwrap() {
        let (name, text) = (token["name"].as_str().unwrap(), token["token"].as_str().unwrap());
        let issuer = token["claims"]["iss"].as_str().unwrap_or("nobody");
        let result = ask(&rule(issuer, &jwks), bearer(text));
        match result {
            Ok(passed) => {
                let claims = passed.extensions().get::<Claims>().unwrap();
                assert_eq!(claims.text("sub"), token["claims"]["sub"].as_str(), "{name}");
                good += 1;
            }
            Err(error) => {
                println!("{name}: {error}");
                let says_so = ["Expired", "Invalid", "Wrong", "Bad"].iter().any(|w| name.contains(w));
                assert!(says_so, "{name}: {error}");
                bad += 1;
            }
        }
    }
    println!("{good} good, {bad} bad");
    assert!(good > 3);
}
