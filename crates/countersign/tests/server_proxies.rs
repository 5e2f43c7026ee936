//! Behind proxies: whose word is taken for where a request came from, and what follows from it for limits and trail.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken helper ends the test")]

mod server_support;

use std::net::IpAddr;

use axum::Router;
use axum::routing::get;
use countersign::ApiKey;
use countersign::server::{AuthLayer, Limits, ProxyHeader, SourceAddr, TrustedProxies};
use countersign::store::Quota;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use server_support::*;

const PROXY: &str = "10.0.0.1";
const XFF: &str = "x-forwarded-for";

fn trusting(header: ProxyHeader) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap());
    TrustedProxies::new(networks.to_vec(), header)
}

fn source(header: ProxyHeader, peer: &str, lines: &[(&str, &str)]) -> String {
    let lines = lines.iter().map(|(name, value)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut headers = HeaderMap::new();
    lines.for_each(|(name, value)| {
        headers.append(name, value);
    });
    trusting(header).source(peer.parse().unwrap(), &headers).to_string()
}

#[test]
fn the_rightmost_address_that_is_no_trusted_proxy_is_the_source() {
    let xff = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| (XFF, *line)).collect();
        source(ProxyHeader::XForwardedFor, PROXY, &lines)
    };
    for (lines, from) in [
        (&["192.0.2.7"][..], "192.0.2.7"),
        (&["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        (&["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
        (&["6.6.6.6, 192.0.2.7, 10.1.1.1", "10.2.2.2 , [2001:db8:ffff::9]:80"], "192.0.2.7"),
        (&["garbage, 192.0.2.7"], "192.0.2.7"),
        (&["unknown, 192.0.2.7:1234"], "192.0.2.7"),
        (&["::ffff:10.0.0.9, ::ffff:192.0.2.7"], "192.0.2.7"),
        (&["192.0.2.7, ::ffff:10.0.0.9"], "192.0.2.7"),
        (&["[2001:db8::7]:443"], "2001:db8::7"),
        // Nobody but trusted proxies: the first of them began it.
        (&["10.9.9.9, 10.8.8.8"], "10.9.9.9"),
    ] {
        assert_eq!(xff(lines), from, "{lines:?}");
    }
    let rfc7239 = |line| source(ProxyHeader::Forwarded, PROXY, &[("forwarded", line)]);
    assert_eq!(rfc7239("for=6.6.6.6, for=192.0.2.7;proto=https, For=\"[2001:db8:ffff::1]:80\""), "192.0.2.7");
}

#[test]
fn a_proxy_that_does_not_say_for_whom_it_speaks_is_the_source_itself() {
    let crowd = ["10.0.0.2"; 40].join(", ");
    let before_a_crowd = format!("192.0.2.7, {crowd}");
    let long = "1".repeat(20_000);
    for value in ["", " , ", "unknown", "_hidden", "192.0.2.7, unknown", "garbage", "192.0.2.7, x", "\u{e9}"]
        .into_iter()
        .chain([before_a_crowd.as_str(), crowd.as_str(), long.as_str()])
    {
        assert_eq!(source(ProxyHeader::XForwardedFor, PROXY, &[(XFF, value)]), PROXY, "{value:.60}");
    }
    assert_eq!(source(ProxyHeader::XForwardedFor, PROXY, &[]), PROXY, "its own request");
    for value in
        ["for=unknown", "by=192.0.2.7", "192.0.2.7", "for=\"192.0.2.7", "for=192.0.2.7;for=192.0.2.8"]
    {
        assert_eq!(source(ProxyHeader::Forwarded, PROXY, &[("forwarded", value)]), PROXY, "{value}");
    }
}

#[test]
fn what_a_stranger_says_and_the_other_field_are_ignored() {
    let both = [(XFF, "192.0.2.7"), ("forwarded", "for=192.0.2.8"), ("x-real-ip", "192.0.2.9")];
    for peer in ["192.0.2.1", "11.0.0.1", "2001:db8::1"] {
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            assert_eq!(source(header, peer, &both), peer);
        }
    }
    assert_eq!(source(ProxyHeader::XForwardedFor, PROXY, &both), "192.0.2.7");
    assert_eq!(source(ProxyHeader::Forwarded, PROXY, &both), "192.0.2.8");
    assert_eq!(source(ProxyHeader::XForwardedFor, "::ffff:10.0.0.1", &both), "192.0.2.7");
    let nobody = TrustedProxies::default();
    let headers =
        [(HeaderName::from_static(XFF), HeaderValue::from_static("192.0.2.7"))].into_iter().collect();
    assert_eq!(
        nobody.source(PROXY.parse().unwrap(), &headers).to_string(),
        PROXY,
        "the default trusts nobody"
    );
}

#[test]
fn networks_are_read_strictly() {
    use countersign::server::{Network, NetworkError};
    let read = |text: &str| text.parse::<Network>();
    for (text, shown, inside, outside) in [
        ("10.0.0.0/8", "10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("192.0.2.4/30", "192.0.2.4/30", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.4", "192.0.2.4/32", "::ffff:192.0.2.4", "192.0.2.5"),
        ("2001:db8::/33", "2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("::1", "::1/128", "::1", "127.0.0.1"),
        ("8000::/1", "8000::/1", "ffff::1", "255.0.0.1"),
    ] {
        let network = read(text).unwrap();
        assert_eq!(network.to_string(), shown);
        assert!(network.contains(inside.parse().unwrap()), "{inside} in {text}");
        assert!(!network.contains(outside.parse().unwrap()), "{outside} not in {text}");
    }
    for text in
        ["", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/ 8", "localhost"]
    {
        assert_eq!(read(text), Err(NetworkError::Form), "{text}");
    }
    for mapped in ["::ffff:10.0.0.0/104", "::ffff:10.1.0.0/104", "::ffff:10.1.0.0"] {
        assert_eq!(read(mapped), Err(NetworkError::Form), "IPv4 is written as IPv4: {mapped}");
    }
    assert_eq!(read("0.0.0.0/0"), Err(NetworkError::Everybody));
    assert_eq!(read("::/0"), Err(NetworkError::Everybody));
    assert!(read("10.1.2.3/8").unwrap_err().to_string().contains("10.0.0.0/8"));
}

#[tokio::test]
async fn behind_a_proxy_limits_and_trail_go_by_the_caller_and_others_are_not_held_up() {
    let world = World::with(|builder| {
        builder
            .trusted_proxies(trusting(ProxyHeader::XForwardedFor))
            .limits(Limits { failures_per_source: Quota::per_minute(1, 3), ..Limits::default() })
    });
    let ask =
        |key: &ApiKey, said: &str| post("/authenticate", &[(XFF, said.to_owned())], asking(key).to_string());
    for _ in 0..3 {
        // The left end is another each time, and is of no account.
        let said = format!("{}, 192.0.2.7", IpAddr::from(rand()));
        let answer = world.send_from(PROXY, ask(&new_key(), &said)).await;
        let record = world.assert_refused(&answer, 401, "authentication-failed", "unknown-key");
        assert_eq!(record.source.unwrap().to_string(), "192.0.2.7");
    }
    let answer = world.send_from(PROXY, ask(&world.billing.key, "192.0.2.7")).await;
    world.assert_refused(&answer, 429, "rate-limited", "rate-limited-source-failures");
    let knock =
        orders(&[("x-api-key", world.billing.key.expose().to_owned()), (XFF, "192.0.2.7".to_owned())]);
    assert_eq!(world.send_from(PROXY, knock).await.status, 429, "on a protected route as well");
    for (peer, said) in
        [(PROXY, "192.0.2.8"), (PROXY, "unknown"), ("10.0.0.2", ""), ("192.0.2.8", "192.0.2.7")]
    {
        let answer = world.send_from(peer, ask(&world.billing.key, said)).await;
        assert_eq!(answer.status, 200, "{peer} {said}");
        let recorded = world.record_of(&answer).source.unwrap().to_string();
        assert_eq!(recorded, if said == "192.0.2.8" { said } else { peer });
    }
}

fn rand() -> [u8; 4] {
    countersign::store::random()
}

#[tokio::test]
async fn a_handler_finds_the_source_that_the_layer_took() {
    let world = World::with(|builder| builder.trusted_proxies(trusting(ProxyHeader::XForwardedFor)));
    let token = world.guide_1_token().await;
    let handler = |extensions: http::Extensions| async move {
        extensions.get::<SourceAddr>().map(|source| source.0.to_string()).unwrap_or_default()
    };
    // Two layers find the same as one.
    let app = Router::new()
        .route(
            "/source",
            get(async move |request: axum::extract::Request| {
                handler(request.into_parts().0.extensions).await
            }),
        )
        .layer(AuthLayer::new(world.authenticator.clone()));
    for (peer, from) in [(PROXY, "192.0.2.7"), ("192.0.2.1", "192.0.2.1")] {
        let mut request = http::Request::get("/source")
            .header("authorization", format!("Bearer {token}"))
            .header(XFF, "6.6.6.6, 192.0.2.7, 10.3.3.3")
            .body(axum::body::Body::empty())
            .unwrap();
        request.extensions_mut().insert(SourceAddr(peer.parse().unwrap()));
        let answer = send_to(&app, request).await;
        assert_eq!((answer.status, answer.body.as_ref()), (200, from.as_bytes()));
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

proptest! {
    /// Whatever a caller writes into the field, and in how many lines, the address that the proxy adds is taken.
    #[test]
    fn nothing_that_a_caller_sends_changes_what_a_proxy_adds(
        lines in proptest::collection::vec("[ -~\\x80-\\xff]{0,60}|[\",;=\\\\ for1.]{0,30}", 0..4),
        same_line in any::<bool>(),
        address in address(),
    ) {
        let caller = address.to_canonical();
        prop_assume!(!trusting(ProxyHeader::Forwarded).contains(caller));
        let quoted = format!("for=\"{}\"", std::net::SocketAddr::new(address, 9));
        for (header, name, added) in [
            (ProxyHeader::XForwardedFor, XFF, address.to_string()),
            (ProxyHeader::Forwarded, "forwarded", format!("for={caller};proto=https")),
            (ProxyHeader::Forwarded, "forwarded", quoted),
        ] {
            let mut lines = lines.clone();
            match lines.last_mut().filter(|_| same_line) {
                Some(last) => *last = format!("{last}, {added}"),
                None => lines.push(added),
            }
            let lines: Vec<_> = lines.iter().map(|line| (name, line.as_str())).collect();
            prop_assert_eq!(source(header, PROXY, &lines), caller.to_string());
        }
    }

    /// Arbitrary bytes: an address that is written there, or the proxy's own; never a panic.
    #[test]
    fn whatever_comes_the_source_is_written_in_it_or_is_the_proxy(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        for (header, name) in [(ProxyHeader::XForwardedFor, XFF), (ProxyHeader::Forwarded, "forwarded")] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append(name.parse::<HeaderName>().unwrap(), value);
                }
            }
            let found = trusting(header).source(PROXY.parse().unwrap(), &headers);
            prop_assert!(found.to_string() == PROXY || !trusting(header).contains(found));
        }
    }
}
