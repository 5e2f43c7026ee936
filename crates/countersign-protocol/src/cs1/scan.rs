//! The two signature fields as the profile writes them (CS-23): one member, label `cs`, in the one form in which
//! structured fields are serialised (RFC 9651, section 4.1). Other spellings of the same are refused, so that what was
//! received can go into the signature base as it is. Allocates nothing.

use countersign_httpsig::{SIGNATURE, SIGNATURE_INPUT};
use http::{HeaderMap, HeaderValue};

use super::base64_32;
use super::name::{KeyName, TAG};
use crate::mac::Tag;
use crate::refusal::Refusal;

/// No signature of the profile covers more.
pub(super) const MAX_COMPONENTS: usize = 64;

/// What a signature says of itself. Nothing is verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanned<'a> {
    /// The value of `@signature-params`: from the parenthesis on.
    pub(super) params: &'a str,
    pub(super) list: List<'a>,
    pub(super) created: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) nonce: Option<&'a str>,
    pub(super) keyid: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
    pub(super) signature: Tag,
}

/// The covered components, as they stand between the parentheses.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a>(pub(super) &'a str);

/// The lines of the two signature fields. `Err` if there are several of one.
type Both<'a> = [Option<&'a [u8]>; 2];

fn both(fields: &HeaderMap) -> Result<Both<'_>, ()> {
    /// With more, a look-up by name takes less time than to look at each.
    const FEW: usize = 24;
    let mut both = [None; 2];
    if fields.len() > FEW {
        for (slot, name) in both.iter_mut().zip([SIGNATURE_INPUT, SIGNATURE]) {
            let mut lines = fields.get_all(name).into_iter();
            *slot = lines.next().map(HeaderValue::as_bytes);
            if lines.next().is_some() {
                return Err(());
            }
        }
        return Ok(both);
    }
    let [input, signature] = &mut both;
    for (name, value) in fields {
        let slot = match name.as_str() {
            "signature-input" => &mut *input,
            "signature" => &mut *signature,
            _ => continue,
        };
        if slot.replace(value.as_bytes()).is_some() {
            return Err(());
        }
    }
    Ok(both)
}

/// Text in which is only what a value of ours needs: printable ASCII, and no backslash, so that a string is whatever stands
/// between two quotes.
fn plain(line: &[u8]) -> Option<&str> {
    // Of many bytes at a time the compiler finds the least and the greatest.
    let (mut least, mut greatest, mut any_backslash) = (u8::MAX, 0, false);
    for byte in line {
        least = least.min(*byte);
        greatest = greatest.max(*byte);
        any_backslash |= *byte == b'\\';
    }
    let is_plain = least >= b' ' && greatest <= b'~' && !any_backslash;
    std::str::from_utf8(line).ok().filter(|_| is_plain)
}

/// Whether each byte is so. Looks at all of them, which the compiler does many at a time.
pub(super) fn all(bytes: &[u8], is_so: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |so_far, byte| so_far & is_so(*byte))
}

/// Reads both fields. `Ok(None)` if neither is there.
pub(super) fn scan(fields: &HeaderMap) -> Result<Option<Scanned<'_>>, ()> {
    let (input, signature) = match both(fields)? {
        [None, None] => return Ok(None),
        [Some(input), Some(signature)] => (plain(input).ok_or(())?, signature),
        _ => return Err(()),
    };
    let params = input.strip_prefix("cs=").ok_or(())?;
    let rest = params.strip_prefix('(').ok_or(())?;
    // No name and no parameter of the profile has one in it, so that this ends the list.
    let (list, rest) = split(rest, b')').ok_or(())?;
    let (list, signature) = (List(list), mac(signature).ok_or(())?);
    if let Some((times, nonce, keyid)) = in_our_order(rest) {
        let (created, expires) = (Some(times.0), Some(times.1));
        let (nonce, keyid, tag) = (Some(nonce), Some(keyid), Some(TAG));
        return Ok(Some(Scanned { params, list, created, expires, nonce, keyid, tag, signature }));
    }
    let (created, expires, nonce, keyid, tag) = (None, None, None, None, None);
    let mut scanned = Scanned { params, list, created, expires, nonce, keyid, tag, signature };
    in_any_order(rest, &mut scanned).ok_or(())?;
    Ok(Some(scanned))
}

/// `created`, `expires`, `nonce` and `keyid` of a request, if they are there as we write them, with our tag: nothing is looked
/// for. What is written in another way is for [`in_any_order`].
#[inline]
fn in_our_order(rest: &str) -> Option<((u64, u64), &str, &str)> {
    let (created, rest) = integer(rest.strip_prefix(";created=")?)?;
    let (expires, rest) = integer(rest.strip_prefix(";expires=")?)?;
    let (nonce, rest) = string(rest.strip_prefix(";nonce=")?)?;
    let (keyid, rest) = string(rest.strip_prefix(";keyid=")?)?;
    (rest == ";tag=\"countersign\"").then_some(((created, expires), nonce, keyid))
}

/// Each at most once.
#[inline(never)]
fn in_any_order<'a>(mut rest: &'a str, scanned: &mut Scanned<'a>) -> Option<()> {
    let mut alg = None;
    while !rest.is_empty() {
        let (slot, value) = if let Some(value) = rest.strip_prefix(";created=") {
            (Err(&mut scanned.created), value)
        } else if let Some(value) = rest.strip_prefix(";expires=") {
            (Err(&mut scanned.expires), value)
        } else if let Some(value) = rest.strip_prefix(";nonce=") {
            (Ok(&mut scanned.nonce), value)
        } else if let Some(value) = rest.strip_prefix(";keyid=") {
            (Ok(&mut scanned.keyid), value)
        } else if let Some(value) = rest.strip_prefix(";tag=") {
            (Ok(&mut scanned.tag), value)
        } else {
            (Ok(&mut alg), rest.strip_prefix(";alg=")?)
        };
        let (was_there, after) = match slot {
            Ok(text) => string(value).map(|(value, after)| (text.replace(value).is_some(), after)),
            Err(number) => integer(value).map(|(value, after)| (number.replace(value).is_some(), after)),
        }?;
        if was_there {
            return None;
        }
        rest = after;
    }
    alg.is_none_or(|alg| alg == "hmac-sha256").then_some(())
}

impl<'a> Scanned<'a> {
    /// Which key it names; `None` if it does not name one as the profile does.
    pub(super) fn key_name(&self) -> Option<KeyName<'a>> {
        KeyName::read(self.tag?, self.keyid?)
    }
}

impl<'a> List<'a> {
    /// Whether it covers this name with just these parameters.
    pub(super) fn covers(&self, name: &str, parameters: &str) -> bool {
        let (name, parameters) = (name.as_bytes(), parameters.as_bytes());
        let is_it = |component: Component<'_>| component.name == name && component.parameters == parameters;
        self.components().any(|component| component.is_ok_and(is_it))
    }

    /// The covered components.
    #[inline]
    pub(super) const fn components(&self) -> Components<'a> {
        Components { rest: self.0.as_bytes(), is_first: true }
    }
}

/// Reads a list of components. After an error comes nothing.
pub(super) struct Components<'a> {
    rest: &'a [u8],
    is_first: bool,
}

impl Components<'_> {
    /// Goes past these components, as they are written, if the list begins with them.
    #[inline]
    pub(super) fn skip_start(&mut self, start: &str) -> bool {
        let after = self.rest.strip_prefix(start.as_bytes());
        match after {
            Some(after @ ([] | [b' ', ..])) if self.is_first => {
                (self.rest, self.is_first) = (after, false);
                true
            }
            _ => false,
        }
    }
}

impl<'a> Iterator for Components<'a> {
    type Item = Result<Component<'a>, ()>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut list = std::mem::take(&mut self.rest);
        if list.is_empty() {
            return None;
        }
        if !std::mem::take(&mut self.is_first) {
            let [b' ', after @ ..] = list else { return Some(Err(())) };
            list = after;
        }
        let Some((component, after)) = component(list) else { return Some(Err(())) };
        self.rest = after;
        Some(Ok(component))
    }
}

/// One covered component.
#[derive(Clone, Copy)]
pub(super) struct Component<'a> {
    /// With its quotes and its parameters, as it stands in the list and in the signature base.
    pub(super) text: &'a [u8],
    pub(super) name: &'a [u8],
    /// What stands behind the name.
    pub(super) parameters: &'a [u8],
}

/// The first component of a list, and what comes after it.
#[inline]
fn component(list: &[u8]) -> Option<(Component<'_>, &[u8])> {
    let [b'"', quoted @ ..] = list else { return None };
    let length = find(quoted, b'"')?;
    let (name, behind) = (quoted.get(..length)?, quoted.get(length + 1..)?);
    // Up to the space before the next one: no parameter of ours has one in its value.
    let end = if let [] | [b' ', ..] = behind { 0 } else { find(behind, b' ').unwrap_or(behind.len()) };
    let (text, after) = list.split_at_checked(length + 2 + end)?;
    Some((Component { text, name, parameters: behind.get(..end)? }, after))
}

/// Where this byte stands first. Most names are short: eight bytes are looked at as one number; of what is long, thirty-two
/// at a time.
#[inline]
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut skipped = 0;
    for chunk in bytes.as_chunks::<32>().0 {
        if chunk.iter().fold(false, |any, byte| any | (*byte == wanted)) {
            break;
        }
        skipped += 32;
    }
    let bytes = bytes.get(skipped..)?;
    let (words, rest) = bytes.as_chunks::<8>();
    for (count, word) in words.iter().take(4).enumerate() {
        if let Some(at) = find_in_word(u64::from_le_bytes(*word), wanted) {
            return Some(skipped + count * 8 + at);
        }
    }
    let at = rest.iter().position(|byte| *byte == wanted)?;
    Some(skipped + words.len() * 8 + at)
}

/// Which byte of a word is the wanted one, from the lowest on.
#[inline]
const fn find_in_word(word: u64, wanted: u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // A byte that is wanted is 0 here. Below the first such byte no other borrows, so that its upper bit is the lowest.
    let differ = word ^ u64::from_ne_bytes([wanted; 8]);
    let found = differ.wrapping_sub(ONES) & !differ & (ONES << 7);
    if found == 0 { None } else { Some((found.trailing_zeros() / 8) as usize) }
}

/// What stands before the first of this byte, and what after it.
fn split(text: &str, at: u8) -> Option<(&str, &str)> {
    let at = find(text.as_bytes(), at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// `"…"`
fn string(text: &str) -> Option<(&str, &str)> {
    split(text.strip_prefix('"')?, b'"')
}

/// Up to 15 digits, without a leading zero.
fn integer(text: &str) -> Option<(u64, &str)> {
    let bytes = text.as_bytes();
    // A time has ten digits: eight of them are read as one number.
    let first = bytes.first_chunk().and_then(|eight| eight_digits(u64::from_le_bytes(*eight)));
    let (mut number, mut end) = first.map_or((0, 0), |number| (number, 8));
    let digits = bytes.get(end..16.min(bytes.len()))?.iter().map(|byte| byte.wrapping_sub(b'0'));
    for digit in digits.take_while(|digit| *digit <= 9) {
        number = number * 10 + u64::from(digit);
        end += 1;
    }
    let leads_with_zero = end > 1 && text.starts_with('0');
    if end == 0 || end > 15 || leads_with_zero {
        return None;
    }
    Some((number, text.get(end..)?))
}

/// The number that eight digits stand for, the first of them lowest in `word`; `None` if they are not all digits.
#[inline]
const fn eight_digits(word: u64) -> Option<u64> {
    const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);
    let digits = word ^ ZEROS;
    // What is over 9 gets its upper bit, or has one of the upper four already.
    let over = (digits & (ZEROS / 0x30 * 0x0f)) + ZEROS / 0x30 * 6;
    if (digits | over) & (ZEROS / 0x30 * 0xf0) != 0 {
        return None;
    }
    // Neighbours are put together: into numbers of two digits, of four, of eight.
    let two = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let four = two.wrapping_mul(100).wrapping_add(two >> 16) & 0x0000_ffff_0000_ffff;
    Some(four.wrapping_mul(10_000).wrapping_add(four >> 32) & 0xffff_ffff)
}

/// `cs=:base64 of 32 bytes:`
fn mac(text: &[u8]) -> Option<Tag> {
    let encoded = text.strip_prefix(b"cs=:")?.strip_suffix(b":")?;
    base64_32::decode(encoded).map(Tag::from_bytes)
}

/// The value of `Signature`.
pub(super) fn write_mac(tag: &Tag) -> Result<HeaderValue, Refusal> {
    let mut text = *b"cs=:____________________________________________:";
    if let Some((encoded, _)) = text.get_mut(4..).and_then(|text| text.split_first_chunk_mut::<44>()) {
        *encoded = base64_32::encode(tag.as_bytes()).0;
    }
    HeaderValue::from_bytes(&text).map_err(|_| Refusal::SignatureForm)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_byte_is_found_where_it_stands_first(bytes in proptest::collection::vec(b'`'..b'f', 0..80)) {
            for wanted in [b'a', b'b', b'z', 0, 255] {
                let first = bytes.iter().position(|byte| *byte == wanted);
                proptest::prop_assert_eq!(find(&bytes, wanted), first);
            }
        }

        #[test]
        fn any_bytes_can_be_searched(bytes: Vec<u8>, wanted: u8) {
            proptest::prop_assert_eq!(find(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
        }

        #[test]
        fn a_wrong_byte_is_seen_wherever_it_stands(length in 1..70_usize, at: usize, byte: u8) {
            let mut bytes = vec![b'x'; length];
            bytes[at % length] = byte;
            let is_plain = matches!(byte, b' '..=b'~') && byte != b'\\';
            proptest::prop_assert_eq!(plain(&bytes).is_some(), is_plain);
        }

        #[test]
        fn what_is_read_in_our_order_reads_alike_in_any_order(
            created in "[0-9]{0,17}", expires in "[0-9]{1,3}", nonce in "[a-z\"]{0,3}", keyid in "[a-z;=\"]{0,3}",
            behind in "|;alg=\"hmac-sha256\"|;tag=\"countersign\"|[ ;\"a]",
        ) {
            let rest = format!(
                ";created={created};expires={expires};nonce=\"{nonce}\";keyid=\"{keyid}\";tag=\"countersign\"{behind}"
            );
            let mut scanned = Scanned {
                params: "",
                list: List(""),
                created: None,
                expires: None,
                nonce: None,
                keyid: None,
                tag: None,
                signature: Tag::from_bytes([0; 32]),
            };
            let any = in_any_order(&rest, &mut scanned);
            match in_our_order(&rest) {
                Some(((created, expires), nonce, keyid)) => {
                    proptest::prop_assert!(any.is_some());
                    let read = (scanned.created, scanned.expires, scanned.nonce, scanned.keyid, scanned.tag);
                    let expected = (Some(created), Some(expires), Some(nonce), Some(keyid), Some(TAG));
                    proptest::prop_assert_eq!(read, expected);
                }
                // Nothing is left to the slower way but what has another tag, or something behind it.
                None => proptest::prop_assert!(any.is_none() || !behind.is_empty()),
            }
        }

        #[test]
        fn numbers_are_read_as_they_are_written(number in 0..1_000_000_000_000_000_u64) {
            let text = format!("{number};");
            proptest::prop_assert_eq!(integer(&text), Some((number, ";")));
        }
    }

    #[test]
    fn whatever_is_no_digit_ends_a_number() {
        for at in 0..12 {
            for byte in (0..=127_u8).filter(|byte| !byte.is_ascii_digit()) {
                let mut text = *b"123456789012";
                text[at] = byte;
                let text = std::str::from_utf8(&text).unwrap();
                let expected = text[..at].parse().ok().map(|number: u64| (number, &text[at..]));
                assert_eq!(integer(text), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn numbers_have_one_spelling_and_15_digits() {
        assert_eq!(integer("0"), Some((0, "")));
        assert_eq!(integer("999999999999999"), Some((999_999_999_999_999, "")));
        for wrong in ["", ";", "00", "01", "-1", "+1", "1000000000000000", "99999999999999999999999"] {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
    }
}
