//! The folders of `vectors/`: one `vector.json` each. See `vectors/README.md` for what they hold.

use std::path::{Path, PathBuf};

use countersign_protocol::mac::decode_hex;
use serde_json::Value;

/// One object of the vectors: a whole case, or one entry of a case that is a list.
#[derive(Clone, Debug)]
pub struct Case {
    /// Folder and place in it, for the message of a failed test.
    pub name: String,
    value: Value,
}

/// Every case in a folder that begins so: `cases("shared-secret/proof-")`.
///
/// # Panics
/// There is none: a kind of case that is not found is not tested.
#[must_use]
pub fn cases(prefix: &str) -> Vec<Case> {
    let (folder, start) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let folder = root().join(folder);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder that can be listed").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(start) && folder.join(name).join("vector.json").is_file())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no case in vectors/{prefix}*");
    let rest = prefix.strip_suffix(start).unwrap_or_default();
    names.into_iter().map(|name| Case::read(format!("{rest}{name}"))).collect()
}

/// The entries of the one case in `folder`, which is a list.
///
/// # Panics
/// It is not there, no list, or empty.
#[must_use]
pub fn list(folder: &str) -> Vec<Case> {
    let case = Case::read(folder.to_owned());
    case.entries(&case.value)
}

/// All folders with a case in them, by name.
///
/// # Panics
/// The folders cannot be listed.
#[must_use]
pub fn folders() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("vectors/ can be listed") {
            let path = entry.expect("a folder that can be listed").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.file_name().is_some_and(|name| name == "vector.json") {
                found.extend(path.parent().map(Path::to_owned));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root()).ok().map(|path| path.display().to_string());
    let mut names: Vec<String> = found.iter().filter_map(relative).collect();
    names.sort();
    names
}

impl Case {
    fn read(name: String) -> Self {
        let path = root().join(&name).join("vector.json");
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, value }
    }

    fn entries(&self, value: &Value) -> Vec<Self> {
        let list = value.as_array().unwrap_or_else(|| panic!("{}: not a list", self.name));
        assert!(!list.is_empty(), "{}: an empty list", self.name);
        let entry = |(index, value): (usize, &Value)| {
            let why = value.get("why").and_then(Value::as_str).unwrap_or_default();
            Self { name: format!("{}[{index}] {why}", self.name), value: value.clone() }
        };
        list.iter().enumerate().map(entry).collect()
    }

    fn member(&self, name: &str) -> &Value {
        self.value.get(name).unwrap_or_else(|| panic!("{}: no member {name}", self.name))
    }

    /// A text member.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.member(name).as_str().unwrap_or_else(|| panic!("{}: {name} is not text", self.name))
    }

    /// A member that is a whole number, not negative.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.member(name).as_u64().unwrap_or_else(|| panic!("{}: {name} is not a number", self.name))
    }

    /// A member that is true or false.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.member(name).as_bool().unwrap_or_else(|| panic!("{}: {name} is not a flag", self.name))
    }

    /// The bytes of a member in hexadecimal.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let text = self.text(name);
        let mut bytes = vec![0; text.len() / 2];
        decode_hex(text.as_bytes(), &mut bytes).unwrap_or_else(|| panic!("{}: {name} is not hex", self.name));
        bytes
    }

    /// The bytes of a member that has exactly `N`.
    #[must_use]
    pub fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{}: {name} is not {N} bytes", self.name))
    }

    /// Whether it has this member, and one that is not `null` or empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value
            .get(name)
            .is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
    }

    /// A member that is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Self {
        Self { name: format!("{}.{name}", self.name), value: self.member(name).clone() }
    }

    /// The entries of a member that is a list.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<Self> {
        self.entries(self.member(name))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}
