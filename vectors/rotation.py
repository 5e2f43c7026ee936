"""The vectors of rotation in band (specs/rotation.md), for generate.py. Written from that text alone."""

import json
import struct

from cs1 import BASE, b64u, expand, lp, mac, pair_keys, x25519

LAST_RID = 2 ** 53 - 1


def rotation(note, secret, initiator, responder, rid, fixed):
    """One rotation with every value on the way. `fixed(label, count)` gives reproducible bytes."""
    krot = pair_keys(secret, initiator, responder)[2]["rot"]
    ni, nr = fixed("ni", 32), fixed("nr", 32)
    initiator_private, responder_private = fixed("initiator private", 32), fixed("responder private", 32)
    ei, er = x25519(initiator_private, BASE), x25519(responder_private, BASE)
    number = struct.pack(">Q", rid)
    transcript = lp(b"countersign/1 rot", number, initiator.encode(), responder.encode(), ni, ei, nr, er)
    z = x25519(initiator_private, er)
    assert z == x25519(responder_private, ei) and any(z)
    extracted = mac(krot, z)
    next_key = expand(extracted, lp(b"rot") + lp(transcript))
    secret_bytes = expand(next_key, lp(b"secret"))
    initiator_bytes = expand(next_key, lp(b"key") + lp(initiator.encode()), 16)
    responder_bytes = expand(next_key, lp(b"key") + lp(responder.encode()), 16)
    next_secret = "css_" + b64u(secret_bytes)
    next_initiator, next_responder = "csk_" + b64u(initiator_bytes), "csk_" + b64u(responder_bytes)
    next_krot = pair_keys(next_secret, next_initiator, next_responder)[2]["rot"]
    proofs = {
        "answer": mac(next_krot, lp(b"R2") + lp(transcript)),
        "old": mac(krot, lp(b"R3") + lp(number)),
        "new": mac(next_krot, lp(b"R3") + lp(number)),
        "done": mac(next_krot, lp(b"R4") + lp(number)),
        "aborted": mac(krot, lp(b"ABORTED") + lp(number)),
    }
    named = {"apiKey": initiator, "peerKey": responder, "rid": rid}
    values = {
        "krot": krot, "ni": ni, "nr": nr, "initiator_private": initiator_private, "responder_private": responder_private,
        "ei": ei, "er": er, "transcript": transcript, "z": z, "extracted": extracted, "next": next_key,
        "secret_bytes": secret_bytes, "initiator_bytes": initiator_bytes, "responder_bytes": responder_bytes,
        "next_krot": next_krot, **{"proof_" + name: proof for name, proof in proofs.items()},
    }
    return {
        "note": note, "secret": secret, "initiator": initiator, "responder": responder, "rid": rid,
        "nextSecret": next_secret, "nextInitiator": next_initiator, "nextResponder": next_responder,
        **{name + "_hex": value.hex() for name, value in values.items()},
        "r1": json.dumps({"rotation": "propose", **named, "nonce": b64u(ni), "ephemeral": b64u(ei)}),
        "r2": json.dumps({"rotation": "answer", "rid": rid, "nonce": b64u(nr), "ephemeral": b64u(er),
                          "proof": b64u(proofs["answer"])}),
        "r3": json.dumps({"rotation": "confirm", **named, "proofOld": b64u(proofs["old"]),
                          "proofNew": b64u(proofs["new"])}),
        "done": json.dumps({"rotation": "done", "rid": rid, "proof": b64u(proofs["done"])}),
        "aborted": json.dumps({"rotation": "aborted", "rid": rid, "proof": b64u(proofs["aborted"])}),
    }


def requests(initiator, responder):
    """Bodies that a responder is asked with, right and wrong (GP-16)."""
    value = b64u(bytes(range(32)))
    assert value.endswith("8")
    propose = {"rotation": "propose", "apiKey": initiator, "peerKey": responder, "rid": 1, "nonce": value,
               "ephemeral": value}
    confirm = {"rotation": "confirm", "apiKey": initiator, "peerKey": responder, "rid": 1, "proofOld": value,
               "proofNew": value}
    status = {"rotation": "status"}

    def text(body, **changed):
        return json.dumps({name: value for name, value in {**body, **changed}.items() if value is not ...})

    good = [
        (text(propose), "R1"), (text(confirm), "R3"), (text(status), "a status request"),
        (text(dict(reversed(propose.items()))), "in another order"),
        (text(propose, rid=LAST_RID), "the greatest number"),
        (" \t\r\n" + text(confirm) + "\n", "white space around"),
    ]
    bad = [("", "nothing"), ("{}", "no member"), ("[]", "a list"), ('["status"]', "a list that begins with the name"),
           ('"status"', "a text"), ("null", "null"), (text(status) + text(status), "two bodies"),
           ("\ufeff" + text(status), "a byte order mark"), (text(propose)[:-1], "cut off"),
           (text(propose, rotation=0), "a number in the place of the name"),
           (text(propose, rotation="Propose"), "another case"), (text(propose, rotation="answer"), "what a responder says"),
           (text(status, x=1), "a member too much beside status"),
           ('{"rotation": "status", "rotation": "status"}', "the name twice")]
    for body in (propose, confirm):
        kind = body["rotation"]
        bad.append((text(body, more=1), f"{kind}: a member too much"))
        for name, value in body.items():
            bad.append((text(body, **{name: ...}), f"{kind}: no {name}"))
            twice = text(body)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"
            bad.append((twice, f"{kind}: {name} twice"))
            for wrong in (None, True, [value], {}, 7 if isinstance(value, str) else "1"):
                bad.append((text(body, **{name: wrong}), f"{kind}: {name} is {json.dumps(wrong)[:9]}"))
        for rid, why in ((0, "0"), (LAST_RID + 1, "2^53"), (1.5, "1.5"), (-1, "-1"), (2 ** 64, "2^64"), (1.0, "1.0")):
            bad.append((text(body, rid=rid), f"{kind}: rid is {why}"))
        for name in ("apiKey", "peerKey"):
            bad.append((text(body, **{name: "short"}), f"{kind}: {name} is no API key"))
        for name in list(body)[4:]:
            good_value = body[name]
            for wrong, why in ((good_value[:-1] + "9", "not canonical"), (good_value + "=", "padded"), (good_value[:-1], "31 bytes"),
                               (good_value + "AA", "33 bytes"), ("+" + good_value[1:], "the other base64"), ("", "empty"),
                               (good_value + "\n", "a line end")):
                bad.append((text(body, **{name: wrong}), f"{kind}: {name}: {why}"))
    bad.append((text(status) + " " * 5000, "5000 bytes and more"))
    cases = [(body, True, why) for body, why in good] + [(body, False, why) for body, why in bad]
    return [{"value": body, "accept": accept, "why": why} for body, accept, why in cases]


def vectors(fixed_bytes, generated, base64_text):
    """Name of the folder and content, for generate.py."""
    one, other = generated("csk_", "rotation one", 16), generated("csk_", "rotation other", 16)
    secret = generated("css_", "rotation secret", 32)

    def fixed(case):
        return lambda label, count: fixed_bytes(f"rotation/{case}/{label}", count)

    return {
        "rotation/agreed-plain": rotation("a rotation", secret, one, other, 1800000000, fixed("plain")),
        "rotation/agreed-reversed": rotation(
            "the same values with roles exchanged: every key is another one", secret, other, one, 1800000000,
            fixed("plain")),
        "rotation/agreed-next-number": rotation(
            "the same values and the next number: every key is another one", secret, one, other, 1800000001, fixed("plain")),
        "rotation/agreed-last-number": rotation(
            "the greatest number, which needs 53 bits", secret, one, other, LAST_RID, fixed("last")),
        "rotation/agreed-openssl-secret": rotation(
            "a secret from `openssl rand -base64 32`, which is not decoded; keys of the shortest and longest form",
            base64_text("rotation openssl", 32), "A" * 15 + "~", "+/=._~-" * 18 + "ab", 1, fixed("openssl")),
        "rotation/request-form": requests(one, other),
    }
