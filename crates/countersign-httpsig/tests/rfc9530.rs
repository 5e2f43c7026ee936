//! The examples of RFC 9530, appendix B, and what `Repr-Digest` and `Content-Digest` have in common where they differ.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use countersign_httpsig::DigestError;
use countersign_httpsig::digest::{
    CONTENT_DIGEST, DigestAlgorithm, Digests, REPR_DIGEST, WANT_CONTENT_DIGEST, WANT_REPR_DIGEST,
    claimed_digest, digest_value, wanted,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The representation of most examples: JSON and a line feed.
const WHOLE: &[u8] = b"{\"hello\": \"world\"}\n";
const OF_WHOLE: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
const OF_WHOLE_512: &str =
    "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
const OF_NOTHING: &str = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
const OF_PART: &str = "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:";
/// The same in the coding `br`: the bytes whose digest the appendix gives.
const CODED: [u8; 23] = *b"\x0b\x09\x80{\"hello\": \"world\"}\n\x03";
const OF_CODED: &str = "sha-256=:d435Qo+nKZ+gLcUHn7GQtQ72hiBVAgqoLsZnZPiTGPk=:";

fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

fn claims(lines: &[(HeaderName, &str)], name: &HeaderName, content: &[u8]) -> Result<(), DigestError> {
    Digests::read(&fields(lines), name).and_then(|digests| digests.verify(content))
}

#[test]
fn b_1_a_whole_representation_has_the_same_digest_in_both_fields() {
    let lines = [(CONTENT_DIGEST, OF_WHOLE), (REPR_DIGEST, OF_WHOLE)];
    for name in [CONTENT_DIGEST, REPR_DIGEST] {
        assert_eq!(claims(&lines, &name, WHOLE), Ok(()));
        assert_eq!(claims(&lines, &name, WHOLE.trim_ascii_end()), Err(DigestError::Mismatch));
    }
    assert_eq!(digest_value(DigestAlgorithm::Sha256, WHOLE).unwrap(), OF_WHOLE);
    assert_eq!(digest_value(DigestAlgorithm::Sha512, WHOLE).unwrap(), OF_WHOLE_512);
}

#[test]
fn b_2_an_answer_to_head_has_no_content_and_the_digest_of_what_a_get_would_give() {
    let lines = [(CONTENT_DIGEST, OF_NOTHING), (REPR_DIGEST, OF_WHOLE)];
    assert_eq!(claims(&lines, &CONTENT_DIGEST, b""), Ok(()));
    assert_eq!(claims(&lines, &REPR_DIGEST, WHOLE), Ok(()));
    assert_eq!(claims(&lines, &REPR_DIGEST, b""), Err(DigestError::Mismatch));
}

#[test]
fn b_3_a_part_is_what_the_content_digest_is_of() {
    let lines = [(CONTENT_DIGEST, OF_PART), (REPR_DIGEST, OF_WHOLE)];
    // Content-Range: bytes 10-18/19
    let part = &WHOLE[10..=18];
    assert_eq!(claims(&lines, &CONTENT_DIGEST, part), Ok(()));
    assert_eq!(claims(&lines, &REPR_DIGEST, part), Err(DigestError::Mismatch));
    assert_eq!(claims(&lines, &REPR_DIGEST, WHOLE), Ok(()));
}

#[test]
fn b_4_both_are_of_the_content_with_its_coding() {
    let lines = [(CONTENT_DIGEST, OF_CODED), (REPR_DIGEST, OF_CODED)];
    for name in [CONTENT_DIGEST, REPR_DIGEST] {
        assert_eq!(claims(&lines, &name, &CODED), Ok(()), "{name}");
        assert_eq!(claims(&lines, &name, WHOLE), Err(DigestError::Mismatch), "without it");
    }
}

#[test]
fn b_9_a_digest_is_asked_for_and_given_with_the_algorithm_that_is_liked_best() {
    for name in [WANT_CONTENT_DIGEST, WANT_REPR_DIGEST] {
        let best = |value| wanted(&fields(&[(name.clone(), value)]), &name).unwrap();
        assert_eq!(best("sha-256=3, sha=10"), Some(DigestAlgorithm::Sha256), "`sha` is broken");
        assert_eq!(best("sha-512=3, sha-256=10, unixsum=0"), Some(DigestAlgorithm::Sha256));
        assert_eq!(best("sha=10"), None);
    }
}

#[test]
fn more_than_one_digest_is_right_when_all_that_are_known_are() {
    let lines = |value: &str| HeaderMap::from_iter([(REPR_DIGEST, HeaderValue::from_str(value).unwrap())]);
    let both = format!("{OF_WHOLE}, {OF_WHOLE_512}");
    for name in [CONTENT_DIGEST, REPR_DIGEST] {
        assert_eq!(claims(&[(name.clone(), &both)], &name, WHOLE), Ok(()));
        let one_wrong = format!("{OF_NOTHING}, {OF_WHOLE_512}");
        assert_eq!(claims(&[(name.clone(), &one_wrong)], &name, WHOLE), Err(DigestError::Mismatch));
        let broken = "md5=:Sd/dVLAcvNLSq16eXua5uQ==:";
        assert_eq!(claims(&[(name.clone(), broken)], &name, WHOLE), Err(DigestError::NoAlgorithm));
        let beside = format!("{broken}, {OF_WHOLE}");
        assert_eq!(claims(&[(name.clone(), &beside)], &name, WHOLE), Ok(()));
    }
    assert_eq!(claimed_digest(&lines(OF_WHOLE), &CONTENT_DIGEST, DigestAlgorithm::Sha256), Ok(None));
}
