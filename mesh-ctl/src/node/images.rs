//! Which local program a container image stands for: ConfigMaps with the label `mesh.local/images`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Label of an image map.
pub const LABEL: &str = "mesh.local/images";

/// One entry of an image map.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalImage {
    /// Glob over the whole image name; `*` stands for any characters.
    pub image: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables; those of the container win.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Directory to start in.
    #[serde(default)]
    pub working_dir: Option<PathBuf>,
}

/// All entries, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageMap {
    entries: Vec<LocalImage>,
}

impl ImageMap {
    /// Adds the entries of one ConfigMap. Entries added first win.
    ///
    /// # Errors
    /// One line for each key whose value is not an entry; the others are added.
    pub fn add(&mut self, data: &BTreeMap<String, String>) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        for (key, text) in data {
            match parse(text) {
                Ok(entry) => self.entries.push(entry),
                Err(e) => errors.push(format!("data.{key}: {e}")),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The entry for an image.
    pub fn find(&self, image: &str) -> Option<&LocalImage> {
        self.entries.iter().find(|e| glob(&e.image, image))
    }
}

fn parse(text: &str) -> Result<LocalImage, String> {
    let value = crate::manifest::value(text)?;
    let entry: LocalImage = serde_json::from_value(value).map_err(|e| {
        format!("{e}; write `image: \"glob\"`, `command: [program, arguments]` and optionally env and workingDir")
    })?;
    if entry.command.is_empty() {
        return Err("command is empty; write `command: [program, arguments]`".into());
    }
    Ok(entry)
}

/// Whether `pattern` covers the whole text; `*` stands for any characters.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pattern.contains('*').then(|| parts.next_back()).flatten() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Where a program is: as given if it has a slash, else beside `meshctl`, else in `PATH`.
pub fn locate(program: &str, beside: &Path, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let folders = std::iter::once(beside.to_owned()).chain(std::env::split_paths(path));
    folders.map(|d| d.join(program)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_cover_the_whole_name() {
        for (pattern, text, expected) in [
            ("*/reviews-v1:*", "docker.io/istio/reviews-v1:1.20", true),
            ("*/reviews-v1:*", "docker.io/istio/reviews-v1", false),
            ("*/reviews-v1:*", "reviews-v1:1", false),
            ("nginx", "nginx", true),
            ("nginx", "nginx:1", false),
            ("a*a", "a", false),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn good_entries_count_and_bad_ones_are_named() {
        let data = BTreeMap::from([
            ("a".to_owned(), "image: \"x/*\"\ncommand: [prog, arg]\nenv: {A: b}\n".to_owned()),
            ("b".to_owned(), "image: w\n".to_owned()),
            ("c".to_owned(), "image: z\ncommand: []\n".to_owned()),
        ]);
        let mut map = ImageMap::default();
        let errors = map.add(&data).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("data.b: missing field `command`"), "{errors:?}");
        assert!(errors[1].starts_with("data.c: command is empty"), "{errors:?}");
        let found = map.find("x/1").unwrap();
        assert_eq!((found.command.clone(), &*found.env["A"]), (vec!["prog".into(), "arg".into()], "b"));
        assert!(map.find("y").is_none());
    }

    #[test]
    fn programs_beside_meshctl_come_first() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(locate("Cargo.toml", here, "/").unwrap(), here.join("Cargo.toml"));
        assert_eq!(locate("sh", here, "/nowhere:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(locate("./x/y", here, "").unwrap(), Path::new("./x/y"));
        assert_eq!(locate("no such program", here, "/bin"), None);
    }
}
