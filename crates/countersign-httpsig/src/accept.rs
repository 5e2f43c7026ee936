//! `Accept-Signature` (RFC 9421, section 5): asking the other side for a signature.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, InnerList, Item, KeyRef, ListEntry};

use crate::component::Component;
use crate::error::{FormError, SignError};
use crate::sign::line;
use crate::verify::dictionary;

/// The field `Accept-Signature`.
pub const ACCEPT_SIGNATURE: HeaderName = HeaderName::from_static("accept-signature");

/// A signature that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requested {
    /// The label under which it is expected.
    pub label: String,
    /// What it is to cover.
    pub components: Vec<Component>,
    /// Whether `created` is asked for.
    pub created: bool,
    /// Whether `expires` is asked for.
    pub expires: bool,
    /// The nonce to be used.
    pub nonce: Option<String>,
    /// The algorithm to be used.
    pub alg: Option<String>,
    /// The key to be used.
    pub keyid: Option<String>,
    /// The tag to be used.
    pub tag: Option<String>,
}

impl Requested {
    /// As a line of the field.
    ///
    /// # Errors
    /// The label or a text is not one that a structured field can hold.
    pub fn to_value(&self) -> Result<HeaderValue, SignError> {
        let label = KeyRef::from_str(&self.label).map_err(|_| SignError::Label)?;
        let form = |error: FormError| SignError::Base(error.into());
        let items: Vec<Item> =
            self.components.iter().map(Component::item).collect::<Result<_, _>>().map_err(form)?;
        let mut parameters: Vec<(&KeyRef, BareItem)> = Vec::new();
        for (asked, key) in [(self.created, "created"), (self.expires, "expires")] {
            if asked {
                parameters.push((KeyRef::from_str(key).map_err(|_| SignError::Label)?, true.into()));
            }
        }
        for (text, key) in
            [(&self.nonce, "nonce"), (&self.alg, "alg"), (&self.keyid, "keyid"), (&self.tag, "tag")]
        {
            if let Some(text) = text {
                let key = KeyRef::from_str(key).map_err(|_| SignError::Label)?;
                let text =
                    sfv::String::try_from(text.clone()).map_err(|_| form(FormError::SignatureParameter))?;
                parameters.push((key, text.into()));
            }
        }
        let value = line(|writer| {
            let mut inner = writer.inner_list(label);
            for item in &items {
                inner.bare_item(&item.bare_item).parameters(&item.params);
            }
            inner.finish().parameters(parameters.iter().map(|(key, value)| (*key, value)));
        });
        Ok(value?)
    }

    fn read(label: &str, entry: &ListEntry) -> Result<Self, FormError> {
        let ListEntry::InnerList(list) = entry else { return Err(FormError::NotStructured) };
        let components = list.items.iter().map(Component::read).collect::<Result<_, _>>()?;
        Self::with_parameters(label, components, list)
    }

    fn with_parameters(label: &str, components: Vec<Component>, list: &InnerList) -> Result<Self, FormError> {
        let mut requested = Self { label: label.to_owned(), components, ..Self::default() };
        for (key, value) in &list.params {
            let flag = || value.as_boolean().ok_or(FormError::SignatureParameter);
            let text = || {
                let text = value.as_string().ok_or(FormError::SignatureParameter)?;
                Ok::<_, FormError>(Some(text.as_str().to_owned()))
            };
            match key.as_str() {
                "created" => requested.created = flag()?,
                "expires" => requested.expires = flag()?,
                "nonce" => requested.nonce = text()?,
                "alg" => requested.alg = text()?,
                "keyid" => requested.keyid = text()?,
                "tag" => requested.tag = text()?,
                // To be ignored (section 5.1).
                _ => {}
            }
        }
        Ok(requested)
    }
}

/// All signatures that these fields ask for.
///
/// # Errors
/// The field has not its form.
pub fn requested(fields: &HeaderMap) -> Result<Vec<Requested>, FormError> {
    let asked = dictionary(fields, &ACCEPT_SIGNATURE)?;
    asked.iter().map(|(label, entry)| Requested::read(label.as_str(), entry)).collect()
}

/// The signature that these fields ask for under this label. Components that are not known here are left out, and what is asked
/// for under other labels is not looked at: for a signer that decides itself what it covers.
///
/// # Errors
/// The field is no dictionary, or this member has not its form.
pub fn requested_under(fields: &HeaderMap, label: &str) -> Result<Option<Requested>, FormError> {
    let asked = dictionary(fields, &ACCEPT_SIGNATURE)?;
    let Some(entry) = asked.get(label) else { return Ok(None) };
    let ListEntry::InnerList(list) = entry else { return Err(FormError::NotStructured) };
    let components = list.items.iter().filter_map(|item| Component::read(item).ok()).collect();
    Requested::with_parameters(label, components, list).map(Some)
}
