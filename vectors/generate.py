#!/usr/bin/env python3
"""Write the test vectors of the two guide profiles, of cs1, of pairing and of rotation in band, or check that they are what this program writes.

    python3 vectors/generate.py            write every vector.json below this folder
    python3 vectors/generate.py --check    change nothing; exit 1 if a file differs, is missing or is left over

Python's standard library only, and no line shared with the Rust code: where both agree, both followed the same text.
Nothing here is random: keys are SHA-256 of a label, so every value can be derived again.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
import sys
from pathlib import Path

import cs1
import pairing
import rotation

HERE = Path(__file__).resolve().parent

API_KEY = re.compile(r"[A-Za-z0-9+/=._~-]{16,128}")
SECRET = re.compile(r"[\x21-\x7e]{32,256}")
SERVICE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SIGNATURE = re.compile(r"[0-9A-Fa-f]{64}")
CHALLENGE_GUIDE_1 = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
CHALLENGE_GUIDE_2 = re.compile(r"[0-9]{10}\.[0-9A-Za-z-]{10,64}")

# The keys that the guide of profile `api-key` prints. Published, so never to be configured.
PRINTED_KEYS = ["aBcDeFgHiJkLmNoPqRsTuVwXyZ12345", "zYxWvUtSrQpOnMlKjIhGfEdCbA9876"]
PRINTED_CHALLENGE = "1678886400.12345abcde"


# ---- reproducible inputs -------------------------------------------------------------------------------------------

def fixed_bytes(label, count):
    """`count` bytes that depend on the label alone."""
    out = b""
    block = 0
    while len(out) < count:
        out += hashlib.sha256(f"countersign vectors/{label}/{block}".encode()).digest()
        block += 1
    return out[:count]


def base64_text(label, count):
    """What `openssl rand -base64 COUNT` prints, from fixed bytes."""
    return base64.b64encode(fixed_bytes(label, count)).decode()


def generated(prefix, label, count):
    """What `countersign keygen` prints: a prefix and base64url without padding, from fixed bytes."""
    return prefix + base64.urlsafe_b64encode(fixed_bytes(label, count)).decode().rstrip("=")


def characters(alphabet, label, count):
    """`count` characters of an alphabet, from fixed bytes."""
    return "".join(alphabet[byte % len(alphabet)] for byte in fixed_bytes(label, count))


API_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=._~-"
SECRET_ALPHABET = "".join(map(chr, range(0x21, 0x7F)))


# ---- the two guides ------------------------------------------------------------------------------------------------

def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def lp(value):
    """LP(x): the length as four bytes, big-endian, then x."""
    return struct.pack(">I", len(value)) + value


def shared_secret_proof(note, api_key, secret, challenge, role="caller"):
    assert API_KEY.fullmatch(api_key) and SECRET.fullmatch(secret) and CHALLENGE_GUIDE_1.fullmatch(challenge)
    message = (api_key + challenge).encode("ascii")
    return {
        "note": note,
        "role": role,
        "apiKey": api_key,
        "secret": secret,
        "challenge": challenge,
        "key_hex": secret.encode("ascii").hex(),
        "message_hex": message.hex(),
        "signature": hmac_sha256(secret.encode("ascii"), message).hex(),
    }


def api_key_proof(note, api_key, challenge):
    assert API_KEY.fullmatch(api_key) and len(api_key) >= 22 and CHALLENGE_GUIDE_2.fullmatch(challenge)
    return {
        "note": note,
        "apiKey": api_key,
        "challenge": challenge,
        "key_hex": api_key.encode("ascii").hex(),
        "message_hex": challenge.encode("ascii").hex(),
        "signature": hmac_sha256(api_key.encode("ascii"), challenge.encode("ascii")).hex(),
    }


def challenge_mac(kg1, service, api_key, t, r):
    """The MAC of the stateless challenge, in full, and the message below it."""
    message = lp(b"g1") + lp(service.encode("ascii")) + lp(api_key.encode("ascii")) + struct.pack(">Q", t) + r
    return hmac_sha256(kg1, message), message


def candidate(first_byte, now):
    """The latest t at or before now+5 whose remainder by 256 is the challenge's first byte. It may be negative."""
    latest = now + 5
    return latest - (latest - first_byte) % 256


def check_challenge(kg1, service, api_key, challenge, now, lifetime):
    raw = base64.b64decode(challenge, validate=True)
    t = candidate(raw[0], now)
    if t < 0:
        return "invalid", t
    mac, _ = challenge_mac(kg1, service, api_key, t, raw[1:8])
    if not hmac.compare_digest(mac[:8], raw[8:]):
        return "invalid", t
    return ("expired" if now - t > lifetime else "valid"), t


def stateless_challenge(note, label, service, api_key, t, nows_and_lifetimes):
    assert SERVICE_NAME.fullmatch(service) and API_KEY.fullmatch(api_key)
    kg1 = fixed_bytes(f"{label}/kg1", 32)
    r = fixed_bytes(f"{label}/r", 7)
    mac, message = challenge_mac(kg1, service, api_key, t, r)
    raw = bytes([t % 256]) + r + mac[:8]
    challenge = base64.b64encode(raw).decode()
    assert CHALLENGE_GUIDE_1.fullmatch(challenge)

    checks = []
    for now, lifetime in nows_and_lifetimes:
        outcome, t_tried = check_challenge(kg1, service, api_key, challenge, now, lifetime)
        age = now - t
        assert outcome == ("invalid" if not -5 <= age <= 250 else "expired" if age > lifetime else "valid")
        checks.append({"now": now, "lifetime": lifetime, "candidate_t": t_tried, "outcome": outcome})

    def altered(why, challenge=challenge, service=service, api_key=api_key, kg1=kg1):
        outcome, _ = check_challenge(kg1, service, api_key, challenge, t, 30)
        assert outcome == "invalid", why
        return {"why": why, "kg1_hex": kg1.hex(), "service": service, "apiKey": api_key, "challenge": challenge,
                "now": t, "lifetime": 30, "outcome": outcome}

    def flipped(position):
        changed = bytearray(raw)
        changed[position] ^= 1
        return base64.b64encode(changed).decode()

    other_key = ("B" if api_key[0] == "A" else "A") + api_key[1:]
    other_service = ("b" if service[0] == "a" else "a") + service[1:]
    return {
        "note": note,
        "kg1_hex": kg1.hex(),
        "service": service,
        "apiKey": api_key,
        "t": t,
        "r_hex": r.hex(),
        "lp_message_hex": message.hex(),
        "mac_hex": mac.hex(),
        "tag_hex": mac[:8].hex(),
        "bytes_hex": raw.hex(),
        "challenge": challenge,
        "checks": checks,
        "altered": [
            altered("the first byte, so another time", flipped(0)),
            altered("the first byte of r", flipped(1)),
            altered("the last byte of r", flipped(7)),
            altered("the first byte of the tag", flipped(8)),
            altered("the last byte of the tag", flipped(15)),
            altered("presented under another API key", api_key=other_key),
            altered("presented to another service", service=other_service),
            altered("checked under another key", kg1=fixed_bytes(f"{label}/another kg1", 32)),
        ],
    }


def around(t):
    """The instants at which the outcome changes, and their neighbours, for lifetimes 30, 5 and 120."""
    by_lifetime = {
        30: [-300, -256, -251, -250, -7, -6, -5, -4, -1, 0, 1, 29, 30, 31, 120, 249, 250, 251, 255, 256, 257, 281, 286,
             287, 512, 86400],
        5: [-6, -5, 0, 4, 5, 6, 30, 250, 251, 256],
        120: [-6, -5, 0, 31, 119, 120, 121, 250, 251, 256, 376],
    }
    return [(t + offset, lifetime) for lifetime, offsets in by_lifetime.items() for offset in offsets
            if t + offset >= 0]


# ---- strict JSON ---------------------------------------------------------------------------------------------------

def strict_api_key(body):
    """The API key of a body {"apiKey": string}, or None. Written without looking at any other implementation."""
    def object_without_duplicates(pairs):
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a member twice")
        return members

    def no_constant(name):
        raise ValueError(f"{name} is not JSON")

    if not 0 < len(body) <= 4096:
        return None
    try:
        value = json.loads(body.decode("utf-8", "strict"), object_pairs_hook=object_without_duplicates,
                           parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"apiKey"} or not isinstance(value["apiKey"], str):
        return None
    return value["apiKey"] if API_KEY.fullmatch(value["apiKey"]) else None


def strict_json_cases():
    key = generated("csk_", "strict-json/key", 16)
    slashed = base64_text("strict-json/slashed", 32)
    while "/" not in slashed:
        slashed = base64_text(slashed, 32)
    plain = f'{{"apiKey":"{key}"}}'.encode()
    padding = b" " * (4096 - len(plain))

    cases = []

    def case(accept, why, body):
        body = body.encode("utf-8") if isinstance(body, str) else body
        found = strict_api_key(body)
        assert (found is not None) == accept, why
        entry = {"why": why, "accept": accept, "body_hex": body.hex()}
        if accept:
            entry["apiKey"] = found
        cases.append(entry)

    case(True, "as the guide writes it", f'{{"apiKey": "{key}"}}')
    case(True, "without white space", plain)
    case(True, "white space wherever JSON allows it", f' \t\r\n{{ \t"apiKey"\r\n:\n "{key}" }}\r\n\t ')
    case(True, "one newline at the end", plain + b"\n")
    case(True, "every character escaped", '{"apiKey":"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"}')
    case(True, "escapes with upper-case digits", '{"apiKey":"' + "".join(f"\\u{ord(c):04X}" for c in key) + '"}')
    case(True, "an escaped character in the member name", f'{{"\\u0061piKey":"{key}"}}')
    case(True, "a solidus as it is", f'{{"apiKey":"{slashed}"}}')
    case(True, "a solidus escaped, as PHP writes it", '{"apiKey":"' + slashed.replace("/", "\\/") + '"}')
    case(True, "the shortest API key", '{"apiKey":"' + "k" * 16 + '"}')
    case(True, "the longest API key", '{"apiKey":"' + "k" * 128 + '"}')
    case(True, "exactly 4096 bytes, spaces after", plain + padding)
    case(True, "exactly 4096 bytes, spaces before", padding + plain)

    case(False, "4097 bytes", plain + padding + b" ")
    case(False, "empty", b"")
    case(False, "white space only", b" \n")
    case(False, "an object without members", "{}")
    case(False, "a member twice, the same value", f'{{"apiKey":"{key}","apiKey":"{key}"}}')
    case(False, "a member twice, the second wins elsewhere", f'{{"apiKey":"{"x" * 16}","apiKey":"{key}"}}')
    case(False, "a member twice, once escaped", f'{{"apiKey":"{key}","\\u0061piKey":"{key}"}}')
    case(False, "an unknown member", f'{{"apiKey":"{key}","extra":1}}')
    case(False, "an unknown member before", f'{{"extra":null,"apiKey":"{key}"}}')
    case(False, "an unknown member with an empty name", f'{{"apiKey":"{key}","":""}}')
    case(False, "a member of another message", f'{{"apiKey":"{key}","signedChallenge":"{"0" * 64}"}}')
    case(False, "the member name in other letters", f'{{"APIKEY":"{key}"}}')
    case(False, "the member name in other letters", f'{{"apikey":"{key}"}}')
    case(False, "the member name in another style", f'{{"api_key":"{key}"}}')
    case(False, "the member name with a space", f'{{"apiKey ":"{key}"}}')
    case(False, "the member name with a NUL", f'{{"apiKey\\u0000":"{key}"}}')
    for value in ("null", "true", "12345678901234567890", "1e400", "[]", f'["{key}"]', "{}", f'{{"apiKey":"{key}"}}'):
        case(False, f"apiKey is not a string: {value[:24]}", f'{{"apiKey":{value}}}')
    for value in ("NaN", "Infinity", "-Infinity", "undefined"):
        case(False, f"{value} is not JSON", f'{{"apiKey":{value}}}')
    case(False, "an array around the object", f'[{{"apiKey":"{key}"}}]')
    case(False, "an array in place of the object", f'["{key}"]')
    case(False, "a string in place of the object", f'"{key}"')
    case(False, "null in place of the object", "null")
    case(False, "nesting, 2000 arrays deep", '{"apiKey":' + "[" * 2000 + "]" * 2000 + "}")
    case(False, "nesting, 2000 arrays opened and never closed", '{"apiKey":' + "[" * 2000)
    case(False, "a second object after it", plain + plain)
    case(False, "a letter after it", plain + b"x")
    case(False, "a brace after it", plain + b"}")
    case(False, "a comma after it", plain + b",")
    case(False, "a NUL after it", plain + b"\x00")
    case(False, "cut short", plain[:-1])
    case(False, "the string not closed", plain[:-2])
    case(False, "a comma after the last member", f'{{"apiKey":"{key}",}}')
    case(False, "single quotes", f"{{'apiKey':'{key}'}}")
    case(False, "a name without quotes", f'{{apiKey:"{key}"}}')
    case(False, "a comment", f'{{"apiKey":"{key}"/* */}}')
    case(False, "a comment at the end of the line", plain + b"// ")
    case(False, "a form in place of JSON", f"apiKey={key}")
    case(False, "a byte order mark", b"\xef\xbb\xbf" + plain)
    case(False, "UTF-16, little-endian", plain.decode().encode("utf-16-le"))
    case(False, "UTF-16, big-endian, with its mark", b"\xfe\xff" + plain.decode().encode("utf-16-be"))
    case(False, "a byte that is not UTF-8, in the key", b'{"apiKey":"' + b"k" * 16 + b'\xff"}')
    case(False, "a byte that is not UTF-8, in a name", b'{"apiKey":"' + key.encode() + b'","\xff":1}')
    case(False, "an overlong solidus", b'{"apiKey":"' + b"k" * 16 + b'\xc0\xaf"}')
    case(False, "a surrogate as UTF-8 bytes", b'{"apiKey":"' + b"k" * 16 + b'\xed\xa0\x80"}')
    case(False, "a sequence cut short", b'{"apiKey":"' + b"k" * 16 + b'\xe2\x82"}')
    case(False, "a lone high surrogate, escaped", f'{{"apiKey":"{key}\\ud800"}}')
    case(False, "a lone low surrogate, escaped", f'{{"apiKey":"{key}\\udc00"}}')
    case(False, "surrogates in the wrong order", f'{{"apiKey":"{key}\\udc00\\ud800"}}')
    case(False, "a pair of surrogates: legal JSON, no legal key", f'{{"apiKey":"{key}\\ud83d\\ude00"}}')
    case(False, "a letter outside ASCII: legal JSON, no legal key", f'{{"apiKey":"{key}é"}}')
    case(False, "a full-width letter that folds to ASCII", f'{{"apiKey":"{key}ａ"}}')
    case(False, "a newline as it is inside the string", f'{{"apiKey":"{key}\n"}}')
    case(False, "a tab as it is inside the string", f'{{"apiKey":"{key}\t"}}')
    case(False, "a NUL as it is inside the string", b'{"apiKey":"' + key.encode() + b'\x00"}')
    case(False, "a newline escaped: legal JSON, no legal key", f'{{"apiKey":"{key}\\n"}}')
    case(False, "a NUL escaped: legal JSON, no legal key", f'{{"apiKey":"{key}\\u0000"}}')
    case(False, "a quotation mark escaped: legal JSON, no legal key", f'{{"apiKey":"{key}\\""}}')
    case(False, "an unknown escape", f'{{"apiKey":"{key}\\x41"}}')
    case(False, "an escape cut short", f'{{"apiKey":"{key}\\u00"}}')
    case(False, "an escape with another digit", f'{{"apiKey":"{key}\\u00g1"}}')
    case(False, "a form feed as white space", b"\x0c" + plain)
    case(False, "a vertical tab as white space", plain + b"\x0b")
    case(False, "a no-break space as white space", b"\xc2\xa0" + plain)
    case(False, "an empty key", '{"apiKey":""}')
    case(False, "a key one character too short", '{"apiKey":"' + "k" * 15 + '"}')
    case(False, "a key one character too long", '{"apiKey":"' + "k" * 129 + '"}')
    case(False, "a key with a space", f'{{"apiKey":"{key} {key}"}}')
    return cases


# ---- forms ---------------------------------------------------------------------------------------------------------

def form(pattern, cases):
    """A list of values and whether each has the form. Every expectation is written by hand and checked here."""
    out = []
    for accept, why, value in cases:
        assert (pattern.fullmatch(value) is not None) == accept, (why, value)
        out.append({"value": value, "accept": accept, "why": why})
    values = [case["value"] for case in out]
    assert len(values) == len(set(values)), "a value twice"
    return out


def frame_cases(good):
    """What is refused wherever a value must be matched from its first byte to its last."""
    return [
        (False, "empty", ""),
        (False, "newline at the end", good + "\n"),
        (False, "CR LF at the end", good + "\r\n"),
        (False, "CR at the end", good + "\r"),
        (False, "newline at the start", "\n" + good),
        (False, "space at the start", " " + good),
        (False, "space at the end", good + " "),
        (False, "tab at the end", good + "\t"),
        (False, "space in the middle", good[:8] + " " + good[8:]),
        (False, "CR LF in the middle, to add a header", good[:8] + "\r\nX-Evil: 1\r\n" + good[8:]),
        (False, "a second line", good + "\n" + good),
        (False, "NUL at the end", good + "\0"),
        (False, "NUL in the middle", good[:8] + "\0" + good[8:]),
        (False, "NUL in place of a character", good[:8] + "\0" + good[9:]),
        (False, "DEL in place of a character", good[:8] + "\x7f" + good[9:]),
        (False, "a letter outside ASCII", good[:8] + "é" + good[9:]),
        (False, "a full-width letter", good[:8] + "ａ" + good[9:]),
        (False, "the long s, which some case folding turns into s", good[:8] + "ſ" + good[9:]),
        (False, "a zero-width space", good[:8] + "\u200b" + good[8:]),
        (False, "a byte order mark at the start", "\ufeff" + good),
        (False, "quotation marks around it", f'"{good}"'),
    ]


def challenge_form_guide_1():
    good = base64_text("challenge-form/good", 16)
    zeros = "A" * 22 + "=="
    return form(CHALLENGE_GUIDE_1, [
        (True, "16 bytes in base64", good),
        (True, "16 zero bytes", zeros),
        (True, "16 bytes of ones", "/" * 21 + "w=="),
        (True, "plus and solidus", "+/" * 10 + "+Q=="),
        (True, "last character A", "B" * 21 + "A=="),
        (True, "last character Q", "B" * 21 + "Q=="),
        (True, "last character g", "B" * 21 + "g=="),
        (True, "last character w", "B" * 21 + "w=="),
        (False, "not canonical: bits set below the last byte", "B" * 21 + "B=="),
        (False, "not canonical: bits set below the last byte", "B" * 21 + "x=="),
        (False, "not canonical: bits set below the last byte", "B" * 21 + "/=="),
        (False, "the last character in the other case", "B" * 21 + "a=="),
        (False, "the last character in the other case", "B" * 21 + "G=="),
        (False, "no padding", good[:22]),
        (False, "half the padding", good[:23]),
        (False, "padding three times", good + "="),
        (False, "padding in the middle", good[:10] + "=" + good[11:]),
        (False, "percent-encoded padding", good[:22] + "%3D%3D"),
        (False, "url-safe alphabet, hyphen", "-" + zeros[1:]),
        (False, "url-safe alphabet, underscore", "_" + zeros[1:]),
        (False, "15 bytes", base64_text("challenge-form/15", 15)),
        (False, "17 bytes", base64_text("challenge-form/17", 17)),
        (False, "32 bytes", base64_text("challenge-form/32", 32)),
        (False, "one character too short", good[1:]),
        (False, "one character too long", "A" + good),
        (False, "twice", good + good),
        (False, "hexadecimal", fixed_bytes("challenge-form/hex", 16).hex()),
        (False, "a challenge of the other guide", PRINTED_CHALLENGE),
        (False, "a challenge of the other guide, with a UUID", "1700000000.b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"),
        (False, "text that a request might sign", "POST /transfer?to=me&n=9"),
        (False, "a cs1 challenge", "1700000000." + generated("", "challenge-form/cs1", 48)),
    ] + frame_cases(good))


def cs1_random(with_underscore):
    """The part of a cs1 challenge after the dot: 48 bytes in base64url, 64 characters."""
    attempt = 0
    while ("_" in generated("", f"challenge-form/cs1/{attempt}", 48)) != with_underscore:
        attempt += 1
    return generated("", f"challenge-form/cs1/{attempt}", 48)


def challenge_form_guide_2():
    good = "1700000000.b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"
    digits = "".join(chr(0x0660 + int(d)) for d in "1700000000")
    return form(CHALLENGE_GUIDE_2, [
        (True, "the guide's printed example", PRINTED_CHALLENGE),
        (True, "unix seconds and a UUID", good),
        (True, "str(time.time()) + str(uuid.uuid4()), which is what the guide means",
         "1700000000.1234567b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"),
        (True, "the same where time.time() had one decimal", "1700000000.5b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"),
        (True, "shortest: 10 characters", "1700000000." + "a" * 10),
        (True, "longest: 64 characters", "1700000000." + "a" * 64),
        (True, "upper-case letters", "1700000000.B1A0F2F4-6A5B-4C3D-8E2F-0123456789AB"),
        (True, "only digits", "1700000000.0123456789"),
        (True, "only hyphens: weak, but of the form", "1700000000." + "-" * 10),
        (True, "a leading zero: of the form, and the signer keeps no clock", "0000000000.12345abcde"),
        (True, "the last second of ten digits", "9999999999.12345abcde"),
        (False, "9 characters after the dot", "1700000000." + "a" * 9),
        (False, "65 characters after the dot", "1700000000." + "a" * 65),
        (False, "nothing after the dot", "1700000000."),
        (False, "nine digits", "170000000.12345abcde"),
        (False, "eleven digits, as milliseconds begin", "17000000000.12345abcde"),
        (False, "milliseconds", "1700000000000.12345abcde"),
        (False, "no seconds", ".12345abcde"),
        (False, "a sign", "+170000000.12345abcde"),
        (False, "a negative time", "-170000000.12345abcde"),
        (False, "a letter among the digits", "17000000O0.12345abcde"),
        (False, "Arabic-Indic digits", digits + ".12345abcde"),
        (False, "Arabic-Indic digits after the dot", "1700000000." + digits),
        (False, "one Arabic-Indic digit", digits[0] + "700000000.12345abcde"),
        (False, "full-width digits", "".join(chr(0xFF10 + int(d)) for d in "1700000000") + ".12345abcde"),
        (False, "no dot", "170000000012345abcde"),
        (False, "another sign in place of the dot", "1700000000:12345abcde"),
        (False, "a full-width dot", "1700000000．12345abcde"),
        (False, "a second dot", "1700000000.12345.abcde"),
        (False, "an underscore", "1700000000.12345_abcde"),
        (False, "base64 with padding", "1700000000." + base64_text("challenge-form/guide-2", 16)),
        (False, "a slash", "1700000000.12345/abcde"),
        (False, "a UUID in braces", "1700000000.{b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab}"),
        (False, "a UUID alone", "b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"),
        (False, "a challenge of the other guide", base64_text("challenge-form/good", 16)),
        (False, "a cs1 challenge with an underscore", "1700000000." + cs1_random(with_underscore=True)),
        (True, "a cs1 challenge that happens to have no underscore: of the form, but no key serves both profiles",
         "1700000000." + cs1_random(with_underscore=False)),
        (False, "text that a request might sign", "POST /transfer?to=me&n=9"),
    ] + frame_cases(good))


def api_key_form():
    good = generated("csk_", "api-key-form/good", 16)
    return form(API_KEY, [
        (True, "as countersign keygen makes it", good),
        (True, "openssl rand -base64 32", base64_text("api-key-form/openssl", 32)),
        (True, "openssl rand -hex 16", fixed_bytes("api-key-form/hex", 16).hex()),
        (True, "a UUID", "b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"),
        (True, "16 characters", "abcdefghijklmnop"),
        (True, "128 characters", "k" * 128),
        (True, "every legal character", API_KEY_ALPHABET),
        (True, "nothing but signs", "+/=._~-+/=._~-+/"),
        (True, "a hyphen at the start", "-abcdefghijklmnop"),
        (False, "15 characters", "abcdefghijklmno"),
        (False, "129 characters", "k" * 129),
        *[(False, f"the character U+{ord(c):04X}", "abcdefgh" + c + "ijklmnop") for c in "!\"#$%&'()*,:;<>?@[\\]^`{|}"],
        (False, "two of the letters percent-encoded", "%61%62cdefghijklmnop"),
        (False, "two values in one header", "abcdefghijklmnop, abcdefghijklmnop"),
        (False, "Arabic-Indic digits", "".join(chr(0x0660 + i % 10) for i in range(16))),
    ] + frame_cases(good))


def secret_form():
    good = generated("css_", "secret-form/good", 32)
    return form(SECRET, [
        (True, "as countersign keygen makes it", good),
        (True, "openssl rand -base64 32", base64_text("secret-form/openssl", 32)),
        (True, "openssl rand -hex 32", fixed_bytes("secret-form/hex", 32).hex()),
        (True, "32 characters", characters(SECRET_ALPHABET, "secret-form/32", 32)),
        (True, "256 characters", characters(SECRET_ALPHABET, "secret-form/256", 256)),
        (True, "every legal character", SECRET_ALPHABET),
        (False, "31 characters", characters(SECRET_ALPHABET, "secret-form/31", 31)),
        (False, "257 characters", characters(SECRET_ALPHABET, "secret-form/257", 257)),
        (False, "32 bytes in UTF-8, but not ASCII", "é" * 16),
        (False, "32 letters outside ASCII", "é" * 32),
    ] + [case for case in frame_cases(good) if case[1] != "quotation marks around it"] + [
        (True, "quotation marks around it are part of it", f'"{good}"'),
    ])


def service_name_form():
    good = "payments-eu-1"
    return form(SERVICE_NAME, [
        (True, "a word", "orders"),
        (True, "words, hyphens, a digit", good),
        (True, "one letter", "a"),
        (True, "one digit", "0"),
        (True, "63 characters", "a" * 63),
        (True, "a hyphen at the end", "orders-"),
        (True, "two hyphens", "orders--eu"),
        (True, "nothing but digits", "20240101"),
        (True, "as an internationalised name is written", "xn--bcher-kva"),
        (False, "64 characters", "a" * 64),
        (False, "a hyphen at the start", "-orders"),
        (False, "only a hyphen", "-"),
        (False, "an upper-case letter at the start", "Orders"),
        (False, "an upper-case letter", "ordersEU"),
        (False, "an underscore", "orders_eu"),
        (False, "a dot", "orders.eu"),
        (False, "a slash", "orders/eu"),
        (False, "a way out of a folder", "../orders"),
        (False, "a colon", "orders:1"),
        (False, "a comma", "orders,payments"),
        (False, "percent-encoded", "orders%2d1"),
        (False, "Arabic-Indic digit", "orders-\u0661"),
        (False, "a Cyrillic letter that looks Latin", "\u043erders"),
        (False, "the Kelvin sign, lower-cased to k", "\u212a8s"),
    ] + frame_cases(good))


def signature_form():
    good = fixed_bytes("signature-form/good", 32).hex()
    return form(SIGNATURE, [
        (True, "64 digits, lower case", good),
        (True, "64 digits, upper case", good.upper()),
        (True, "64 digits, both cases", good[:32] + good[32:].upper()),
        (True, "zeros", "0" * 64),
        (False, "63 digits", good[1:]),
        (False, "65 digits", good + "0"),
        (False, "66 digits", good + "00"),
        (False, "half of it", good[:32]),
        (False, "twice", good + good),
        (False, "a letter that is no digit", "g" + good[1:]),
        (False, "0x before it, 64 in all", "0x" + good[2:]),
        (False, "0x before it, 66 in all", "0x" + good),
        (False, "a sign", "+" + good[1:]),
        (False, "an underscore", good[:10] + "_" + good[11:]),
        (False, "pairs with colons", ":".join(good[i:i + 2] for i in range(0, 64, 2))),
        (False, "the prefix that openssl prints", "SHA2-256(stdin)= " + good),
        (False, "in base64", base64_text("signature-form/good", 32)),
        (False, "Arabic-Indic digits", "\u0661" * 64),
    ] + frame_cases(good))


# ---- all of them ---------------------------------------------------------------------------------------------------

def vectors():
    """Path below this folder -> content."""
    out = {}
    generated_key = generated("csk_", "shared-secret/key", 16)
    generated_secret = generated("css_", "shared-secret/secret", 32)
    challenge = base64_text("shared-secret/challenge", 16)

    def proof(name, *arguments, **more):
        out[f"shared-secret/proof-{name}"] = shared_secret_proof(*arguments, **more)

    proof("generated", "an API key and a secret as countersign keygen makes them",
          generated_key, generated_secret, challenge)
    proof("openssl-rand", "an API key and a secret from openssl rand -base64 32, taken as text and never decoded",
          base64_text("shared-secret/openssl-key", 32), base64_text("shared-secret/openssl-secret", 32), challenge)
    proof("shortest", "16 characters of API key, 32 of secret",
          characters(API_KEY_ALPHABET, "shared-secret/16", 16), characters(SECRET_ALPHABET, "shared-secret/32", 32),
          challenge)
    proof("longest", "128 characters of API key, 256 of secret",
          characters(API_KEY_ALPHABET, "shared-secret/128", 128),
          characters(SECRET_ALPHABET, "shared-secret/256", 256), challenge)
    for size, why in ((63, "one byte short of a SHA-256 block"), (64, "exactly a SHA-256 block, used as it is"),
                      (65, "one byte over a SHA-256 block, so HMAC hashes it first")):
        proof(f"secret-{size}-bytes", f"the secret is {why}", generated_key,
              characters(SECRET_ALPHABET, f"shared-secret/{size}", size), challenge)
    proof("hex-secret", "64 hexadecimal digits are text too: their 64 bytes are the key, not the 32 they spell",
          generated_key, fixed_bytes("shared-secret/hex", 32).hex(), challenge)
    proof("every-secret-character", "each of the 94 characters that a secret may have",
          generated_key, SECRET_ALPHABET, challenge)
    proof("challenge-of-zeros", "16 zero bytes", generated_key, generated_secret, "A" * 22 + "==")
    proof("server-role", "the server's answer to X-Client-Challenge: its own API key, its own secret",
          generated("csk_", "shared-secret/server key", 16), generated("css_", "shared-secret/server secret", 32),
          base64_text("shared-secret/client challenge", 16), role="server")
    proof("server-role-one-secret", "the server's answer where the pair shares one secret: only the API key differs",
          generated("csk_", "shared-secret/server key", 16), generated_secret, challenge, role="server")

    def stateless(name, note, service, api_key, t):
        out[f"shared-secret/challenge-{name}"] = stateless_challenge(note, f"challenge-{name}", service, api_key, t,
                                                                     around(t))

    stateless("generated-key", "an ordinary challenge", "orders", generated_key, 1_700_000_000)
    stateless("openssl-key", "an API key of openssl rand -base64 32", "payments-eu-1",
              base64_text("shared-secret/openssl-key", 32), 1_700_000_123)
    stateless("first-byte-0", "t is a multiple of 256", "orders", generated_key, 1_700_000_000 // 256 * 256)
    stateless("first-byte-255", "t is one short of a multiple of 256", "orders", generated_key,
              1_700_000_000 // 256 * 256 + 255)
    stateless("shortest", "the shortest service name and API key", "a",
              characters(API_KEY_ALPHABET, "shared-secret/16", 16), 1_712_345_678)
    stateless("longest", "the longest service name and API key", "s" + "-0" * 31,
              characters(API_KEY_ALPHABET, "shared-secret/128", 128), 1_712_345_678)
    stateless("beyond-32-bits", "t needs more than 32 bits", "orders", generated_key, 4_294_967_296 + 77)
    stateless("near-the-epoch", "the candidate may be negative: invalid, and no arithmetic below zero", "orders",
              generated_key, 6)

    def key_proof(name, *arguments):
        out[f"api-key/proof-{name}"] = api_key_proof(*arguments)

    uuid_challenge = "1700000000.b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"
    key_proof("printed-example",
              "the guide's own inputs; the digest printed there is not what they give. Published, so never configure "
              "this key: test the MAC alone with it", PRINTED_KEYS[0], PRINTED_CHALLENGE)
    key_proof("generated", "a key as countersign keygen makes it", generated("csk_", "api-key/key", 16), uuid_challenge)
    key_proof("openssl-rand", "a key from openssl rand -base64 32, taken as text and never decoded",
              base64_text("api-key/openssl", 32), uuid_challenge)
    key_proof("python-challenge", "str(time.time()) + str(uuid.uuid4()), which is what the guide means",
              generated("csk_", "api-key/key", 16), "1700000000.1234567b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab")
    key_proof("shortest", "22 characters of key, the shortest challenge",
              characters(API_KEY_ALPHABET, "api-key/22", 22), "1700000000." + "a" * 10)
    key_proof("longest", "128 characters of key, the longest challenge",
              characters(API_KEY_ALPHABET, "api-key/128", 128), "1700000000." + "Z" * 64)
    for size in (64, 65):
        key_proof(f"key-{size}-bytes", f"a key of {size} bytes; a SHA-256 block has 64",
                  characters(API_KEY_ALPHABET, f"api-key/{size}", size), uuid_challenge)

    out["shared-secret/challenge-form"] = challenge_form_guide_1()
    out["api-key/challenge-form"] = challenge_form_guide_2()
    out["api-key-form"] = api_key_form()
    out["secret-form"] = secret_form()
    out["service-name-form"] = service_name_form()
    out["signature-form"] = signature_form()
    out["strict-json"] = strict_json_cases()
    out["printed-examples"] = [
        {"value": key, "why": "printed in the guide of profile api-key: refuse it as API key and as secret"}
        for key in PRINTED_KEYS
    ]
    out.update(cs1.vectors(fixed_bytes, generated, base64_text))
    out.update(pairing.vectors(fixed_bytes))
    out.update(rotation.vectors(fixed_bytes, generated, base64_text))
    return {Path(folder) / "vector.json": json.dumps(content, indent=2, ensure_ascii=True) + "\n"
            for folder, content in sorted(out.items())}


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = vectors()
    present = {path.relative_to(HERE) for path in HERE.rglob("vector.json")}
    stale = sorted(path for path, text in wanted.items()
                   if path not in present or (HERE / path).read_bytes() != text.encode("ascii"))
    left_over = sorted(present - set(wanted))
    if arguments == ["--check"]:
        for path in stale:
            print(f"differs or missing: {path}")
        for path in left_over:
            print(f"left over: {path}")
        if not stale and not left_over:
            print(f"{len(wanted)} vectors, all as computed")
        return 1 if stale or left_over else 0
    for path in stale:
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_bytes(wanted[path].encode("ascii"))
        print(f"wrote {path}")
    for path in left_over:
        print(f"left over, remove it by hand: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
