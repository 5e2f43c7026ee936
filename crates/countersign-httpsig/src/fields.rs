//! Values of fields (RFC 9421, section 2.1), and of which kind structured fields are.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use sfv::{
    DictSerializer, Dictionary, InnerList, Item, ItemSerializer, List, ListEntry, ListSerializer, Parser,
};

use crate::component::{Component, Parameter};
use crate::error::BaseError;
use crate::verify::keys;

/// The kinds of structured field (RFC 9651, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// One item.
    Item,
    /// A list.
    List,
    /// A dictionary.
    Dictionary,
}

/// Of which kind structured fields are: without knowing that, nobody can serialise one anew (section 2.1.1).
#[derive(Clone, Debug)]
pub struct FieldTypes(HashMap<HeaderName, FieldType>);

impl FieldTypes {
    /// The fields of RFC 9421, 9530, 9218, 9209 and 9211.
    #[must_use]
    pub fn standard() -> Self {
        use FieldType::{Dictionary, List};
        let known = [
            ("accept-signature", Dictionary),
            ("cache-status", List),
            ("content-digest", Dictionary),
            ("priority", Dictionary),
            ("proxy-status", List),
            ("repr-digest", Dictionary),
            ("signature", Dictionary),
            ("signature-input", Dictionary),
            ("want-content-digest", Dictionary),
            ("want-repr-digest", Dictionary),
        ];
        Self(known.into_iter().map(|(name, kind)| (HeaderName::from_static(name), kind)).collect())
    }

    /// These, and this one.
    #[must_use]
    pub fn with(mut self, name: HeaderName, kind: FieldType) -> Self {
        self.0.insert(name, kind);
        self
    }
}

impl Default for FieldTypes {
    fn default() -> Self {
        Self::standard()
    }
}

/// Writes the value of a field component.
pub(crate) fn value(
    component: &Component,
    name: &HeaderName,
    fields: &HeaderMap,
    types: &FieldTypes,
    out: &mut String,
) -> Result<(), BaseError> {
    if !fields.contains_key(name) {
        return Err(BaseError::Missing);
    }
    if component.has(&Parameter::Bs) {
        bytes(fields, name, out);
        return Ok(());
    }
    let start = out.len();
    combined(fields, name, out)?;
    if let Some(key) = component.key() {
        let text = out.split_off(start);
        return member(&text, key, out);
    }
    if component.has(&Parameter::Sf) {
        let text = out.split_off(start);
        let kind = types.0.get(name).copied().ok_or(BaseError::UnknownField)?;
        return again(&text, kind, out);
    }
    Ok(())
}

/// Section 2.1: each line without white space around it, joined by `, `.
pub(crate) fn combined(fields: &HeaderMap, name: &HeaderName, out: &mut String) -> Result<(), BaseError> {
    for (index, line) in fields.get_all(name).iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        let line = trim(line.as_bytes());
        let text = std::str::from_utf8(line).ok().filter(|text| text.is_ascii());
        out.push_str(text.ok_or(BaseError::NotAscii)?);
    }
    Ok(())
}

/// Section 2.1.3: each line as a byte sequence, so that none can pass as two.
fn bytes(fields: &HeaderMap, name: &HeaderName, out: &mut String) {
    for (index, line) in fields.get_all(name).iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push(':');
        STANDARD.encode_string(trim(line.as_bytes()), out);
        out.push(':');
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

/// Section 2.1.2: the value of one member, with its parameters. It has to be the only one of this key.
fn member(text: &str, key: &str, out: &mut String) -> Result<(), BaseError> {
    if keys(text)?.into_iter().filter(|one| *one == key).count() > 1 {
        return Err(crate::FormError::Repeated.into());
    }
    let dictionary: Dictionary = Parser::new(text).parse().map_err(|_| crate::FormError::NotStructured)?;
    match dictionary.get(key).ok_or(BaseError::Missing)? {
        ListEntry::Item(item) => write_item(item, out),
        ListEntry::InnerList(list) => write_inner(list, out),
    }
    Ok(())
}

/// Section 2.1.1: serialised anew.
fn again(text: &str, kind: FieldType, out: &mut String) -> Result<(), BaseError> {
    let wrong = |_| BaseError::from(crate::FormError::NotStructured);
    match kind {
        FieldType::Item => write_item(&Parser::new(text).parse::<Item>().map_err(wrong)?, out),
        FieldType::List => {
            let list: List = Parser::new(text).parse().map_err(wrong)?;
            let mut writer = ListSerializer::with_buffer(out);
            writer.members(&list);
            // An empty one has no serialisation, and nothing to be signed either.
            let _ = writer.finish();
        }
        FieldType::Dictionary => {
            let dictionary: Dictionary = Parser::new(text).parse().map_err(wrong)?;
            let mut writer = DictSerializer::with_buffer(out);
            writer.members(&dictionary);
            let _ = writer.finish();
        }
    }
    Ok(())
}

fn write_item(item: &Item, out: &mut String) {
    let _ = ItemSerializer::with_buffer(out).bare_item(&item.bare_item).parameters(&item.params).finish();
}

/// An inner list is written in the one place where it can stand, a list.
pub(crate) fn write_inner(list: &InnerList, out: &mut String) {
    let mut writer = ListSerializer::with_buffer(out);
    let mut inner = writer.inner_list();
    for item in &list.items {
        inner.bare_item(&item.bare_item).parameters(&item.params);
    }
    inner.finish().parameters(&list.params);
    let _ = writer.finish();
}
