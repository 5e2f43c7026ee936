//! Whether the content is the one whose digest was signed (CS-27).

use http::HeaderMap;

use super::judge::digest_text;

/// What is wrong with it; `None` also where only the head was captured, or the digest is not covered.
pub(super) fn judge(fields: &HeaderMap, body: Option<&[u8]>, is_covered: bool) -> Option<String> {
    let line = fields.get("content-digest")?.to_str().ok()?;
    if !is_covered {
        return None;
    }
    let members = line.split(',').map(str::trim);
    let Some(said) = members.into_iter().find(|member| member.starts_with("sha-256=")) else {
        return Some("`content-digest` holds no `sha-256`, which it has to hold".to_owned());
    };
    let body = body?;
    // Of a message whose head alone was saved, there is nothing to compare with.
    let is = |content: &[u8]| digest_text(content) == said;
    if is(body) {
        return None;
    }
    let trimmed = body.strip_suffix(b"\n").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    if trimmed.is_some_and(is) {
        return Some(
            "the digest is that of the content without the line end behind it: whatever saved the content, or sent it, has added one".to_owned(),
        );
    }
    if is(b"") {
        return Some(
            "the digest is that of no content at all: it was made before the content was there".to_owned(),
        );
    }
    if is(&[body, b"\n".as_slice()].concat()) {
        return Some("the digest is that of the content with a line feed behind it".to_owned());
    }
    Some(format!(
        "the content is not the one whose digest was signed: that of what came, {} bytes, is {}. It was changed on the way, compressed after it was signed, or signed in another form than it was sent",
        body.len(),
        digest_text(body)
    ))
}
