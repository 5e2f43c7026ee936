//! What a signature covers, and its parameters: a member of `Signature-Input`.

use sfv::{BareItem, InnerList, ListEntry, Parameters};

use crate::component::Component;
use crate::error::FormError;
use crate::fields::write_inner;

/// What a signature covers and its parameters (RFC 9421, sections 2.3 and 4.1). What was read is written again in the
/// same order, parameters that are not known here included.
#[derive(Clone, Debug, PartialEq)]
pub struct SignatureInput {
    components: Vec<Component>,
    parameters: Parameters,
}

/// How many components a signature may cover. Every one is compared with all before it, and is work for the verifier.
pub const MAX_COMPONENTS: usize = 64;

impl SignatureInput {
    /// A signature over these components, without parameters.
    ///
    /// # Errors
    /// A component twice, one with parameters that do not go together, or more than [`MAX_COMPONENTS`].
    pub fn new(components: impl IntoIterator<Item = Component>) -> Result<Self, FormError> {
        Self::checked(components.into_iter().collect(), Parameters::new())
    }

    fn checked(components: Vec<Component>, parameters: Parameters) -> Result<Self, FormError> {
        if components.len() > MAX_COMPONENTS {
            return Err(FormError::TooMany);
        }
        for (index, component) in components.iter().enumerate() {
            component.check()?;
            if components.iter().take(index).any(|earlier| earlier == component) {
                return Err(FormError::Twice);
            }
        }
        let input = Self { components, parameters };
        input.check_parameters()?;
        Ok(input)
    }

    fn check_parameters(&self) -> Result<(), FormError> {
        for (key, value) in &self.parameters {
            let fits = match key.as_str() {
                "created" | "expires" => value.as_integer().is_some_and(|seconds| i64::from(seconds) >= 0),
                "nonce" | "alg" | "keyid" | "tag" => value.as_string().is_some(),
                _ => true,
            };
            if !fits {
                return Err(FormError::SignatureParameter);
            }
        }
        Ok(())
    }

    /// Reads a member of `Signature-Input`.
    pub(crate) fn read(entry: &ListEntry) -> Result<Self, FormError> {
        let ListEntry::InnerList(list) = entry else { return Err(FormError::NotStructured) };
        // Before anything is made of them.
        if list.items.len() > MAX_COMPONENTS {
            return Err(FormError::TooMany);
        }
        let components = list.items.iter().map(Component::read).collect::<Result<_, _>>()?;
        Self::checked(components, list.params.clone())
    }

    /// When the signature was made, in seconds since 1970.
    ///
    /// # Errors
    /// Structured fields hold integers of at most 15 digits.
    pub fn created(self, seconds: u64) -> Result<Self, FormError> {
        self.integer(sfv::key_ref("created"), seconds)
    }

    /// From when on it is not to be accepted any more, in seconds since 1970.
    ///
    /// # Errors
    /// As [`SignatureInput::created`].
    pub fn expires(self, seconds: u64) -> Result<Self, FormError> {
        self.integer(sfv::key_ref("expires"), seconds)
    }

    /// A value that is never used again.
    ///
    /// # Errors
    /// Not printable ASCII.
    pub fn nonce(self, nonce: &str) -> Result<Self, FormError> {
        self.string(sfv::key_ref("nonce"), nonce)
    }

    /// The algorithm, by its name in the registry (section 6.2).
    ///
    /// # Errors
    /// Not printable ASCII.
    pub fn alg(self, alg: &str) -> Result<Self, FormError> {
        self.string(sfv::key_ref("alg"), alg)
    }

    /// Which key it was made with.
    ///
    /// # Errors
    /// Not printable ASCII.
    pub fn keyid(self, keyid: &str) -> Result<Self, FormError> {
        self.string(sfv::key_ref("keyid"), keyid)
    }

    /// What the signature is for.
    ///
    /// # Errors
    /// Not printable ASCII.
    pub fn tag(self, tag: &str) -> Result<Self, FormError> {
        self.string(sfv::key_ref("tag"), tag)
    }

    fn integer(mut self, key: &sfv::KeyRef, value: u64) -> Result<Self, FormError> {
        let value = sfv::Integer::try_from(value).map_err(|_| FormError::SignatureParameter)?;
        self.parameters.insert(key.to_owned(), BareItem::Integer(value));
        Ok(self)
    }

    fn string(mut self, key: &sfv::KeyRef, value: &str) -> Result<Self, FormError> {
        let value = sfv::String::try_from(value.to_owned()).map_err(|_| FormError::SignatureParameter)?;
        self.parameters.insert(key.to_owned(), BareItem::String(value));
        Ok(self)
    }

    /// What it covers, in order.
    #[must_use]
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Whether it covers this component, with just these parameters.
    #[must_use]
    pub fn covers(&self, component: &Component) -> bool {
        self.components.contains(component)
    }

    /// `created`; `None` if it is absent.
    #[must_use]
    pub fn get_created(&self) -> Option<u64> {
        self.seconds("created")
    }

    /// `expires`; `None` if it is absent.
    #[must_use]
    pub fn get_expires(&self) -> Option<u64> {
        self.seconds("expires")
    }

    /// `nonce`
    #[must_use]
    pub fn get_nonce(&self) -> Option<&str> {
        self.text("nonce")
    }

    /// `alg`
    #[must_use]
    pub fn get_alg(&self) -> Option<&str> {
        self.text("alg")
    }

    /// `keyid`
    #[must_use]
    pub fn get_keyid(&self) -> Option<&str> {
        self.text("keyid")
    }

    /// `tag`
    #[must_use]
    pub fn get_tag(&self) -> Option<&str> {
        self.text("tag")
    }

    /// The names of all its parameters, in order: a strict profile refuses those that it does not know.
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parameters.keys().map(|key| key.as_str())
    }

    fn seconds(&self, key: &str) -> Option<u64> {
        u64::try_from(i64::from(self.parameters.get(key)?.as_integer()?)).ok()
    }

    fn text(&self, key: &str) -> Option<&str> {
        Some(self.parameters.get(key)?.as_string()?.as_str())
    }

    pub(crate) fn inner_list(&self) -> Result<InnerList, FormError> {
        let items = self.components.iter().map(Component::item).collect::<Result<_, _>>()?;
        Ok(InnerList::with_params(items, self.parameters.clone()))
    }

    /// The value of `@signature-params`, and of the member in `Signature-Input`.
    pub(crate) fn write(&self, out: &mut String) -> Result<(), FormError> {
        write_inner(&self.inner_list()?, out);
        Ok(())
    }
}
