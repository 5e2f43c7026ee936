//! The document in which Vault keeps all peers: what comes back over the network, and what somebody may have edited.

use countersign_protocol::identity::ServiceName;
use countersign_store::vault::reread;
use serde_json::{Value, json};

use crate::input;

pub(crate) fn document(input: &[u8]) {
    let service: ServiceName = "orders".parse().unwrap();
    // As Vault hands it out: whatever it is, it is no document unless it is one text in one field.
    if reread(input, &service).is_ok() {
        let outer: Value = serde_json::from_slice(input).unwrap();
        assert!(outer["countersign"].is_string() && outer.as_object().unwrap().len() == 1);
    }
    let text = input::text(input);
    let wrapped = json!({"countersign": text}).to_string();
    let (peers, damaged, written) = match reread(wrapped.as_bytes(), &service) {
        Ok(read) => read,
        Err(fault) => return input::assert_printable(&fault.to_string()),
    };
    // A peer that cannot be read is kept without being understood; it may be nested too deeply for this reader.
    let Ok(inner) = serde_json::from_str::<Value>(&text) else { return };
    assert_eq!(inner["form"], 1);
    assert_eq!(inner["service"], "orders");
    assert_eq!(inner["peers"].as_object().unwrap().len(), peers, "each is read or kept as it is");
    // Written by another node, it is the same: also what could not be read.
    let (again, damaged_again, rewritten) = reread(&written, &service).unwrap();
    assert_eq!((again, damaged_again), (peers, damaged));
    let parts = |json: &[u8]| {
        let outer: Value = serde_json::from_slice(json).unwrap();
        let inner: Value = serde_json::from_str(outer["countersign"].as_str().unwrap()).unwrap();
        (inner["peers"].clone(), inner["lookup"].clone())
    };
    assert_eq!(parts(&written), parts(&rewritten));
}
