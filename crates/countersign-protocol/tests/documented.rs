//! `docs/errors.md` says of each problem and each reason what the code says; tests cite each requirement of `specs/cs1.md`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use countersign_protocol::pairing::PairingRefusal;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::{Malformed, Refusal, Scope};
use countersign_protocol::token::TokenError;

const DOCUMENT: &str = include_str!("../../../docs/errors.md");
const CS1_PROBLEMS: &str = "`cs1`: problem types";
const PAIRING_REASONS: &str = "Pairing: reason codes";
const CS1_REASONS: &str = "`cs1`: reason codes";

/// The rows of the table under a heading, without its head: cells without spaces and backticks around them.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with('|'));
    let cells = |line: &str| {
        let inner = line.trim_matches('|');
        inner.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    table.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

fn problems() -> Vec<Problem> {
    vec![
        Problem::Malformed(Malformed::NoKey),
        Problem::TwoMethods,
        Problem::UnsupportedProtocol,
        Problem::CredentialsRequired,
        Problem::ChallengeRequired,
        Problem::MissingComponent("X-Challenge"),
        Problem::ChallengeExpired,
        Problem::ChallengeInvalid,
        Problem::ChallengeUsed,
        Problem::AuthenticationFailed,
        Problem::SessionInvalid,
        Problem::PairingFailed,
        Problem::PairingRefused("the name is taken"),
        Problem::NotFound,
        Problem::MethodNotAllowed,
        Problem::MethodNotForwarded,
        Problem::RateLimited { retry_after: 3 },
        Problem::Unavailable,
        Problem::UpstreamUnreachable,
        Problem::UpstreamTimeout,
    ]
}

fn cs1_problems() -> Vec<Problem> {
    vec![
        Problem::SignatureMalformed,
        Problem::Uncovered("content-type"),
        Problem::ClockSkew,
        Problem::NonceRequired,
        Problem::RequestReplayed,
        Problem::DigestMismatch,
        Problem::Misdirected,
        Problem::RotationBusy,
        Problem::RotationOver { last: 7 },
        Problem::ContentTooLarge,
        Problem::TrailersRequired,
        Problem::ResponseUnsignable,
    ]
}

#[test]
fn each_problem_type_has_its_documented_status() {
    for (heading, problems) in [("Problem types", problems()), (CS1_PROBLEMS, cs1_problems())] {
        let documented: BTreeMap<String, String> =
            rows(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        let named = |problem: &Problem| (problem.name().to_owned(), problem.status().to_string());
        let ours: BTreeMap<_, _> = problems.iter().map(named).collect();
        assert_eq!(documented, ours);
    }
}

#[test]
fn each_problem_says_something_of_its_own_to_do() {
    let problems = [problems(), cs1_problems()].concat();
    let titles: BTreeSet<&str> = problems.iter().map(Problem::title).collect();
    assert_eq!(titles.len(), problems.len());
    assert!(
        titles
            .iter()
            .all(|title| title.split(' ').count() > 1 && title.chars().next().unwrap().is_uppercase())
    );
    for problem in problems {
        let detail = match problem {
            Problem::Malformed(malformed) => Some(malformed.to_string()),
            Problem::PairingRefused(why) => Some(why.to_owned()),
            Problem::MissingComponent(_) => Some("X-Challenge is missing".to_owned()),
            Problem::Uncovered(_) => {
                Some("content-type is in the request or covered, and not both".to_owned())
            }
            _ => None,
        };
        assert_eq!(problem.detail(), detail);
    }
}

fn refusals() -> Vec<Refusal> {
    let scopes =
        [Scope::Source, Scope::Key, Scope::Refused, Scope::SourceFailures, Scope::KeyFailures, Scope::Nonces];
    let limits = scopes.map(|scope| Refusal::RateLimited { retry_after: 9, scope });
    let tokens =
        [TokenError::Form, TokenError::Key, TokenError::Seal, TokenError::Expired].map(Refusal::Token);
    let others = [
        Refusal::Malformed(Malformed::NoKey),
        Refusal::TwoMethods,
        Refusal::UnsupportedProtocol,
        Refusal::NoCredentials,
        Refusal::MissingKey,
        Refusal::MissingHeader("X-Signature"),
        Refusal::ChallengeSent,
        Refusal::ChallengeExpired,
        Refusal::ChallengeForeign,
        Refusal::ChallengeUsed,
        Refusal::UnknownKey,
        Refusal::CredentialRetired,
        Refusal::CredentialRevoked,
        Refusal::CredentialCompromised,
        Refusal::OwnKey,
        Refusal::WrongProfile,
        Refusal::WrongSignature,
        Refusal::NothingOutstanding,
        Refusal::TokenOrphaned,
        Refusal::TokensOff,
        Refusal::TooManyChallenges { retry_after: 9 },
        Refusal::ReplayLogFull,
        Refusal::AuditUnavailable,
        Refusal::StoreStale,
    ];
    limits.into_iter().chain(tokens).chain(others).collect()
}

fn pairing_refusals() -> Vec<Refusal> {
    [
        PairingRefusal::NoOffer,
        PairingRefusal::WrongWords,
        PairingRefusal::TooLate,
        PairingRefusal::Misbound,
        PairingRefusal::NameTaken,
        PairingRefusal::Unusable,
        PairingRefusal::Store,
        PairingRefusal::TooMany { retry_after: 9 },
    ]
    .map(Refusal::Pairing)
    .to_vec()
}

fn cs1_refusals() -> Vec<Refusal> {
    let tickets =
        [TokenError::Form, TokenError::Key, TokenError::Seal, TokenError::Expired].map(Refusal::Ticket);
    let others = [
        Refusal::WrongBinding,
        Refusal::ZeroShare,
        Refusal::SignatureForm,
        Refusal::Uncovered("content-type"),
        Refusal::ClockSkew,
        Refusal::NonceRequired,
        Refusal::RequestReplayed,
        Refusal::DigestMismatch,
        Refusal::DirectOff,
        Refusal::RotationUnknown,
        Refusal::Misdirected,
        Refusal::ContentTooLarge,
        Refusal::StreamsOff,
        Refusal::ClockUnusable,
    ];
    tickets.into_iter().chain(others).collect()
}

#[test]
fn each_reason_is_documented_with_what_it_counts_as_and_what_the_caller_is_told() {
    let documented: BTreeMap<String, (bool, String)> =
        [rows("Reason codes: inbound"), rows(PAIRING_REASONS), rows(CS1_REASONS)]
            .concat()
            .into_iter()
            .map(|row| (row[0].clone(), (row[1] == "yes", row[3].clone())))
            .collect();
    for refusal in [refusals(), pairing_refusals(), cs1_refusals()].concat() {
        let code = refusal.code();
        let Some((failure, told)) = documented.get(code) else { panic!("{code} is not documented") };
        assert_eq!(*failure, refusal.is_failure(), "{code}");
        let told = told.split(['`', ',', ';', ' ']).next().unwrap();
        assert_eq!(told, refusal.problem().name(), "{code}");
    }
}

const SPECIFICATION: &str = include_str!("../../../specs/cs1.md");

/// The numbers that stand behind `mark` in a text.
fn numbers<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = u32> + 'a {
    text.split(mark).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

fn cited(directory: &Path, found: &mut BTreeSet<u32>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cited(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for mark in ["CS-", "cs_"] {
                found.extend(numbers(&text, mark));
            }
        }
    }
}

#[test]
fn each_requirement_of_cs1_is_cited_by_a_test() {
    let required: BTreeSet<u32> = numbers(SPECIFICATION, "- **CS-").collect();
    assert!(required.len() > 50, "the form of the specification has changed: {required:?}");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
        let tests = entry.unwrap().path().join("tests");
        if tests.is_dir() {
            cited(&tests, &mut found);
        }
    }
    // Tests that every store passes.
    let contract = include_str!("../../countersign-store/src/contract.rs");
    found.extend(numbers(contract, "CS-"));
    let missing: Vec<u32> = required.difference(&found).copied().collect();
    assert_eq!(missing, [0; 0], "cite them in the name or a comment of their test, as `cs_26_` or `CS-26`");
    let unknown: Vec<u32> = found.difference(&required).copied().collect();
    assert_eq!(unknown, [0; 0], "no such requirement");
}
