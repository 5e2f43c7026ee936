//! The examples of RFC 9421, sections 4.3 and B.2, with the keys of section B.1; section 5; RFC 9530.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken example ends the test")]

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_httpsig::digest::{self, DigestAlgorithm, Digests, digest_value};
use countersign_httpsig::{
    Claimed, Component, DigestError, FieldTypes, FormError, HmacSha256, Message, Request, Requested,
    Response, SignError, SignatureInput, Target, VerifyError, VerifyingKey, requested, requested_under, sign,
    signatures, verify,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const SHARED_SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
/// `SubjectPublicKeyInfo`; each algorithm takes what it needs of it.
const RSA_PSS: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI2wIDAQAB";
const ECC_P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";
const ED25519: &str = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";

struct PublicKey {
    name: &'static str,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl PublicKey {
    /// The key stands at the end of the `SubjectPublicKeyInfo`, after so many bytes.
    fn of(
        name: &'static str,
        algorithm: &'static dyn VerificationAlgorithm,
        spki: &str,
        header: usize,
    ) -> Self {
        let key = STANDARD.decode(spki).unwrap().split_off(header);
        Self { name, key: UnparsedPublicKey::new(algorithm, key) }
    }

    fn rsa_pss() -> Self {
        Self::of("rsa-pss-sha512", &signature::RSA_PSS_2048_8192_SHA512, RSA_PSS, 24)
    }

    fn ecc_p256() -> Self {
        Self::of("ecdsa-p256-sha256", &signature::ECDSA_P256_SHA256_FIXED, ECC_P256, 26)
    }

    fn ed25519() -> Self {
        Self::of("ed25519", &signature::ED25519, ED25519, 12)
    }
}

impl VerifyingKey for PublicKey {
    fn algorithm(&self) -> &str {
        self.name
    }

    fn verify(&self, base: &[u8], signature: &[u8]) -> bool {
        self.key.verify(base, signature).is_ok()
    }
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    fields
}

/// `test-request`
fn test_request() -> HeaderMap {
    fields(&[
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
    ])
}

/// `test-response`
fn test_response() -> HeaderMap {
    fields(&[
        ("date", "Tue, 20 Apr 2021 02:07:56 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:",
        ),
        ("content-length", "23"),
    ])
}

fn request(fields: &HeaderMap) -> Message<'_> {
    Message::Request(Request {
        method: "POST",
        target: Target::origin("https", "example.com", "/foo", Some("param=Value&Pet=dog")),
        fields,
        trailers: None,
    })
}

fn response(fields: &HeaderMap) -> Message<'_> {
    Message::Response(Response { status: 200, fields, trailers: None, request: None })
}

/// Takes the example, and sees that with one bit changed anywhere it is none.
#[track_caller]
fn example(
    mut fields: HeaderMap,
    input: &str,
    signature: &str,
    key: &impl VerifyingKey,
    kind: fn(&HeaderMap) -> Message<'_>,
) {
    fields.append("signature-input", HeaderValue::try_from(input).unwrap());
    fields.append("signature", HeaderValue::try_from(signature).unwrap());
    let types = FieldTypes::standard();
    let claimed = signatures(&fields).unwrap();
    let [one] = claimed.as_slice() else { panic!("one signature: {claimed:?}") };
    let verified = verify(&kind(&fields), one, key, &types).unwrap();
    assert_eq!(verified.input().get_keyid(), one.input.get_keyid());
    let mut wrong = one.clone();
    if let Some(byte) = wrong.signature.last_mut() {
        *byte ^= 1;
    }
    assert_eq!(verify(&kind(&fields), &wrong, key, &types).unwrap_err(), VerifyError::Mismatch);
    let other = Claimed { input: one.input.clone().created(1).unwrap(), ..one.clone() };
    assert_eq!(verify(&kind(&fields), &other, key, &types).unwrap_err(), VerifyError::Mismatch);
    let alg = Claimed { input: one.input.clone().alg("rsa-v1_5-sha256").unwrap(), ..one.clone() };
    assert_eq!(verify(&kind(&fields), &alg, key, &types).unwrap_err(), VerifyError::Algorithm);
}

#[test]
fn b_2_1_minimal_signature_using_rsa_pss_sha512() {
    example(
        test_request(),
        "sig-b21=();created=1618884473;keyid=\"test-key-rsa-pss\";nonce=\"b3k2pp5k7z-50gnwp.yemd\"",
        "sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:",
        &PublicKey::rsa_pss(),
        request,
    );
}

#[test]
fn b_2_2_selective_covered_components_using_rsa_pss_sha512() {
    // The published text covers `@query-param`; the signature is that of the RFC.
    example(
        test_request(),
        "sig-b22=(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");created=1618884473;keyid=\"test-key-rsa-pss\";tag=\"header-example\"",
        "sig-b22=:LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:",
        &PublicKey::rsa_pss(),
        request,
    );
}

#[test]
fn b_2_3_full_coverage_using_rsa_pss_sha512() {
    example(
        test_request(),
        "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
        "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:",
        &PublicKey::rsa_pss(),
        request,
    );
}

#[test]
fn b_2_4_signing_a_response_using_ecdsa_p256_sha256() {
    example(
        test_response(),
        "sig-b24=(\"@status\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-ecc-p256\"",
        "sig-b24=:wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==:",
        &PublicKey::ecc_p256(),
        response,
    );
}

const B25_INPUT: &str =
    "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"";
const B25_SIGNATURE: &str = "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:";

#[test]
fn b_2_5_signing_a_request_using_hmac_sha256() {
    let key = HmacSha256::new(&STANDARD.decode(SHARED_SECRET).unwrap()).unwrap();
    example(test_request(), B25_INPUT, B25_SIGNATURE, &key, request);

    let components = ["\"date\"", "\"@authority\"", "\"content-type\""];
    let input = SignatureInput::new(components.map(|text| text.parse().unwrap())).unwrap();
    let input = input.created(1_618_884_473).unwrap().keyid("test-shared-secret").unwrap();
    let mut fields = test_request();
    let signed = sign(&request(&fields), "sig-b25", &input, &key, &FieldTypes::standard()).unwrap();
    assert_eq!(
        (&signed.signature_input, &signed.signature),
        (&B25_INPUT.parse().unwrap(), &B25_SIGNATURE.parse().unwrap())
    );
    signed.apply(&mut fields);
    let claimed = signatures(&fields).unwrap();
    verify(&request(&fields), claimed.first().unwrap(), &key, &FieldTypes::standard()).unwrap();
}

#[test]
fn b_2_6_signing_a_request_using_ed25519() {
    example(
        test_request(),
        "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"",
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
        &PublicKey::ed25519(),
        request,
    );
}

#[test]
fn labels_must_stand_in_both_fields_and_signatures_be_bytes() {
    for (input, signature, error) in [
        ("a=(\"date\")", "b=:AA==:", FormError::Labels),
        ("a=(\"date\"), b=(\"date\")", "b=:AA==:", FormError::Labels),
        ("a=(\"date\")", "a=1", FormError::Signature),
        ("a=(\"date\")", "a=(:AA==:)", FormError::Signature),
        ("a=1", "a=:AA==:", FormError::NotStructured),
        ("a=(date)", "a=:AA==:", FormError::NotString),
        ("a=(\"date\" \"date\")", "a=:AA==:", FormError::Twice),
        ("a=(\"date\");created=\"1\"", "a=:AA==:", FormError::SignatureParameter),
        ("a=(\"date\");keyid=1", "a=:AA==:", FormError::SignatureParameter),
        ("a=(\"date\"", "a=:AA==:", FormError::NotStructured),
        ("a=(\"date\")", "a=:A:", FormError::NotStructured),
    ] {
        let fields = fields(&[("signature-input", input), ("signature", signature)]);
        assert_eq!(signatures(&fields), Err(error), "{input} {signature}");
    }
    assert_eq!(signatures(&HeaderMap::new()), Ok(Vec::new()));
}

#[test]
fn several_signatures_are_verified_one_by_one() {
    let (one, two) = (HmacSha256::new(&[1; 32]).unwrap(), HmacSha256::new(&[2; 32]).unwrap());
    let types = FieldTypes::standard();
    let mut fields = test_request();
    let input = SignatureInput::new([Component::method()]).unwrap().keyid("one").unwrap();
    sign(&request(&fields), "sig1", &input, &one, &types).unwrap().apply(&mut fields);
    // The second one covers the first one.
    let first = Component::field(countersign_httpsig::SIGNATURE).member("sig1");
    let input = SignatureInput::new([Component::method(), first]).unwrap().keyid("two").unwrap();
    sign(&request(&fields), "proxy", &input, &two, &types).unwrap().apply(&mut fields);
    let claimed = signatures(&fields).unwrap();
    let [of_one, of_two] = claimed.as_slice() else { panic!("two signatures") };
    verify(&request(&fields), of_one, &one, &types).unwrap();
    let verified = verify(&request(&fields), of_two, &two, &types).unwrap();
    assert!(verified.covers(&Component::method()) && !verified.covers(&Component::path()));
    assert_eq!(verify(&request(&fields), of_one, &two, &types).unwrap_err(), VerifyError::Mismatch);
}

#[test]
fn a_signature_is_not_made_over_less_than_it_says() {
    let key = HmacSha256::new(&[1; 32]).unwrap();
    let fields = test_request();
    let types = FieldTypes::standard();
    let covering = |text: &str| SignatureInput::new([text.parse::<Component>().unwrap()]).unwrap();
    let refused = sign(&request(&fields), "sig", &covering("\"x-missing\""), &key, &types);
    assert!(matches!(refused, Err(SignError::Base(_))));
    let refused = sign(&request(&fields), "Sig", &covering("\"date\""), &key, &types);
    assert_eq!(refused, Err(SignError::Label));
    let other = covering("\"date\"").alg("ed25519").unwrap();
    assert_eq!(sign(&request(&fields), "sig", &other, &key, &types), Err(SignError::Algorithm));
}

#[test]
fn parameters_that_are_not_known_are_part_of_what_is_signed() {
    let key = HmacSha256::new(&[1; 32]).unwrap();
    let types = FieldTypes::standard();
    let mut base = test_request();
    base.insert("signature-input", HeaderValue::from_static("a=(\"date\");x=1;keyid=\"k\";y"));
    base.insert("signature", HeaderValue::from_static("a=:AA==:"));
    let claimed = signatures(&base).unwrap();
    let one = claimed.first().unwrap();
    assert_eq!(one.input.parameter_names().collect::<Vec<_>>(), ["x", "keyid", "y"]);
    let signed = sign(&request(&base), "b", &one.input, &key, &types).unwrap();
    assert_eq!(signed.signature_input, "b=(\"date\");x=1;keyid=\"k\";y");
}

#[test]
fn section_5_1_accept_signature() {
    let asked = fields(&[(
        "accept-signature",
        "sig1=(\"@method\" \"@target-uri\" \"@authority\" \"content-digest\" \"cache-control\");keyid=\"test-key-rsa-pss\";created;tag=\"app-123\"",
    )]);
    let found = requested(&asked).unwrap();
    let [one] = found.as_slice() else { panic!("one is asked for") };
    assert_eq!(
        (one.label.as_str(), one.components.len(), one.created, one.expires),
        ("sig1", 5, true, false)
    );
    assert_eq!((one.keyid.as_deref(), one.tag.as_deref()), (Some("test-key-rsa-pss"), Some("app-123")));
    let nonce = Requested { nonce: Some("1700000000.abc".to_owned()), ..one.clone() };
    let again = fields(&[("accept-signature", nonce.to_value().unwrap().to_str().unwrap())]);
    assert_eq!(requested(&again).unwrap(), [nonce]);
    let wrong = fields(&[("accept-signature", "sig1=(\"@method\");created=1")]);
    assert_eq!(requested(&wrong), Err(FormError::SignatureParameter));
}

#[test]
fn what_is_asked_for_under_one_label_is_found_whatever_the_components_and_the_other_labels() {
    let asked = |value: &'static str| {
        let mut fields = HeaderMap::new();
        fields.insert("accept-signature", HeaderValue::from_static(value));
        requested_under(&fields, "cs")
    };
    let found =
        asked(r#"other=();created=1, cs=("@method" "@new" "x";new);created;nonce="n""#).unwrap().unwrap();
    assert_eq!((found.label.as_str(), found.created, found.nonce.as_deref()), ("cs", true, Some("n")));
    assert_eq!(found.components, [Component::method()]);
    assert_eq!(asked(r#"other=("@method")"#), Ok(None));
    assert_eq!(requested_under(&HeaderMap::new(), "cs"), Ok(None));
    for wrong in ["cs", "cs=1", "cs=();nonce", "cs=();created=1", "cs=(", "cs=(), "] {
        assert!(asked(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn rfc_9530_digests() {
    let body = b"{\"hello\": \"world\"}";
    assert_eq!(
        digest_value(DigestAlgorithm::Sha512, body).unwrap(),
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
    );
    let line_end = digest_value(DigestAlgorithm::Sha256, b"{\"hello\": \"world\"}\n").unwrap();
    assert_eq!(line_end, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    let read = |value: &str| Digests::read(&fields(&[("content-digest", value)]), &digest::CONTENT_DIGEST);
    let both = read("sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:, sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:").unwrap();
    both.verify(body).unwrap();
    assert_eq!(both.verify(b"{\"hello\": \"World\"}"), Err(DigestError::Mismatch));
    let mut hashers = both.hashers();
    for piece in body.chunks(5) {
        hashers.iter_mut().for_each(|hasher| hasher.update(piece));
    }
    both.check(hashers).unwrap();
    let one_wrong = read("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:").unwrap();
    assert_eq!(one_wrong.verify(body), Err(DigestError::Mismatch), "all of them have to agree");
    assert_eq!(read("md5=:AAAA:"), Err(DigestError::NoAlgorithm));
    for wrong in ["sha-256=:AAAA:", "sha-256=abc", "sha-256", "sha-256=(:AAAA:)", "sha-256=:"] {
        assert!(matches!(read(wrong), Err(DigestError::Form(_))), "{wrong}");
    }
    let want = |value: &str| {
        digest::wanted(&fields(&[("want-content-digest", value)]), &digest::WANT_CONTENT_DIGEST)
    };
    assert_eq!(want("sha-256=1"), Ok(Some(DigestAlgorithm::Sha256)));
    assert_eq!(want("sha-512=3, sha-256=10, unixsum=0"), Ok(Some(DigestAlgorithm::Sha256)));
    assert_eq!(want("sha-256=0, md5=9"), Ok(None));
    assert_eq!(want("sha-256=11"), Err(FormError::Digest));
}
