//! What proxies say about whom they speak for: `X-Forwarded-For`, and `Forwarded` (RFC 7239).
//!
//! Both are read **from the right**. Only the right end was written by a proxy that is trusted; what stands before it
//! may be the caller's own invention, an open quote or ten thousand commas, and must not change how the end is read.

use std::net::{IpAddr, Ipv6Addr};

/// The longest element that is looked at, in bytes.
const MAX_ELEMENT: usize = 1024;

/// Why an element names no address. What came is not repeated: strangers may have written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unclear {
    /// `unknown`, or an obfuscated identifier (RFC 7239, sections 6.2 and 6.3).
    #[error("it hides the address of its caller")]
    Hidden,
    /// Not an element of that field.
    #[error("an element is not of the form that the field has")]
    Garbled,
}

/// The addresses in the lines of `X-Forwarded-For`, the last one first.
pub(super) fn x_forwarded_for<'a>(
    lines: impl DoubleEndedIterator<Item = &'a [u8]> + 'a,
) -> impl Iterator<Item = Result<IpAddr, Unclear>> + 'a {
    let elements = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()).map(|element| node(text(element)?))
}

/// The `for` addresses in the lines of `Forwarded`, the last one first.
pub(super) fn forwarded<'a>(
    lines: impl DoubleEndedIterator<Item = &'a [u8]> + 'a,
) -> impl Iterator<Item = Result<IpAddr, Unclear>> + 'a {
    let elements = lines.rev().flat_map(FromTheRight);
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()).map(|element| {
        let caller = parameter_for(text(element)?)?;
        node(&caller.ok_or(Unclear::Hidden)?)
    })
}

/// The parameter `host` of the last element in the lines of `Forwarded`: only the proxy that sent it wrote that.
pub(super) fn last_host<'a>(lines: impl DoubleEndedIterator<Item = &'a [u8]> + 'a) -> Option<String> {
    let mut elements = lines.rev().flat_map(FromTheRight).map(<[u8]>::trim_ascii);
    let last = elements.find(|element| !element.is_empty())?;
    parameter(text(last).ok()?, "host").ok()?
}

fn text(element: &[u8]) -> Result<&str, Unclear> {
    if element.len() > MAX_ELEMENT {
        return Err(Unclear::Garbled);
    }
    std::str::from_utf8(element).map_err(|_| Unclear::Garbled)
}

/// The elements of a line, the last one first. A comma in a quoted string parts nothing (RFC 9110, section 5.6.4).
struct FromTheRight<'a>(&'a [u8]);

impl<'a> Iterator for FromTheRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut rest, mut quoted) = (self.0, false);
        while let Some((last, before)) = rest.split_last() {
            match last {
                b'"' if !is_escaped(before) => quoted = !quoted,
                b',' if !quoted => break,
                _ => {}
            }
            rest = before;
        }
        let element = self.0.get(rest.len()..).unwrap_or_default();
        self.0 = rest.split_last().map_or(&[], |(_comma, before)| before);
        Some(element)
    }
}

/// Whether what follows is escaped: an odd number of backslashes comes before it.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn parameter_for(element: &str) -> Result<Option<String>, Unclear> {
    parameter(element, "for")
}

/// The value of a parameter, if it is there: `for=…;by=…;proto=…` in any order and letter case.
fn parameter(element: &str, wanted: &str) -> Result<Option<String>, Unclear> {
    let mut found = None;
    let mut rest = element;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return Ok(found);
        }
        let (name, after) = rest.split_once('=').ok_or(Unclear::Garbled)?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(Unclear::Garbled);
        }
        let (value, after) = value(after)?;
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(Unclear::Garbled);
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(';') {
            return Err(Unclear::Garbled);
        }
    }
}

/// A value and what follows it. Outside of quotes anything goes up to the next delimiter: many write addresses with
/// a port there that the grammar wants in quotes.
fn value(text: &str) -> Result<(String, &str), Unclear> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t', '"']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).ok_or(Unclear::Garbled)?;
        return Ok((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next() {
            Some('"') => return Ok((value, characters.as_str())),
            Some('\\') => value.extend(characters.next()),
            Some(other) => value.push(other),
            None => return Err(Unclear::Garbled),
        }
    }
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`.
fn node(text: &str) -> Result<IpAddr, Unclear> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical());
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, after) = bracketed.split_once(']').ok_or(Unclear::Garbled)?;
            let address: Ipv6Addr = address.parse().map_err(|_| Unclear::Garbled)?;
            if after.is_empty() {
                return Ok(IpAddr::V6(address).to_canonical());
            }
            (IpAddr::V6(address), after.strip_prefix(':').ok_or(Unclear::Garbled)?)
        }
        None => {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
                return Err(Unclear::Hidden);
            }
            let address = name.parse().map_err(|_| Unclear::Garbled)?;
            (IpAddr::V4(address), port.ok_or(Unclear::Garbled)?)
        }
    };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    if digits || is_obfuscated(port) { Ok(name.to_canonical()) } else { Err(Unclear::Garbled) }
}

/// `_hidden` (RFC 7239, section 6.3).
fn is_obfuscated(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use Unclear::{Garbled, Hidden};

    use super::*;

    fn xff(lines: &[&str]) -> Vec<Result<String, Unclear>> {
        let hops = x_forwarded_for(lines.iter().map(|line| line.as_bytes()));
        hops.map(|hop| hop.map(|address| address.to_string())).collect()
    }

    fn rfc7239(lines: &[&str]) -> Vec<Result<String, Unclear>> {
        let hops = forwarded(lines.iter().map(|line| line.as_bytes()));
        hops.map(|hop| hop.map(|address| address.to_string())).collect()
    }

    fn ok(addresses: &[&str]) -> Vec<Result<String, Unclear>> {
        addresses.iter().map(|address| Ok((*address).to_owned())).collect()
    }

    #[test]
    fn lines_and_elements_are_read_from_the_last_to_the_first() {
        assert_eq!(
            xff(&["192.0.2.1 ,, 192.0.2.2", "", "192.0.2.3,"]),
            ok(&["192.0.2.3", "192.0.2.2", "192.0.2.1"])
        );
        let lines = ["for=192.0.2.1, for=192.0.2.2;by=192.0.2.9", "Proto=https;FOR=192.0.2.3"];
        assert_eq!(rfc7239(&lines), ok(&["192.0.2.3", "192.0.2.2", "192.0.2.1"]));
        assert!(xff(&[]).is_empty() && rfc7239(&[" , "]).is_empty());
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        for (written, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("192.0.2.1:_p", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]:_port", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ] {
            assert_eq!(xff(&[written]), ok(&[address]), "{written}");
            assert_eq!(rfc7239(&[&format!("for=\"{written}\"")]), ok(&[address]), "{written}");
            assert_eq!(rfc7239(&[&format!("for={written}")]), ok(&[address]), "{written} without quotes");
        }
        assert_eq!(rfc7239(&[r#"for="\1\9\2.0.2.1""#]), ok(&["192.0.2.1"]), "a quoted pair");
    }

    #[test]
    fn hidden_and_garbled_elements_name_nobody() {
        for hidden in ["unknown", "Unknown:80", "_hidden", "_a.b-c_d", "_hidden:_port"] {
            assert_eq!(xff(&[hidden]), [Err(Hidden)], "{hidden}");
            assert_eq!(rfc7239(&[&format!("for=\"{hidden}\"")]), [Err(Hidden)], "{hidden}");
        }
        for garbled in [
            "localhost",
            "192.0.2.256",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:123456",
            "192.0.2.1:x",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "[192.0.2.1]",
            "fe80::1%eth0",
            "_",
            "_hid den",
            "192.0.2.1 192.0.2.2",
            "\u{e9}",
        ] {
            assert_eq!(xff(&[garbled]), [Err(Garbled)], "{garbled}");
            assert_eq!(rfc7239(&[&format!("for=\"{garbled}\"")]), [Err(Garbled)], "{garbled}");
        }
        for garbled in ["192.0.2.1", "for", "for=a=b", "=x", "for=\"192.0.2.1", "for=\"192.0.2.1\"x", "f r=x"]
        {
            assert_eq!(rfc7239(&[garbled]), [Err(Garbled)], "{garbled}");
        }
        assert_eq!(rfc7239(&["for=192.0.2.1;for=192.0.2.2"]), [Err(Garbled)], "each parameter once");
        assert_eq!(rfc7239(&["proto=https;host=a"]), [Err(Hidden)], "for whom is not said");
        assert_eq!(xff(&[&"1".repeat(2_000)]), [Err(Garbled)]);
    }

    #[test]
    fn what_a_caller_wrote_before_the_end_does_not_change_how_the_end_is_read() {
        for before in ["", ",", "garbage", "\"", "for=\"", "for=\"\\", "\\\"", "for=6.6.6.6;x=\"a,", "\u{e9}"]
        {
            assert_eq!(xff(&[&format!("{before}, 192.0.2.1")])[0], Ok("192.0.2.1".to_owned()), "{before}");
            for end in
                ["for=192.0.2.1", "for=\"192.0.2.1:80\";host=\"a,b\\\"c\"", "host=\"\\\\\";for=192.0.2.1"]
            {
                let line = format!("{before}, {end}");
                assert_eq!(rfc7239(&[&line])[0], Ok("192.0.2.1".to_owned()), "{line}");
                assert_eq!(rfc7239(&[before, end])[0], Ok("192.0.2.1".to_owned()), "{before} | {end}");
            }
        }
    }
}
