//! Ticket keys that outlive a restart: `TicketKeys::export` and `import` (CS-20, CS-42).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::ticket::{Claims, TicketKeys};
use countersign_protocol::cs1::{Binding, SessionKeys};
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::token::{TokenError, TokenKeys};
use proptest::prelude::*;
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

fn random(byte: u8) -> Zeroizing<[u8; 40]> {
    Zeroizing::new([byte; 40])
}

fn claims() -> Claims {
    Claims {
        credential: CredentialId { peer: "billing".parse().unwrap(), number: 7 },
        uid: [1; 16],
        keys: SessionKeys {
            client_to_server: Zeroizing::new([2; 32]),
            server_to_client: Zeroizing::new([3; 32]),
            id: [4; 16],
        },
        issued: NOW,
        expires: NOW.plus(600),
        binding: Binding::TlsExporter,
    }
}

/// The claims of a ticket, all of them.
fn told(claims: &Claims) -> String {
    let (request, response) = (&claims.keys.client_to_server, &claims.keys.server_to_client);
    format!("{claims:?} {:?} {:?}", request.as_slice(), response.as_slice())
}

fn reread(keys: &TicketKeys) -> TicketKeys {
    TicketKeys::import(orders(), &keys.export()).unwrap()
}

#[test]
fn tickets_of_before_open_after_a_restart_as_what_they_were() {
    let mut keys = TicketKeys::new(orders(), &random(1), NOW);
    let old = keys.seal(&claims(), [1; 12]);
    assert_eq!(told(&reread(&keys).open(&old, NOW).unwrap()), told(&claims()));
    keys.rotate(&random(2), NOW.plus(1));
    let new = keys.seal(&claims(), [2; 12]);
    let read = reread(&keys);
    for ticket in [&old, &new] {
        assert_eq!(told(&read.open(ticket, NOW).unwrap()), told(&claims()));
    }
    assert_eq!(read.open(&old, NOW.plus(600)).unwrap_err(), TokenError::Expired);
    assert_eq!(*read.export(), *keys.export(), "nothing is lost by being read");
}

#[test]
fn the_age_of_a_key_outlives_a_restart() {
    let keys = TicketKeys::new(orders(), &random(1), NOW);
    let half_a_day = 12 * 60 * 60;
    let read = reread(&keys);
    assert!(!read.is_due(NOW.plus(half_a_day - 1)) && read.is_due(NOW.plus(half_a_day)));
}

#[test]
fn what_was_erased_before_a_restart_does_not_come_back() {
    let mut keys = TicketKeys::new(orders(), &random(1), NOW);
    let old = keys.seal(&claims(), [1; 12]);
    keys.rotate(&random(2), NOW);
    keys.tidy(NOW.plus(600));
    assert_eq!(reread(&keys).open(&old, NOW).unwrap_err(), TokenError::Key);
}

#[test]
fn another_service_does_not_open_tickets_with_the_same_keys() {
    let keys = TicketKeys::new(orders(), &random(1), NOW);
    let ticket = keys.seal(&claims(), [1; 12]);
    let other = TicketKeys::import("mails".parse().unwrap(), &keys.export()).unwrap();
    assert_eq!(other.open(&ticket, NOW).unwrap_err(), TokenError::Seal);
}

#[test]
fn bytes_that_are_not_an_export_are_refused() {
    let mut keys = TicketKeys::new(orders(), &random(1), NOW);
    let one = keys.export();
    keys.rotate(&random(2), NOW);
    let two = keys.export();
    for good in [&one, &two] {
        for end in 0..good.len() {
            // But for where the second key begins, of which the first one does not know.
            assert_eq!(TicketKeys::import(orders(), &good[..end]).is_some(), good[..end].len() == one.len());
        }
        for more in [&[0][..], &[0; 4], &[0, 0, 0, 1, 9], &[0, 0, 0, 40]] {
            assert!(TicketKeys::import(orders(), &[&good[..], more].concat()).is_none(), "{more:?}");
        }
    }
    let cut = &two[..two.len() - 12];
    assert!(TicketKeys::import(orders(), cut).is_none(), "a key without its time");
    // Of another purpose.
    let bearer = [&[0, 0, 0, 5][..], b"token", &one[10..]].concat();
    assert!(TicketKeys::import(orders(), &bearer).is_none());
}

#[test]
fn neither_a_token_nor_its_keys_pass_for_those_of_tickets() {
    let keys = TicketKeys::new(orders(), &random(1), NOW);
    let tokens = TokenKeys::new(orders(), &random(1), NOW);
    let claims = countersign_protocol::token::Claims {
        credential: claims().credential,
        uid: [1; 16],
        issued: NOW,
        expires: NOW.plus(60),
    };
    let token = tokens.seal(&claims, [1; 12]);
    let dressed = token.replacen("csb.", "cst.", 1);
    assert_eq!(reread(&keys).open(&dressed, NOW).unwrap_err(), TokenError::Seal);
}

proptest! {
    /// However often keys were replaced and read back: what opens before a restart opens after it, and nothing else.
    #[test]
    fn a_restart_changes_nothing(steps in proptest::collection::vec((0..4_u8, 0..50_000_u64), 0..12)) {
        let (mut keys, mut now) = (TicketKeys::new(orders(), &random(1), NOW), NOW);
        let mut tickets = vec![keys.seal(&claims(), [0; 12])];
        for (index, (step, wait)) in steps.into_iter().enumerate() {
            now = now.plus(wait);
            let index = u8::try_from(index).unwrap();
            match step {
                0 => keys.rotate(&random(index + 2), now),
                1 => keys.tidy(now),
                2 => keys = reread(&keys),
                _ => tickets.push(keys.seal(&claims(), [index + 1; 12])),
            }
            let read = reread(&keys);
            prop_assert_eq!(read.is_due(now), keys.is_due(now));
            for ticket in &tickets {
                let opened = |keys: &TicketKeys| keys.open(ticket, NOW).map(|claims| told(&claims));
                prop_assert_eq!(opened(&read), opened(&keys));
            }
        }
    }

    /// Whatever bytes are kept: no panic, and what is taken is written again as it was.
    #[test]
    fn any_bytes_can_be_given(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        change in any::<Option<(u8, u8)>>(),
    ) {
        prop_assert!(TicketKeys::import(orders(), &bytes).is_none());
        let mut good = TicketKeys::new(orders(), &random(1), NOW).export().to_vec();
        good.extend(&bytes);
        if let Some((place, value)) = change {
            let place = usize::from(place) % good.len();
            good[place] = value;
        }
        if let Some(keys) = TicketKeys::import(orders(), &good) {
            let written = keys.export();
            prop_assert_eq!(written.as_slice(), good.as_slice());
        }
    }
}
