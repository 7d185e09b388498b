//! What embedders get to see names the types of few other crates, so that an upgrade of ours is none of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Whose types may be in public signatures.
const ROOTS: [&str; 9] = ["bytes", "core", "http", "http_body", "hyper", "rustls_pki_types", "serde", "std", "tower"];
/// Single items of others: tokio's streams, and what lets hyper-util's client keep our connections.
const ITEMS: [&str; 3] =
    ["tokio::io::AsyncRead", "tokio::io::AsyncWrite", "hyper_util::client::legacy::connect::Connection"];

/// Names that `use` lines bring in, each with its path.
fn imports(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let code: Vec<&str> = text.lines().filter(|l| !l.starts_with("//")).collect();
    for item in code.join("\n").split(';') {
        let item = item.trim_start();
        if let Some(tree) = item.strip_prefix("pub use ").or_else(|| item.strip_prefix("use ")) {
            expand("", tree.trim(), &mut all);
        }
    }
    all
}

fn expand(prefix: &str, tree: &str, all: &mut BTreeMap<String, String>) {
    if let Some((path, rest)) = tree.split_once('{') {
        let mut depth = 0;
        let inner = rest.trim_end().strip_suffix('}').expect("a list that ends");
        let parts = inner.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        for part in parts.map(str::trim).filter(|p| !p.is_empty()) {
            expand(&format!("{prefix}{path}"), part, all);
        }
        return;
    }
    let (path, name) = tree.split_once(" as ").unwrap_or((tree, tree.rsplit("::").next().expect("a name")));
    let (path, name) = match path {
        "self" => (prefix.trim_end_matches("::").to_owned(), prefix.trim_end_matches("::").rsplit("::").next()),
        _ => (format!("{prefix}{path}"), Some(name)),
    };
    all.insert(name.expect("a name").to_owned(), path);
}

/// Public signatures: functions, headers of types and of implementations, associated types.
fn signatures(text: &str, public: &BTreeSet<String>) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.starts_with("//") && !l.starts_with('#')).collect();
    let (mut found, mut ours) = (Vec::new(), false);
    for (at, line) in code.iter().enumerate() {
        let open = ["pub fn ", "pub async fn ", "pub struct ", "pub trait ", "pub type "];
        let header = line.starts_with("impl ") || line.starts_with("impl<");
        let associated = ours && line.starts_with("type ");
        if !(header || associated || open.iter().any(|o| line.starts_with(o))) {
            continue;
        }
        let all = code[at..].join(" ");
        let mut text = all.split(['{', ';']).next().expect("a start").to_owned();
        if header {
            let of = text.split(" for ").nth(1).unwrap_or(text.trim_start_matches("impl"));
            let name = of.trim_start().split(|c: char| !c.is_alphanumeric()).find(|w| !w.is_empty());
            // Of all types that are services: `impl<S> … for S`.
            ours = name.is_some_and(|n| public.contains(n) || n.len() == 1);
            if !ours {
                continue;
            }
        } else if line.starts_with("pub struct ") {
            // Fields are private.
            text = text.split('(').next().expect("a start").to_owned();
        }
        found.push(text);
    }
    found
}

/// Paths of what a signature names.
fn named(signature: &str, imports: &BTreeMap<String, String>) -> BTreeSet<String> {
    // The names of associated types are said by traits: `Response = …`.
    let bound = signature.split(" = ").collect::<Vec<_>>();
    let (last, before) = bound.split_last().expect("a part");
    let ident = |c: char| c.is_alphanumeric() || c == '_';
    let kept: Vec<_> = before.iter().map(|part| part.trim_end_matches(ident)).chain([*last]).collect();
    let kept = kept.join(" ");
    let words = kept.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let paths = words.map(|w| w.trim_matches(':')).filter(|w| !w.is_empty());
    let full = paths.filter_map(|path| {
        let (first, rest) = path.split_once("::").map_or((path, None), |(f, r)| (f, Some(r)));
        let known = imports.get(first).cloned();
        match (known, rest) {
            (Some(known), Some(rest)) => Some(format!("{known}::{rest}")),
            // Alone, a module's name is that of a function or an argument.
            (Some(known), None) => first.starts_with(char::is_uppercase).then_some(known),
            (None, Some(_)) if !first.starts_with(char::is_uppercase) => Some(path.to_owned()),
            (None, _) => None,
        }
    });
    full.collect()
}

/// What embedders can't name, or would have to keep the version of.
fn foreign(text: &str, public: &BTreeSet<String>, seen: &mut BTreeSet<String>) -> Vec<String> {
    let imports = imports(text);
    let mut wrong = Vec::new();
    for signature in signatures(text, public) {
        for path in named(&signature, &imports) {
            let (root, name) = (path.split("::").next().expect("a root"), path.rsplit("::").next().expect("a name"));
            let own = ["crate", "super", "self", "mesh_core"].contains(&root);
            // BoxError is a short name for a type of std's.
            let good = if own { public.contains(name) || name == "BoxError" } else { ROOTS.contains(&root) };
            if !good && !ITEMS.contains(&&*path) {
                wrong.push(format!("{path} in {signature}"));
            }
            seen.insert(path);
        }
    }
    wrong
}

/// What the crate's root exports for embedders.
fn public() -> BTreeSet<String> {
    let root = include_str!("../lib.rs");
    let exports = root.split(';').filter_map(|item| item.split_once("pub use ").map(|(_, tree)| tree.trim()));
    let mut all = BTreeMap::new();
    exports.for_each(|tree| expand("", tree, &mut all));
    all.into_keys().collect()
}

#[test]
fn no_types_of_others_are_in_the_public_interface() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embed");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| !f.ends_with("tests.rs"));
    files.push(folder.with_extension("rs"));
    let (public, mut seen) = (public(), BTreeSet::new());
    for file in &files {
        let wrong = foreign(&std::fs::read_to_string(file).unwrap(), &public, &mut seen);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
    }
    for path in ["http::Request", "http_body::Body", "bytes::Bytes", "tower::Service", "std::net::TcpListener"] {
        assert!(seen.contains(path), "{path} was not seen in {seen:#?}");
    }
    assert!(ITEMS.iter().all(|item| seen.contains(*item)), "an item is not used any more: {seen:#?}");
}

#[test]
fn a_type_of_others_would_be_seen() {
    let public = BTreeSet::from(["Mesh".to_owned()]);
    let wrong = |text: &str| foreign(text, &public, &mut BTreeSet::new()).len();
    assert_eq!(
        wrong("use a::{b, C as D, e::{F}};\nimpl Mesh {\npub fn x(d: &D, c: b::X) -> F {}\nfn y(d: D) {}\n}"),
        3
    );
    assert_eq!(wrong("pub fn x(\n  // whose?\n  a: rustls::ServerConfig,\n) {}"), 1);
    assert_eq!(wrong("use a::B;\nimpl From<B> for Mesh {}\nimpl From<B> for Private {}"), 1);
    assert_eq!(wrong("use a::B;\nimpl X for Mesh {\n  type Y = B;\n}"), 1);
    assert_eq!(wrong("use mesh_core::B;\npub async fn x() -> B {}"), 1, "nobody can name it");
    assert_eq!(wrong("use std::io::{self, Error};\npub fn x(a: Vec<Error>) -> io::Result<()> {}"), 0);
}
