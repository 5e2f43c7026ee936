//! What proxies say of whom they speak for, and which proxies are believed.

use std::net::{IpAddr, SocketAddr};

use countersign::server::{Network, NetworkError, ProxyHeader, TrustedProxies};
use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::input;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The trusted proxy that the requests come from.
const PEER: &str = "127.0.0.2";
const TRUSTED: [&str; 3] = [PEER, "10.0.0.0/8", "2001:db8:1::/48"];
/// What a proxy adds at the end, and whom that names.
const ADDED: [(bool, &str, &str); 4] = [
    (false, "192.0.2.7", "192.0.2.7"),
    (false, "[2001:db8:9::7]:4711", "2001:db8:9::7"),
    (true, "for=192.0.2.7", "192.0.2.7"),
    (true, "proto=https;For=\"[2001:db8:9::7]:4711\";by=\"_a,b\\\"c\"", "2001:db8:9::7"),
];

fn proxies(header: ProxyHeader) -> TrustedProxies {
    TrustedProxies::new(TRUSTED.iter().map(|text| text.parse().unwrap()).collect(), header)
}

fn values(name: &HeaderName, lines: &[Vec<u8>]) -> HeaderMap {
    let values = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

/// Written by a caller, line by line; what a trusted proxy adds decides all the same.
pub(crate) fn forwarded(input: &[u8]) {
    let peer: IpAddr = PEER.parse().unwrap();
    let stranger: IpAddr = "127.0.0.9".parse().unwrap();
    let lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').take(64).map(<[u8]>::to_vec).collect();
    for (header, name, other) in [
        (ProxyHeader::XForwardedFor, X_FORWARDED_FOR, FORWARDED),
        (ProxyHeader::Forwarded, FORWARDED, X_FORWARDED_FOR),
    ] {
        let proxies = proxies(header);
        let mut headers = values(&name, &lines);
        let source = proxies.source(peer, &headers);
        assert_eq!(source, source.to_canonical(), "an address has one form");
        if header == ProxyHeader::XForwardedFor {
            assert_eq!(source, by_another_reader(peer, &headers));
        }
        assert_eq!(proxies.source(stranger, &headers), stranger, "nobody else is believed");
        headers.extend(values(&other, &[b"192.0.2.99, for=192.0.2.99".to_vec()]));
        assert_eq!(proxies.source(peer, &headers), source, "the other field is not read");
        for (is_forwarded, added, named) in ADDED {
            if is_forwarded != (header == ProxyHeader::Forwarded) {
                continue;
            }
            let on_a_line_of_its_own = [&lines[..], &[added.as_bytes().to_vec()]].concat();
            let mut at_the_end = lines.clone();
            at_the_end.last_mut().unwrap().extend_from_slice(format!(", {added}").as_bytes());
            // A line that is no field value never came, and the proxy's own is alone.
            for lines in [on_a_line_of_its_own, at_the_end] {
                let came = HeaderValue::from_bytes(lines.last().unwrap()).is_ok();
                let source = proxies.source(peer, &values(&name, &lines));
                assert!(!came || source == named.parse::<IpAddr>().unwrap(), "{added}: {source}");
            }
        }
    }
}

/// `X-Forwarded-For`, joined to one list and read by the standard library.
fn by_another_reader(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let list: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let list = list.join(&b',');
    let elements: Vec<&[u8]> = list
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .collect();
    let mut source = peer;
    for (number, element) in elements.into_iter().rev().enumerate() {
        let Some(address) = address(element).filter(|_| number < 32) else { return peer };
        source = address;
        if !is_trusted(source) {
            break;
        }
    }
    source
}

fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok().filter(|text| text.len() <= 1024)?;
    let hidden_port = |port: &str| {
        port.len() > 1
            && port.starts_with('_')
            && port.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
    };
    let of_digits =
        |port: &str| port.len() <= 5 && !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    let found = text.parse::<IpAddr>().ok().or_else(|| {
        if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return inner.parse().ok().map(IpAddr::V6);
        }
        let (address, port) = text.rsplit_once(':')?;
        // The standard library wants a number that is a port.
        let number = if hidden_port(port) || of_digits(port) { "1" } else { return None };
        let socket: SocketAddr = format!("{address}:{number}").parse().ok()?;
        Some(socket.ip())
    })?;
    Some(found.to_canonical())
}

fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => address.to_string() == PEER || v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.segments()[..3] == [0x2001, 0xdb8, 1],
    }
}

/// A network, and addresses that are in it or not.
pub(crate) fn network(input: &[u8]) {
    let (network, addresses) = input::two(input);
    let text = input::text(network);
    match text.parse::<Network>() {
        Ok(network) => {
            let shown = network.to_string();
            assert_eq!(shown.parse(), Ok(network));
            let (first, prefix) = shown.split_once('/').unwrap();
            let (first, prefix): (IpAddr, usize) = (first.parse().unwrap(), prefix.parse().unwrap());
            assert!(prefix > 0, "everybody is nobody to trust");
            assert!(network.contains(first));
            for address in addresses.chunks_exact(16) {
                let v6 = IpAddr::from(<[u8; 16]>::try_from(address).unwrap());
                let v4 = IpAddr::from(<[u8; 4]>::try_from(&address[..4]).unwrap());
                for address in [v4, v6.to_canonical()] {
                    let (ours, theirs) = (digits(first), digits(address));
                    let inside = ours.len() == theirs.len() && ours[..prefix] == theirs[..prefix];
                    assert_eq!(network.contains(address), inside, "{address} in {shown}");
                }
            }
        }
        Err(error) => {
            input::assert_printable(&error.to_string());
            if let NetworkError::Beyond(meant) = error {
                let address: IpAddr = text.split('/').next().unwrap().parse().unwrap();
                assert_eq!(meant.to_string().parse(), Ok(meant));
                // An IPv4 address that is written as IPv6 is in no IPv6 network.
                let written_as_v6 = address.is_ipv6() && address.to_canonical().is_ipv4();
                assert_eq!(meant.contains(address), !written_as_v6);
            }
        }
    }
}

/// The bits of an address, a character each.
fn digits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
        IpAddr::V6(v6) => v6.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
    }
}
