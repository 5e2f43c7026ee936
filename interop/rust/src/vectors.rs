//! The signatures of `vectors/cs1`: the library reads the message, makes its own signature base and verifies it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use httpsig_hyper::prelude::{SharedKey, VerifyingKey as _};
use httpsig_hyper::{MessageSignatureReq as _, MessageSignatureRes as _};
use serde_json::Value;

use super::{Failure, check};

type Outcome = Result<Option<&'static str>, Failure>;

/// Each message of the folder, and what came of it.
pub(crate) fn run(folder: &str) -> Result<Vec<(String, Outcome)>, Failure> {
    let mut outcomes = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().map_err(|_| "a name that is not UTF-8")?;
        if ["request-", "response-", "direct-", "stream-"].iter().any(|kind| name.starts_with(kind)) {
            let outcome = vector(&Path::new(folder).join(&name).join("vector.json"));
            outcomes.push((name, outcome));
        }
    }
    outcomes.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(outcomes)
}

fn text<'a>(vector: &'a Value, member: &str) -> Result<&'a str, Failure> {
    vector[member].as_str().ok_or_else(|| format!("no {member}").into())
}

fn fields(vector: &Value) -> Result<HeaderMap, Failure> {
    let mut fields = HeaderMap::new();
    for field in vector["fields"].as_array().ok_or("no fields")? {
        let (name, value) = (text(field, "name")?, text(field, "value")?);
        // As hyper's parser leaves it. The library itself strips nothing.
        let value = value.trim_matches([' ', '\t']);
        fields.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    for (name, member) in [("signature-input", "signatureInput"), ("signature", "signature")] {
        fields.append(HeaderName::from_static(name), HeaderValue::try_from(text(vector, member)?)?);
    }
    Ok(fields)
}

fn vector(file: &Path) -> Outcome {
    let vector: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let asked = vector.get("request").unwrap_or(&vector);
    let query = asked["query"].as_str().map_or_else(String::new, |query| format!("?{query}"));
    let uri = format!("https://{}{}{query}", text(asked, "authority")?, text(asked, "path")?);
    let mut request =
        Request::builder().method(text(asked, "method")?).uri(uri).body(Empty::<Bytes>::new())?;
    *request.headers_mut() = fields(asked)?;
    let mut signatures = if vector.get("request").is_some() {
        let status = u16::try_from(vector["status"].as_u64().ok_or("no status")?)?;
        let mut response = Response::builder().status(status).body(Empty::<Bytes>::new())?;
        *response.headers_mut() = fields(&vector)?;
        response.extract_signatures(Some(&request))?
    } else {
        request.extract_signatures()?
    };
    // A base that it cannot make it leaves out without a word.
    if signatures.is_empty() && text(&vector, "signatureInput")?.contains("\"set-cookie\";bs") {
        return Ok(Some("the library does not know the parameter `bs`, which set-cookie has to have"));
    }
    let (base, signed) = signatures.swap_remove("cs").ok_or("no signature base was made")?;
    check(base.to_string() == text(&vector, "base")?, format!("another base: {base}"))?;
    // Not its method for the fields: that would ask the clock, and the vectors have their own time.
    let signature = STANDARD.decode(signed.signature().to_string())?;
    SharedKey::HmacSha256(hex(text(&vector, "key_hex")?)?).verify(&base.as_bytes(), &signature)?;
    Ok(None)
}

fn hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits = |at| text.get(at..at + 2).ok_or("odd");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(digits(at)?, 16)?)).collect()
}
