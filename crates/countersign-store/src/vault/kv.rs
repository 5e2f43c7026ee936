//! One document in a key-value engine of version 2.

use std::collections::HashMap;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::VaultError;
use super::session::{Session, errors, parse};
use super::settings::Place;

/// Tells one state of the document from every other. Numbers alone would not: they begin anew when the document is
/// removed with its history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Stamp {
    #[serde(default)]
    version: u64,
    created_time: String,
    deletion_time: String,
    destroyed: bool,
}

impl Stamp {
    /// Whether it may end without another version taking its place.
    const fn ends(&self) -> bool {
        !self.deletion_time.is_empty()
    }
}

/// What is at the document's place.
pub(super) enum Found {
    /// Nothing, or what was deleted: no peers. A first write names this version.
    Nothing(Option<Stamp>),
    /// A document, as JSON.
    Document(Zeroizing<Vec<u8>>, Stamp),
}

impl Found {
    pub(super) const fn stamp(&self) -> Option<&Stamp> {
        match self {
            Self::Nothing(stamp) => stamp.as_ref(),
            Self::Document(_, stamp) => Some(stamp),
        }
    }

    /// What a write has to name, so that it replaces this and nothing else.
    pub(super) fn version(&self) -> u64 {
        self.stamp().map_or(0, |stamp| stamp.version)
    }
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// The document is what was written.
    Done(Stamp),
    /// Something else was written since.
    Overtaken,
}

#[derive(Deserialize)]
struct DataAnswer<'a> {
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Option<Stamp>,
}

#[derive(Deserialize)]
struct MetadataAnswer {
    data: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    versions: HashMap<String, Stamp>,
}

#[derive(Serialize)]
struct Write<'a> {
    options: Options,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Options {
    cas: u64,
}

#[derive(Deserialize)]
struct WriteAnswer {
    data: Stamp,
}

#[derive(Deserialize)]
struct MountAnswer {
    data: Mount,
}

#[derive(Deserialize)]
struct Mount {
    r#type: String,
    options: Option<HashMap<String, String>>,
}

/// Whether the document is still the one that is known. `None` if that cannot be told without reading it.
pub(super) async fn is_unchanged(
    session: &mut Session,
    place: &Place,
    known: Option<&Stamp>,
) -> Result<Option<bool>, VaultError> {
    if known.is_some_and(Stamp::ends) {
        return Ok(None);
    }
    let path = format!("{}/metadata/{}", place.mount, place.key());
    let answer = match session.call("reading", Method::GET, &path, None).await {
        // A policy that allows the data alone.
        Err(VaultError::Denied { .. }) => return Ok(None),
        answer => answer?,
    };
    if answer.status == StatusCode::NOT_FOUND && errors(&answer).is_empty() {
        return Ok(Some(known.is_none()));
    }
    let Some(MetadataAnswer { data }) = parse::<MetadataAnswer>(&answer) else { return Ok(None) };
    let current = data.versions.get(&data.current_version.to_string()).cloned();
    let current = current.map(|stamp| Stamp { version: data.current_version, ..stamp });
    Ok(Some(current.as_ref() == known))
}

/// Reads the document.
pub(super) async fn read(session: &mut Session, place: &Place) -> Result<Found, VaultError> {
    let path = format!("{}/data/{}", place.mount, place.key());
    let answer = session.call("reading", Method::GET, &path, None).await?;
    let said = parse::<DataAnswer<'_>>(&answer).and_then(|answer| answer.data);
    match (answer.status, said) {
        (StatusCode::NOT_FOUND, Some(Data { metadata, .. })) => Ok(Found::Nothing(metadata)),
        (StatusCode::NOT_FOUND, None) if errors(&answer).is_empty() => Ok(Found::Nothing(None)),
        (StatusCode::NOT_FOUND, None) => Err(VaultError::NotMounted { path }),
        (status, Some(Data { data: Some(data), metadata: Some(stamp) })) if status.is_success() => {
            Ok(Found::Document(Zeroizing::new(data.get().as_bytes().to_vec()), stamp))
        }
        (status, Some(Data { data: None, metadata: Some(stamp) })) if status.is_success() => {
            Ok(Found::Nothing(Some(stamp)))
        }
        (status, _) if status.is_success() => {
            Err(VaultError::NotVersioned { mount: place.mount.to_string() })
        }
        _ => Err(session.odd(&answer)),
    }
}

/// Writes the document if what is there is still `found`.
pub(super) async fn write(
    session: &mut Session,
    place: &Place,
    found: &Found,
    document: &[u8],
) -> Result<Written, VaultError> {
    if found.stamp().is_none() {
        refuse_others(session, place).await?;
    }
    let path = format!("{}/data/{}", place.mount, place.key());
    let text = std::str::from_utf8(document).ok();
    let data = text.and_then(|text| serde_json::from_str::<&RawValue>(text).ok()).ok_or(VaultError::Gone)?;
    let mut body = Zeroizing::new(Vec::with_capacity(document.len() + 64));
    let write = Write { options: Options { cas: found.version() }, data };
    serde_json::to_writer(&mut *body, &write).map_err(|_| VaultError::Gone)?;
    let answer = session.call("writing", Method::POST, &path, Some(body)).await?;
    if answer.status.is_success() {
        let stamp = parse::<WriteAnswer>(&answer).map(|answer| answer.data);
        let other = || VaultError::NotVersioned { mount: place.mount.to_string() };
        return stamp.map(Written::Done).ok_or_else(other);
    }
    let said = errors(&answer);
    if answer.status == StatusCode::BAD_REQUEST && said.iter().any(|said| said.contains("check-and-set")) {
        return Ok(Written::Overtaken);
    }
    match answer.status {
        StatusCode::NOT_FOUND => Err(VaultError::NotMounted { path }),
        _ => Err(session.odd(&answer)),
    }
}

/// A first write into a key-value engine of version 1 would succeed, and be something else.
async fn refuse_others(session: &mut Session, place: &Place) -> Result<(), VaultError> {
    let path = format!("sys/internal/ui/mounts/{}", place.mount);
    let Ok(answer) = session.call("reading", Method::GET, &path, None).await else { return Ok(()) };
    let Some(MountAnswer { data }) = parse::<MountAnswer>(&answer) else { return Ok(()) };
    let version = data.options.as_ref().and_then(|options| options.get("version"));
    if data.r#type == "kv" && version.is_some_and(|version| version == "2") {
        Ok(())
    } else {
        Err(VaultError::NotVersioned { mount: place.mount.to_string() })
    }
}
