//! Tokens: nobody who has no key gets in, whatever he sends.
//!
//! The input is a request: a line with its target, then lines `NAME: VALUE` with headers. All of it is also read as a key
//! set.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use mesh_core::api::Resource;
use mesh_core::yaml;
use mesh_policy::jwt::{Authenticator, KeySet, KeyStore, Outcome};

/// A key whose private half is nobody's.
const KEY: &str = "5OWblB3J9Knn3SXDYxe41levxu1WOFiNe2CUbRqjaT4wFm54x_gWSeWyT93a4l22NKTvWU4MFgGcriJYK4xrYQzSgDj8Tx3etJFWj8iKKV5N9XI0AfpgXUoWHGWzVDcFOsVb0U88nyN16aaOommYqxngL7gqCnQeqAEchSNV8slyChxR3peXfeQfZx1dRjgJY2Mf0FLQ04h-TKPVvqBLygQ-fdp0Oa2-KGx94RoU2YQvc_X-HRFTrrtfbaYpUTj99xcLzh4wb3Jq_XcS1vFXtad5Hqt-ydRhFGc9haP5hICjOwNdkIXeWo7qxmPqL1Nc4OZg1fzJof_23M1Iz_mA0Q";

static RULES: LazyLock<Authenticator> = LazyLock::new(|| {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: p, namespace: foo}}\nspec:\n  \
         jwtRules:\n  - {{issuer: i, jwks: '{{\"keys\": [{{\"kty\": \"RSA\", \"e\": \"AQAB\", \"n\": \"{KEY}\"}}]}}'}}\n  - {{issuer: j, \
         fromHeaders: [{{name: x-t, prefix: 'tok '}}], fromParams: [t], fromCookies: [c], outputPayloadToHeader: x-p, jwks: \
         '{{\"keys\": [{{\"kty\": \"RSA\", \"e\": \"AQAB\", \"n\": \"{KEY}\"}}]}}'}}\n"
    );
    let policies: Vec<_> = yaml::read("f", &text)
        .0
        .into_iter()
        .filter_map(|r| match r {
            Resource::RequestAuthentication(policy) => Some(policy),
            _ => None,
        })
        .collect();
    assert_eq!(policies.len(), 1);
    Authenticator::compile(&policies, &KeyStore::default()).0
});

/// Asks about the request.
pub fn jwt(data: &[u8]) {
    let _ = KeySet::parse(data);
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let mut builder = http::Request::builder().uri(lines.next().unwrap_or("/"));
    for line in lines.take(20) {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        builder = builder.header(name, value);
    }
    let Ok(mut request) = builder.body(()) else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    RULES.explain(&request, now);
    match RULES.check(&request, now) {
        Outcome::Pass(changes) => {
            assert!(changes.claims.is_none(), "a token without a signature was taken");
            changes.apply(&mut request);
            assert!(!request.headers().contains_key("x-p"), "a client says what a token says");
        }
        Outcome::Refuse(error) => assert!(!error.text().is_empty()),
        Outcome::Wait(_) => panic!("there is nothing to wait for"),
    }
}
