//! Component identifiers: which part of a message a line of the signature base is about.

use std::fmt;
use std::mem::discriminant;

use http::HeaderName;
use sfv::{BareItem, Item, ItemSerializer, KeyRef, Parameters, StringRef};

use crate::FormError;

/// A component identifier (RFC 9421, section 2): a name with parameters.
///
/// Two of them are the same component if they have the same name and the same parameters, in whatever order: that is
/// what [`PartialEq`] says. They are written in the order in which the parameters were given.
///
/// ```
/// use countersign_httpsig::Component;
///
/// let method: Component = "\"@method\";req".parse()?;
/// assert_eq!(method, Component::method().of_request());
/// assert_eq!(method.to_string(), "\"@method\";req");
/// # Ok::<_, countersign_httpsig::FormError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Component {
    name: Name,
    parameters: Vec<Parameter>,
}

/// What a component is named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Name {
    /// `@method`, section 2.2.1.
    Method,
    /// `@target-uri`, section 2.2.2.
    TargetUri,
    /// `@authority`, section 2.2.3.
    Authority,
    /// `@scheme`, section 2.2.4.
    Scheme,
    /// `@request-target`, section 2.2.5.
    RequestTarget,
    /// `@path`, section 2.2.6.
    Path,
    /// `@query`, section 2.2.7.
    Query,
    /// `@query-param`, section 2.2.8; needs the parameter `name`.
    QueryParam,
    /// `@status`, section 2.2.9; of responses only.
    Status,
    /// A field, section 2.1.
    Field(HeaderName),
}

/// A parameter of a component identifier (section 6.5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parameter {
    /// `sf`: the field is serialised anew as the structured field it is (section 2.1.1).
    Sf,
    /// `key`: one member of a dictionary (section 2.1.2).
    Key(String),
    /// `bs`: each line of the field as a byte sequence (section 2.1.3).
    Bs,
    /// `tr`: from the trailers (section 2.1.4).
    Tr,
    /// `req`: from the request that a response answers (section 2.4).
    Req,
    /// `name` of `@query-param`, percent-encoded as section 2.2.8 says.
    Name(String),
}

impl Name {
    const DERIVED: [(&'static str, Self); 9] = [
        ("@method", Self::Method),
        ("@target-uri", Self::TargetUri),
        ("@authority", Self::Authority),
        ("@scheme", Self::Scheme),
        ("@request-target", Self::RequestTarget),
        ("@path", Self::Path),
        ("@query", Self::Query),
        ("@query-param", Self::QueryParam),
        ("@status", Self::Status),
    ];

    fn parse(text: &str) -> Result<Self, FormError> {
        if text.starts_with('@') {
            let known = Self::DERIVED.into_iter().find(|(name, _)| *name == text);
            return known.map(|(_, name)| name).ok_or(FormError::UnknownName);
        }
        // Field names are in lower case here, and nowhere else does that matter.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(FormError::UpperCase);
        }
        HeaderName::from_bytes(text.as_bytes()).map(Self::Field).map_err(|_| FormError::UnknownName)
    }

    /// As it stands between the quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if let Self::Field(name) = self {
            return name.as_str();
        }
        Self::DERIVED.iter().find(|(_, name)| name == self).map_or("", |(text, _)| text)
    }
}

impl Component {
    const fn derived(name: Name) -> Self {
        Self { name, parameters: Vec::new() }
    }

    /// `@method`
    #[must_use]
    pub const fn method() -> Self {
        Self::derived(Name::Method)
    }

    /// `@target-uri`
    #[must_use]
    pub const fn target_uri() -> Self {
        Self::derived(Name::TargetUri)
    }

    /// `@authority`
    #[must_use]
    pub const fn authority() -> Self {
        Self::derived(Name::Authority)
    }

    /// `@scheme`
    #[must_use]
    pub const fn scheme() -> Self {
        Self::derived(Name::Scheme)
    }

    /// `@request-target`
    #[must_use]
    pub const fn request_target() -> Self {
        Self::derived(Name::RequestTarget)
    }

    /// `@path`
    #[must_use]
    pub const fn path() -> Self {
        Self::derived(Name::Path)
    }

    /// `@query`
    #[must_use]
    pub const fn query() -> Self {
        Self::derived(Name::Query)
    }

    /// `@query-param` of the parameter with this name, as it reads when it is decoded.
    #[must_use]
    pub fn query_param(name: &str) -> Self {
        let name = crate::derive::encode_query(name);
        Self { name: Name::QueryParam, parameters: vec![Parameter::Name(name)] }
    }

    /// `@status`
    #[must_use]
    pub const fn status() -> Self {
        Self::derived(Name::Status)
    }

    /// A field.
    #[must_use]
    pub const fn field(name: HeaderName) -> Self {
        Self::derived(Name::Field(name))
    }

    /// With `sf`: a structured field, serialised anew.
    #[must_use]
    pub fn structured(self) -> Self {
        self.with(Parameter::Sf)
    }

    /// With `key`: this member of a dictionary.
    #[must_use]
    pub fn member(self, key: &str) -> Self {
        self.with(Parameter::Key(key.to_owned()))
    }

    /// With `bs`: each line as bytes.
    #[must_use]
    pub fn bytes(self) -> Self {
        self.with(Parameter::Bs)
    }

    /// With `tr`: from the trailers.
    #[must_use]
    pub fn of_trailers(self) -> Self {
        self.with(Parameter::Tr)
    }

    /// With `req`: from the request that the response answers.
    #[must_use]
    pub fn of_request(self) -> Self {
        self.with(Parameter::Req)
    }

    /// A parameter stands once: one of the same name is replaced.
    fn with(mut self, parameter: Parameter) -> Self {
        let name = discriminant(&parameter);
        match self.parameters.iter_mut().find(|one| discriminant(*one) == name) {
            Some(place) => *place = parameter,
            None => self.parameters.push(parameter),
        }
        self
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Its parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    pub(crate) fn has(&self, parameter: &Parameter) -> bool {
        self.parameters.contains(parameter)
    }

    /// The `key` that it names, if it names one.
    pub(crate) fn key(&self) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Key(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// The `name` of a query parameter.
    pub(crate) fn query_name(&self) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Reads one member of an inner list.
    pub(crate) fn read(item: &Item) -> Result<Self, FormError> {
        let BareItem::String(name) = &item.bare_item else { return Err(FormError::NotString) };
        let name = Name::parse(name.as_str())?;
        let parameters =
            item.params.iter().map(|(key, value)| Parameter::read(key, value)).collect::<Result<_, _>>()?;
        let component = Self { name, parameters };
        component.check()?;
        Ok(component)
    }

    /// Which parameters go with which names, and with each other.
    pub(crate) fn check(&self) -> Result<(), FormError> {
        let field = matches!(self.name, Name::Field(_));
        for parameter in &self.parameters {
            let fits = match parameter {
                Parameter::Req => true,
                Parameter::Name(_) => self.name == Name::QueryParam,
                Parameter::Bs => field && !self.has(&Parameter::Sf) && self.key().is_none(),
                Parameter::Sf | Parameter::Key(_) | Parameter::Tr => field,
            };
            if !fits {
                return Err(FormError::ParameterElsewhere);
            }
        }
        // `@status` of a request does not exist.
        let no_request = self.name == Name::Status && self.has(&Parameter::Req);
        let no_name = self.name == Name::QueryParam && self.query_name().is_none();
        if no_request || no_name { Err(FormError::ParameterElsewhere) } else { Ok(()) }
    }

    pub(crate) fn write(&self, out: &mut String) -> Result<(), FormError> {
        let name = StringRef::from_str(self.name.as_str()).map_err(|_| FormError::NotString)?;
        let mut item = ItemSerializer::with_buffer(out).bare_item(name);
        for (key, value) in self.pairs()? {
            item = item.parameter(key, &value);
        }
        let _ = item.finish();
        Ok(())
    }

    pub(crate) fn item(&self) -> Result<Item, FormError> {
        let name = sfv::String::try_from(self.name.as_str().to_owned()).map_err(|_| FormError::NotString)?;
        let parameters: Parameters =
            self.pairs()?.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(Item::with_params(name, parameters))
    }

    fn pairs(&self) -> Result<Vec<(&'static KeyRef, BareItem)>, FormError> {
        self.parameters.iter().map(Parameter::pair).collect()
    }
}

impl Parameter {
    fn read(key: &sfv::Key, value: &BareItem) -> Result<Self, FormError> {
        match (key.as_str(), value) {
            ("sf", BareItem::Boolean(true)) => Ok(Self::Sf),
            ("bs", BareItem::Boolean(true)) => Ok(Self::Bs),
            ("tr", BareItem::Boolean(true)) => Ok(Self::Tr),
            ("req", BareItem::Boolean(true)) => Ok(Self::Req),
            ("key", BareItem::String(key)) => Ok(Self::Key(key.as_str().to_owned())),
            ("name", BareItem::String(name)) => Ok(Self::Name(name.as_str().to_owned())),
            // One that is not understood may change what the component means.
            _ => Err(FormError::UnknownParameter),
        }
    }

    fn pair(&self) -> Result<(&'static KeyRef, BareItem), FormError> {
        let string = |text: &str| {
            let string = sfv::String::try_from(text.to_owned()).map_err(|_| FormError::NotString)?;
            Ok(BareItem::String(string))
        };
        let flag = || Ok(BareItem::Boolean(true));
        Ok(match self {
            Self::Sf => (sfv::key_ref("sf"), flag()?),
            Self::Bs => (sfv::key_ref("bs"), flag()?),
            Self::Tr => (sfv::key_ref("tr"), flag()?),
            Self::Req => (sfv::key_ref("req"), flag()?),
            Self::Key(key) => (sfv::key_ref("key"), string(key)?),
            Self::Name(name) => (sfv::key_ref("name"), string(name)?),
        })
    }
}

impl PartialEq for Component {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.parameters.len() == other.parameters.len()
            && self.parameters.iter().all(|parameter| other.has(parameter))
    }
}

impl Eq for Component {}

impl std::str::FromStr for Component {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let item: Item = sfv::Parser::new(text).parse().map_err(|_| FormError::NotStructured)?;
        Self::read(&item)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}
