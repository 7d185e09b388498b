//! Rows of what Envoy was seen to do with tokens, by id, and attacks.

use proptest::prelude::*;

use super::*;

const ISS: &str = r#"{"iss":"i","sub":"s"}"#;

fn one() -> Authenticator {
    authenticator(&["issuer: i"])
}

#[test]
fn h1_h2_no_token() {
    let rule = "issuer: i, outputPayloadToHeader: x-p, outputClaimToHeaders: [{header: x-c, claim: a}]";
    let passed = ask(&authenticator(&[rule]), request("/", &[("x-p", "me"), ("x-c", "me"), ("x-o", "kept")])).unwrap();
    let names: Vec<_> = passed.headers().keys().map(|k| k.as_str()).collect();
    assert_eq!(names, ["x-o"]);
    assert!(passed.extensions().get::<Claims>().is_none());
    let required = authenticator(&["issuer: i, presence: REQUIRED", "issuer: j"]);
    assert_eq!(taken(&required, request("/", &[])), Err(JwtError::Missing));
    assert_eq!(taken(&required, bearer(&KEY.sign(ISS))), Ok(true));
    assert_eq!(JwtError::Missing.text(), "Jwt is missing");
}

#[test]
fn claims_that_somebody_left_behind_are_nobodys() {
    let mut asked = request("/", &[]);
    asked.extensions_mut().insert(Claims::default());
    assert_eq!(taken(&one(), asked), Ok(false));
}

#[test]
fn h3_to_h9_malformed() {
    let b64 = |text: &str| encode_url(text);
    let (header, payload) = (b64(r#"{"alg":"RS256"}"#), b64(ISS));
    let good = KEY.sign(ISS);
    let cut = good.rsplit_once('.').unwrap().0;
    let head = |json: &str| KEY.token(json, ISS);
    let body = |json: &str| KEY.sign(json);
    for (row, token, error) in [
        ("H3", "a.b".to_owned(), JwtError::BadFormat),
        ("H3", format!("{good}.x"), JwtError::BadFormat),
        ("H3", format!("{cut}."), JwtError::BadFormat),
        ("H3", "x".repeat(70_000), JwtError::BadFormat),
        ("H3", format!("..{}", "a"), JwtError::BadFormat),
        ("header", format!("a.{payload}.YQ"), JwtError::HeaderBase64),
        ("H4", format!("{}.{payload}.YQ", b64("{")), JwtError::HeaderJson),
        ("H4", format!("{}.{payload}.YQ", b64("[]")), JwtError::HeaderJson),
        ("H5", head("{}"), JwtError::HeaderAlg),
        ("H5", head(r#"{"alg":1}"#), JwtError::HeaderAlg),
        ("H6", head(r#"{"alg":"none"}"#), JwtError::AlgorithmUnknown),
        ("H6", head(r#"{"alg":"rs256"}"#), JwtError::AlgorithmUnknown),
        ("crit", head(r#"{"alg":"RS256","crit":["x"]}"#), JwtError::AlgorithmUnknown),
        ("H7", head(r#"{"alg":"RS256","kid":1}"#), JwtError::HeaderKid),
        ("H8", format!("{header}.a.YQ"), JwtError::PayloadBase64),
        ("H8", format!("{header}.{}.YQ", b64("{")), JwtError::PayloadJson),
        ("H9", format!("{header}.{payload}.a"), JwtError::SignatureBase64),
        ("H11", body(r#"{"iss":1}"#), JwtError::Iss),
        ("sub", body(r#"{"iss":"i","sub":1}"#), JwtError::Sub),
        ("jti", body(r#"{"iss":"i","jti":1}"#), JwtError::Jti),
        ("aud", body(r#"{"iss":"i","aud":1}"#), JwtError::Aud),
        ("aud", body(r#"{"iss":"i","aud":["a",1]}"#), JwtError::Aud),
        ("H15", body(r#"{"iss":"i","exp":"1"}"#), JwtError::ExpInteger),
        ("H15", body(r#"{"iss":"i","exp":-1}"#), JwtError::ExpPositive),
        ("exp", body(r#"{"iss":"i","exp":1e30}"#), JwtError::ExpPositive),
        ("nbf", body(r#"{"iss":"i","nbf":true}"#), JwtError::NbfInteger),
        ("iat", body(r#"{"iss":"i","iat":-5}"#), JwtError::IatPositive),
    ] {
        assert_eq!(taken(&one(), bearer(&token)), Err(error), "{row} {token}");
        assert_eq!(error.status().as_u16(), 401);
    }
    assert_eq!(JwtError::BadFormat.text().len(), 79);
    assert_eq!(JwtError::NoKey.text().len(), 50);
    assert_eq!(JwtError::KeysUnavailable.text().len(), 27);
    assert_eq!(JwtError::Expired.details(), "jwt_authn_access_denied{Jwt_is_expired}");
}

#[test]
fn h10_h18_h19_keys() {
    let forged = OTHER.sign(ISS);
    assert_eq!(taken(&one(), bearer(&forged)), Err(JwtError::Signature), "H10");
    let good = KEY.sign(ISS);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = KEY.sign(r#"{"iss":"i","sub":"admin"}"#);
    let swapped = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    assert_eq!(taken(&one(), bearer(&swapped)), Err(JwtError::Signature));
    // A signature that ends in other bits that stand for nothing is another text.
    let last = signature.chars().last().unwrap();
    let next = char::from_u32(u32::from(last) + 1).filter(char::is_ascii_alphanumeric).unwrap_or('B');
    let altered = format!("{message}.{}{next}", &signature[..signature.len() - 1]);
    assert!(taken(&one(), bearer(&altered)).is_err());
    let kid = |kid: &str| KEY.token(&format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), ISS);
    assert_eq!(taken(&one(), bearer(&kid("who"))), Err(JwtError::NoKey), "H18");
    for alg in ["HS256", "RS512", "PS256", "ES256"] {
        let token = KEY.token(&format!(r#"{{"alg":"{alg}","kid":"k"}}"#), ISS);
        assert_eq!(taken(&one(), bearer(&token)), Err(JwtError::NoKey), "H18 {alg}");
    }
    for header in [r#"{"alg":"RS256"}"#, r#"{"alg":"RS256","kid":"k","typ":"at+jwt"}"#] {
        assert_eq!(taken(&one(), bearer(&KEY.token(header, ISS))), Ok(true), "H19 {header}");
    }
    // Several keys: those without a name are tried for any.
    let keys = set(&[OTHER.jwk("", ""), EC.jwk("e", ""), KEY.jwk("k", ""), SECRET.jwk("s", "HS256")]);
    let many = authenticator(&[&format!("issuer: i, jwks: '{keys}'")]);
    assert_eq!(taken(&many, bearer(&KEY.sign(ISS))), Ok(true));
    assert_eq!(taken(&many, bearer(&OTHER.sign(ISS))), Ok(true));
    assert_eq!(taken(&many, bearer(&EC.token(r#"{"alg":"ES256","kid":"e"}"#, ISS))), Ok(true));
    assert_eq!(taken(&many, bearer(&SECRET.token(r#"{"alg":"HS256","kid":"s"}"#, ISS))), Ok(true));
    assert_eq!(taken(&many, bearer(&EC.token(r#"{"alg":"ES256","kid":"k"}"#, ISS))), Err(JwtError::Signature));
}

#[test]
fn a_public_key_is_no_secret() {
    // HS256 with the public key as the secret, where the key says nothing about its algorithm.
    let jwk = KEY.jwk("k", "");
    let lax = authenticator(&[&format!("issuer: i, jwks: '{}'", set(std::slice::from_ref(&jwk)))]);
    let public: serde_json::Value = serde_json::from_str(&jwk).unwrap();
    for secret in [public["n"].as_str().unwrap().as_bytes(), jwk.as_bytes()] {
        let signer = Signer { key: EncodingKey::from_secret(secret), algorithm: Algorithm::HS256, jwk: public.clone() };
        assert_eq!(taken(&lax, bearer(&signer.sign(ISS))), Err(JwtError::Signature));
    }
}

#[test]
fn names_that_are_there_twice() {
    let body = r#"{"iss":"i","sub":"s","sub":"admin"}"#;
    assert_eq!(taken(&one(), bearer(&KEY.sign(body))), Err(JwtError::PayloadJson));
    let nested = r#"{"iss":"i","a":{"b":1,"b":2}}"#;
    assert_eq!(taken(&one(), bearer(&KEY.sign(nested))), Err(JwtError::PayloadJson));
    let header = KEY.token(r#"{"alg":"RS256","alg":"none"}"#, ISS);
    assert_eq!(taken(&one(), bearer(&header)), Err(JwtError::HeaderJson));
}

#[test]
fn a_key_in_the_token_is_not_believed() {
    let header = format!(
        r#"{{"alg":"RS256","kid":"k","jwk":{},"jku":"http://evil/","x5u":"http://evil/"}}"#,
        OTHER.jwk("k", "")
    );
    assert_eq!(taken(&one(), bearer(&OTHER.token(&header, ISS))), Err(JwtError::Signature));
    for kid in ["../../k", "k' OR '1'='1", "/dev/null", "k\\u0000"] {
        let token = OTHER.token(&format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), ISS);
        assert_eq!(taken(&one(), bearer(&token)), Err(JwtError::NoKey), "{kid}");
    }
}

#[test]
fn h11_to_h14_issuer_and_time() {
    let body = |json: &str| taken(&one(), bearer(&KEY.sign(json)));
    assert_eq!(body(r#"{"iss":"j"}"#), Err(JwtError::UnknownIssuer), "H11");
    assert_eq!(body("{}"), Err(JwtError::UnknownIssuer), "H11");
    let at = |name: &str, time: u64| body(&format!(r#"{{"iss":"i","{name}":{time}}}"#));
    assert_eq!(at("exp", NOW - 100), Err(JwtError::Expired), "H12");
    assert_eq!(at("exp", NOW - 30), Ok(true), "H12");
    assert_eq!(at("exp", 0), Err(JwtError::Expired));
    assert_eq!(at("nbf", NOW + 100), Err(JwtError::NotYetValid), "H13");
    assert_eq!(at("nbf", NOW + 30), Ok(true), "H13");
    assert_eq!(body(r#"{"iss":"i"}"#), Ok(true), "H14");
    assert_eq!(body(&format!(r#"{{"iss":"i","exp":{NOW}.5}}"#)), Ok(true), "H14");
    // Expiry counts for tokens that were found good before, too.
    let all = one();
    let token = KEY.sign(&format!(r#"{{"iss":"i","exp":{NOW}}}"#));
    assert_eq!(taken(&all, bearer(&token)), Ok(true));
    let later = now() + Duration::from_secs(61);
    assert!(matches!(all.check(&bearer(&token), later), Outcome::Refuse(JwtError::Expired)));
}

#[test]
fn h16_h17_audiences() {
    let one = authenticator(&["issuer: i, audiences: [aud1, 'https://other/']"]);
    let ask = |aud: &str| taken(&one, bearer(&KEY.sign(&format!(r#"{{"iss":"i"{aud}}}"#))));
    for none in ["", r#","aud":"aud2""#, r#","aud":["a","b"]"#, r#","aud":[]"#] {
        assert_eq!(ask(none), Err(JwtError::Audience), "H16 {none}");
    }
    for aud in ["[\"x\",\"aud1\"]", "\"aud1/\"", "\"https://aud1\"", "\"http://aud1/\"", "\"other\""] {
        assert_eq!(ask(&format!(",\"aud\":{aud}")), Ok(true), "H17 {aud}");
    }
    assert_eq!(JwtError::Audience.status().as_u16(), 403);
}

#[test]
fn h20_headers_without_a_token() {
    for value in ["Basic YWI6Y2Q=", "bearer x", "Bearer", "Token x"] {
        let passed = ask(&one(), request("/", &[("authorization", value)])).unwrap();
        assert_eq!(passed.headers()["authorization"], value, "H20");
    }
    let two = request("/", &[("authorization", &format!("Bearer  {}", KEY.sign(ISS)))]);
    assert_eq!(taken(&one(), two), Ok(true), "H20");
    let raw = http::HeaderValue::from_bytes(b"Bearer \xff").unwrap();
    let mut asked = request("/", &[]);
    asked.headers_mut().insert("authorization", raw);
    assert_eq!(taken(&one(), asked), Err(JwtError::BadFormat));
    // A second line does not slip through behind a good one.
    let good = format!("Bearer {}", KEY.sign(ISS));
    let evil = format!("Bearer {}", OTHER.sign(ISS));
    for lines in [[&good, &evil], [&evil, &good]] {
        let asked = request("/", &lines.map(|l| ("authorization", l.as_str())));
        assert_eq!(taken(&one(), asked), Err(JwtError::Signature));
    }
}

#[test]
fn h21_any_issuer() {
    let all = authenticator(&["issuer: ''"]);
    assert_eq!(taken(&all, bearer(&KEY.sign(r#"{"iss":"whoever"}"#))), Ok(true));
}

#[test]
fn h22_to_h24_several_places_and_rules() {
    let good = KEY.sign(ISS);
    let both = request("/?access_token=x", &[("authorization", &format!("Bearer {good}"))]);
    assert_eq!(taken(&one(), both), Err(JwtError::BadFormat), "H22");
    let two = ["issuer: i, fromParams: [t]", "issuer: j"];
    let two = authenticator(&two);
    let j = format!("Bearer {}", KEY.sign(r#"{"iss":"j"}"#));
    let passed = ask(&two, request("/?t=x&a=b", &[("authorization", &j)])).unwrap();
    assert!(!passed.headers().contains_key("authorization"), "H23");
    assert_eq!(passed.uri(), "/?t=x&a=b", "H23");
    let two = authenticator(&["issuer: i", "issuer: j"]);
    assert_eq!(taken(&two, bearer(&KEY.sign(r#"{"iss":"k"}"#))), Err(JwtError::UnknownIssuer), "H24");
    for iss in ["i", "j"] {
        let expired = KEY.sign(&format!(r#"{{"iss":"{iss}","exp":1}}"#));
        assert_eq!(taken(&two, bearer(&expired)), Err(JwtError::Expired), "H24 {iss}");
        assert_eq!(taken(&two, bearer(&KEY.sign(&format!(r#"{{"iss":"{iss}"}}"#)))), Ok(true));
    }
    assert_eq!(taken(&two, request("/", &[])), Ok(false));
}

#[test]
fn h25_h26_outputs() {
    let rule = "issuer: i, outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-s, claim: str}, \
                {header: x-n, claim: num}, {header: x-b, claim: flag}, {header: x-k, claim: obj.k}, {header: x-l, claim: list}, \
                {header: x-o, claim: obj}, {header: x-none, claim: none}, {header: x-bad, claim: bad}]";
    let body = r#"{"iss":"i","str":"text","num":7,"flag":true,"obj":{"k":"v"},"list":["a","b"],"bad":"a\nb"}"#;
    let authorization = format!("Bearer {}", KEY.sign(body));
    let client = [
        ("authorization", authorization.as_str()),
        ("x-none", "me"),
        ("x-s", "me"),
        ("x-payload", "me"),
        ("x-bad", "me"),
    ];
    let passed = ask(&authenticator(&[rule]), request("/", &client)).unwrap();
    let has = |name: &str| passed.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    for (name, value) in [
        ("x-s", "text"),
        ("x-n", "7"),
        ("x-b", "true"),
        ("x-k", "v"),
        ("x-l", "WyJhIiwiYiJd"),
        ("x-o", "eyJrIjoidiJ9"),
        ("x-payload", &encode_url(body)),
    ] {
        assert_eq!(has(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!((has("x-none"), has("x-bad"), has("authorization")), (None, None, None));
}

#[test]
fn h27_what_is_forwarded() {
    let good = KEY.sign(ISS);
    let asked = |target: &str, headers: &[(&str, &str)], rule: &str| {
        let rule = format!("issuer: i, {rule}");
        ask(&authenticator(&[&rule]), request(&target.replace('@', &good), headers)).unwrap()
    };
    let passed = asked("http://a.example/p?x=1&t=@&y=%20", &[], "fromParams: [t]");
    assert_eq!(passed.uri(), "http://a.example/p?x=1&y=%20");
    assert_eq!(asked("/p?t=@", &[], "fromParams: [t]").uri(), "/p");
    assert_eq!(asked("/p?%74=@&a", &[], "fromParams: [t]").uri(), "/p?a");
    assert!(passed.extensions().get::<Claims>().is_some());
    let cookie = format!("a=b; t={good}; c=d");
    let passed = asked("/", &[("cookie", &cookie)], "fromCookies: [t]");
    assert_eq!(passed.headers()["cookie"], cookie.as_str());
    assert!(passed.extensions().get::<Claims>().is_some());
    let header = format!("tok:{good}");
    let passed = asked("/", &[("x-t", &header)], "fromHeaders: [{name: x-t, prefix: 'tok:'}]");
    assert!(!passed.headers().contains_key("x-t"));
    let passed = asked("/", &[("x-t", &good)], "fromHeaders: [{name: X-T}], forwardOriginalToken: true");
    assert_eq!(passed.headers()["x-t"], good.as_str());
    // Other places than those that are given hold no tokens.
    let passed = asked("/?access_token=x", &[("authorization", "Bearer x")], "fromCookies: [t]");
    assert!(passed.extensions().get::<Claims>().is_none());
}

/// What lies beside a token does not hide it: the application would find it, and take it for one that was verified.
#[test]
fn cookies_are_read_as_applications_read_them() {
    let rule = authenticator(&["issuer: i, fromCookies: [t]"]);
    let good = KEY.sign(ISS);
    let with = |line: &[u8]| {
        let mut asked = request("/", &[]);
        asked.headers_mut().insert("cookie", http::HeaderValue::from_bytes(line).unwrap());
        taken(&rule, asked)
    };
    let cookie = |before: &[u8], token: &str| with(&[before, token.as_bytes()].concat());
    for before in [&b"t="[..], b"t=", b"x=\xff; t=", b"\xff; t=", b"t =", b"x; t= "] {
        assert_eq!(cookie(before, &good), Ok(true), "{before:?}");
        assert_eq!(cookie(before, "forged"), Err(JwtError::BadFormat), "{before:?}");
    }
    assert_eq!(with(b"t=\xff"), Err(JwtError::BadFormat));
    assert_eq!(with(b"T=x; tt=x; x=t=x; t"), Ok(false));
}

#[test]
fn h28_preflight() {
    let mut asked =
        request("/", &[("origin", "a"), ("access-control-request-method", "GET"), ("authorization", "Bearer x")]);
    *asked.method_mut() = Method::OPTIONS;
    assert_eq!(taken(&one(), asked), Ok(false));
    let mut asked = request("/", &[("origin", "a"), ("authorization", "Bearer x")]);
    *asked.method_mut() = Method::OPTIONS;
    assert_eq!(taken(&one(), asked), Err(JwtError::BadFormat));
}

#[test]
fn inline_keys_of_which_none_can_be_used() {
    for keys in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"new"}]}"#] {
        let none = authenticator(&[&format!("issuer: i, jwks: '{keys}'")]);
        assert_eq!(taken(&none, bearer(&KEY.sign(ISS))), Err(JwtError::NoKey));
        assert_eq!(taken(&none, request("/", &[])), Ok(false));
    }
}

#[test]
fn key_sets_with_strange_keys() {
    let strange = [
        r#"{"kty":"new","kid":"a"}"#.to_owned(),
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"RSA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(),
        "7".to_owned(),
        KEY.jwk("k", "XX512"),
        KEY.jwk("k", "RS256"),
    ];
    let all = authenticator(&[&format!("issuer: i, jwks: '{}'", set(&strange))]);
    assert_eq!(taken(&all, bearer(&KEY.sign(ISS))), Ok(true));
    let encrypt = KEY.jwk("k", "RS256").replace('{', r#"{"use":"enc","#);
    assert!(KeySet::parse(set(&[encrypt]).as_bytes()).unwrap_err().contains("no usable key"));
    assert!(KeySet::parse(&vec![b' '; (1 << 20) + 1]).unwrap_err().contains("larger"));
    let many: Vec<String> = (0..600).map(|_| KEY.jwk("k", "")).collect();
    assert!(KeySet::parse(set(&many).as_bytes()).unwrap_err().contains("more than 512"));
    assert!(KeySet::parse(b"[]").unwrap_err().contains("no list called keys"));
}

#[test]
fn claims_as_policies_see_them() {
    let rule = authenticator(&["issuer: i, spaceDelimitedClaims: [roles]"]);
    let passed = ask(&rule, bearer(&KEY.sign(r#"{"iss":"i","roles":"a b","scope":"x y","other":"p q"}"#))).unwrap();
    let claims = passed.extensions().get::<Claims>().unwrap().as_map().clone();
    assert_eq!(
        serde_json::Value::Object(claims).to_string(),
        r#"{"iss":"i","other":"p q","roles":["a","b"],"scope":["x","y"]}"#
    );
}

#[test]
fn explained() {
    let two = authenticator(&["issuer: j", "issuer: i"]);
    let said = two.explain(&bearer(&KEY.sign(ISS)), now());
    let said: Vec<_> = said.iter().map(|r| (r.issuer.as_str(), r.index, r.location.as_deref(), r.result)).collect();
    assert_eq!(
        said,
        [("i", 1, Some("f.yaml:7"), Some(Ok(()))), ("j", 0, Some("f.yaml:6"), Some(Err(JwtError::UnknownIssuer)))]
    );
    assert!(two.explain(&request("/", &[]), now()).iter().all(|r| r.result.is_none()));
}

#[test]
fn remembered_tokens_are_bounded_and_compared_in_full() {
    let all = one();
    for i in 0..20 {
        // Wrong ones are not remembered.
        assert!(taken(&all, bearer(&format!("{}{i}", KEY.sign(ISS)))).is_err());
    }
    let long = KEY.sign(&format!(r#"{{"iss":"i","x":"{}"}}"#, "y".repeat(9000)));
    for _ in 0..2 {
        assert_eq!(taken(&all, bearer(&long)), Ok(true));
        assert_eq!(taken(&all, bearer(&KEY.sign(ISS))), Ok(true));
    }
    assert!(all.cache.get(0, &long).is_none() && all.cache.get(0, &KEY.sign(ISS)).is_some());
    assert!(all.cache.get(1, &KEY.sign(ISS)).is_none());
}

proptest! {
    #[test]
    fn whatever_comes_is_refused_without_a_panic(token in "[A-Za-z0-9_.-]{0,80}|.{0,60}", json in ".{0,80}") {
        prop_assert!(Token::parse(&token).is_err());
        let encoded = encode_url(&json);
        let _ = Token::parse(&format!("{encoded}.{encoded}.{encoded}"));
        let _ = KeySet::parse(json.as_bytes());
        let _ = KeySet::parse(format!(r#"{{"keys":[{{"kty":"RSA","n":"{encoded}","e":"{encoded}"}},{json}]}}"#).as_bytes());
    }

    #[test]
    fn a_changed_token_is_not_taken(at in 0_usize..400, with in "[A-Za-z0-9_-]") {
        let token = KEY.sign(ISS);
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != token);
        prop_assert!(taken(&one(), bearer(&changed)).is_err());
    }
}
