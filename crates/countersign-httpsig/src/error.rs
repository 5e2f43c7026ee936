/// Text that is not of the form that RFC 9421 or RFC 9530 gives it. Holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// Not a structured field of the kind that is expected here (RFC 9651), or bytes outside of ASCII.
    #[error("the field is not a structured field of the kind that it should be (RFC 9651)")]
    NotStructured,
    /// A name or a parameter that should be a string is something else.
    #[error("a component identifier is a string, such as \"@method\" or \"content-type\"")]
    NotString,
    /// A component name that nobody knows.
    #[error("a component name is neither that of a field nor one of RFC 9421, section 2.2")]
    UnknownName,
    /// A field's name in upper case.
    #[error("field names in component identifiers are written in lower case")]
    UpperCase,
    /// A component parameter that is unknown, or has a value of the wrong kind.
    #[error("a component identifier has a parameter that is unknown or has the wrong kind of value")]
    UnknownParameter,
    /// A component parameter where it has no meaning.
    #[error("a component identifier has parameters that do not go together, or lacks one")]
    ParameterElsewhere,
    /// The same component twice.
    #[error("a component is covered twice")]
    Twice,
    /// More components than a signature may cover ([`MAX_COMPONENTS`](crate::MAX_COMPONENTS)).
    #[error("a signature covers more than 64 components")]
    TooMany,
    /// A signature parameter with a value of the wrong kind, or a time before 1970.
    #[error(
        "a signature parameter (created, expires, nonce, alg, keyid, tag) has the wrong kind of value, or is a time \
         before 1970"
    )]
    SignatureParameter,
    /// A label or an algorithm twice. Structured fields let the last one win; who reads the first would see another.
    #[error("a label or an algorithm stands twice in one field")]
    Repeated,
    /// One of `Signature-Input` and `Signature` without the other.
    #[error("Signature-Input and Signature do not have the same labels")]
    Labels,
    /// A signature that is not a byte sequence.
    #[error("a signature is a byte sequence, `:base64:`")]
    Signature,
    /// A digest that is not a byte sequence of the right length, or a preference that is not from 0 to 10.
    #[error("a digest field has a value of the wrong kind or length (RFC 9530)")]
    Digest,
}

/// Why a signature base cannot be made of this message (RFC 9421, section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// An identifier has not the form that it should have.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The message has no such field, member or query parameter.
    #[error("a covered component is not in the message")]
    Missing,
    /// The component exists in the other kind of message only, or `req` without a request.
    #[error("a covered component does not exist in this kind of message")]
    OtherMessage,
    /// Of which kind the structured field is, nobody has said.
    #[error("a field is to be read as a structured field, and its kind is not known (`FieldTypes`)")]
    UnknownField,
    /// A query parameter that occurs several times cannot be covered by its name.
    #[error("a covered query parameter occurs more than once")]
    Repeated,
    /// Bytes outside of ASCII, which a signature base cannot hold; `bs` can.
    #[error("a covered field holds bytes outside of ASCII; cover it with `bs`")]
    NotAscii,
}

/// A message could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// No signature base.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The label is not a key of a dictionary (RFC 9651, section 3.1.2).
    #[error("a label begins with a-z or `*` and has only a-z, 0-9, `_`, `-`, `.` and `*`")]
    Label,
    /// The message carries a signature with this label already.
    #[error("the message has a signature with this label already")]
    LabelTaken,
    /// The `alg` parameter is not that of the key.
    #[error("the signature parameter `alg` names another algorithm than that of the key")]
    Algorithm,
}

/// A signature that is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// No signature base.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The `alg` parameter is not that of the key (section 3.2, step 6).
    #[error("the signature parameter `alg` names another algorithm than that of the key")]
    Algorithm,
    /// The signature was not made with this key over this base.
    #[error("the signature does not match")]
    Mismatch,
}

/// A body that is not the one that a digest field describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Not a digest field.
    #[error(transparent)]
    Form(#[from] FormError),
    /// None of its algorithms is one that is known and strong (sha-256, sha-512).
    #[error("the digest field has neither sha-256 nor sha-512")]
    NoAlgorithm,
    /// Another body.
    #[error("the digest field does not match the content")]
    Mismatch,
}
