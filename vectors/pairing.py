"""The vectors of pairing (specs/pairing.md), for generate.py. Standard library only."""

import hashlib
import json
from pathlib import Path

import gcm_siv
import ristretto
from cs1 import b64u, expand, lp, mac

WORDS = (Path(__file__).resolve().parent.parent / "crates/countersign-protocol/src/pairing/english.txt").read_text().split()


def spelled(number, count):
    return "-".join(WORDS[number >> 11 * at & 2047] for at in reversed(range(count)))


def exchange(note, offer, password, url, service, statement, terms, fixed):
    """One exchange with every value on the way."""
    session = fixed("session", 16)
    ci = lp(b"countersign/1 pairing", spelled(offer, 2).encode(), url.encode())
    ada, adb = lp(b"accepter"), lp(b"offerer", service.encode())
    prs = spelled(password, 4).encode()
    g = ristretto.generator(prs, ci, session)
    of_accepter, of_offerer = fixed("accepter scalar", 64), fixed("offerer scalar", 64)
    ya = ristretto.encode(ristretto.multiply(ristretto.wide(of_accepter), g))
    yb = ristretto.encode(ristretto.multiply(ristretto.wide(of_offerer), g))
    k = ristretto.encode(ristretto.multiply(ristretto.wide(of_accepter), ristretto.decode(yb)))
    assert k == ristretto.encode(ristretto.multiply(ristretto.wide(of_offerer), ristretto.decode(ya)))
    isk = ristretto.isk(session, k, ya, ada, yb, adb)
    h2 = hashlib.sha256(lp(ci, service.encode(), session, ya, yb)).digest()
    root = expand(mac(h2, isk), lp(b"root"))

    def said(role, before, text):
        nonce = fixed(role + " nonce", 12)
        seal, confirm = (expand(root, lp(purpose, role.encode(), before)) for purpose in (b"seal", b"confirm"))
        sealed = nonce + gcm_siv.seal(seal, nonce, lp(role.encode()), text.encode())
        tag = mac(confirm, lp(before, sealed))
        return nonce, seal, sealed, confirm, tag, hashlib.sha256(lp(before, sealed, tag)).digest()

    statement, terms = (json.dumps(one, separators=(",", ":")) for one in (statement, terms))
    nonce3, seal3, sealed3, key3, confirm3, h3 = said("accepter", h2, statement)
    nonce4, seal4, sealed4, key4, confirm4, h4 = said("offerer", h3, terms)
    named = {"offer": spelled(offer, 2), "session": b64u(session)}
    values = {
        "ci": ci, "session": session, "ada": ada, "adb": adb, "prs": prs, "generator": ristretto.encode(g),
        "accepter_scalar": of_accepter, "offerer_scalar": of_offerer, "ya": ya, "yb": yb, "k": k, "isk": isk,
        "h2": h2, "root": root, "nonce3": nonce3, "seal3": seal3, "sealed3": sealed3, "confirm_key3": key3,
        "confirm3": confirm3, "h3": h3, "nonce4": nonce4, "seal4": seal4, "sealed4": sealed4, "confirm_key4": key4,
        "confirm4": confirm4, "h4": h4,
    }
    return {
        "note": note, "words": (spelled(offer, 2) + "-" + spelled(password, 4)).replace("-", " "), "url": url,
        "service": service, "statement": statement, "terms": terms,
        **{name + "_hex": value.hex() for name, value in values.items()},
        "p1": json.dumps({"step": "start", **named, "url": url, "share": b64u(ya)}),
        "p2": json.dumps({"service": service, "share": b64u(yb)}),
        "p3": json.dumps({"step": "confirm", **named, "sealed": b64u(sealed3), "confirm": b64u(confirm3)}),
        "p4": json.dumps({"sealed": b64u(sealed4), "confirm": b64u(confirm4)}),
        "secret": "css_" + b64u(expand(root, lp(b"secret", h4))),
        "accepterKey": "csk_" + b64u(expand(root, lp(b"key", b"accepter", h4), 16)),
        "offererKey": "csk_" + b64u(expand(root, lp(b"key", b"offerer", h4), 16)),
    }


def share_form(fixed):
    good = ristretto.encode(ristretto.derive(fixed("good", 64)))
    cases = [
        (good.hex(), True, "an element"),
        ("00" * 32, False, "the identity"),
        ("2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c", False, "of the draft: no element"),
        ("2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c", True, "of the draft: an element"),
        ("01" + "00" * 31, False, "negative"),
        ("ed" + "ff" * 30 + "7f", False, "not canonical: p"),
        ("ee" + "ff" * 30 + "7f", False, "not canonical: p + 1"),
        ("ff" * 32, False, "not canonical: all bits"),
        (good.hex()[:-2] + format(good[31] | 128, "02x"), False, "the unused bit is set"),
    ]
    for share, accept, _ in cases:
        decoded = ristretto.decode(bytes.fromhex(share))
        assert (decoded is not None and share != "00" * 32) == accept, share
    return [{"share_hex": share, "accept": accept, "why": why} for share, accept, why in cases]


def code_form():
    good = "abandon zoo able zone youth zebra"
    cases = [
        (good, True, "six words"),
        (good.upper().replace(" ", "-"), True, "capitals and hyphens"),
        ("  aban\tzoo able\nzone yout zebr \r\n", True, "four letters are enough, and any white space"),
        ("act actor able zone youth zebra", True, "a word that begins another one"),
        ("aba zoo able zone youth zebra", False, "three letters of a longer word"),
        ("abandons zoo able zone youth zebra", False, "more letters than the word has"),
        (good + " zoo", False, "seven words"),
        ("abandon zoo able zone youth", False, "five words"),
        (good.replace(" ", ","), False, "commas"),
        (good.replace("able", "abl\u00e9"), False, "another letter"),
        ("", False, "nothing"),
    ]
    return [{"value": value, "accept": accept, "why": why} for value, accept, why in cases]


def vectors(fixed_bytes):
    """Name of the folder and content, for generate.py."""

    def fixed(case):
        return lambda label, count: fixed_bytes(f"pairing/{case}/{label}", count)

    pin = b64u(fixed_bytes("pairing/pin", 32))
    return {
        "pairing/exchange-https": exchange(
            "both serve; the offerer names two TLS keys", 0x2aaaaa, 0x123456789ab, "https://orders.example:8443", "orders",
            {"service": "billing", "url": "https://billing.example", "pin": b64u(fixed_bytes("pairing/own", 32)),
             "seen": pin},
            {"profile": "cs1", "binding": "none", "pins": [b64u(fixed_bytes("pairing/other", 32)), pin]},
            fixed("https")),
        "pairing/exchange-loopback": exchange(
            "the accepter only calls, over plain HTTP on loopback; the first and the last words of the list",
            0x7ff, 0xfffff800000, "http://127.0.0.1:8080", "o" + "-1" * 31,
            {"service": "b", "url": None, "pin": None, "seen": None},
            {"profile": "cs1", "binding": "tls-exporter", "pins": []}, fixed("loopback")),
        "pairing/share-form": share_form(fixed("share")),
        "pairing/code-form": code_form(),
    }
