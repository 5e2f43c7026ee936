"""The vectors of the profile `cs1` (specs/cs1.md), for generate.py. Standard library only; X25519 as RFC 7748 writes it."""

import base64
import hashlib
import hmac
import json
import struct

P = 2 ** 255 - 19


def x25519(scalar, point):
    """RFC 7748, section 5. Not in constant time: these keys are published."""
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = (k[31] & 127) | 64
    k = int.from_bytes(k, "little")
    x1 = int.from_bytes(point, "little") % 2 ** 255 % P
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b = (x2 + z2) % P, (x2 - z2) % P
        aa, bb = a * a % P, b * b % P
        e = (aa - bb) % P
        da, cb = (x3 - z3) * a % P, (x3 + z3) * b % P
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def expand(key, info, length=32):
    """HKDF-Expand (RFC 5869, section 2.3)."""
    out, block = b"", b""
    counter = 1
    while len(out) < length:
        block = mac(key, block + info + bytes([counter]))
        out += block
        counter += 1
    return out[:length]


def lp(*fields):
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def b64u(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def pair_keys(secret, client, server):
    prk = mac(b"countersign/1", secret.encode())
    kd = expand(prk, lp(b"dir", client.encode(), server.encode()))
    keys = {name: expand(kd, lp(name.encode())) for name in ("cp", "sp", "dh", "req", "rsp", "rot")}
    return prk, kd, keys


def handshake(note, secret, client, server, binding, t, seconds, fixed):
    """One handshake with every value on the way. `fixed(label, count)` gives reproducible bytes."""
    exporter = fixed("exporter", 32) if binding == "tls-exporter" else b""
    client_private, server_private = fixed("client private", 32), fixed("server private", 32)
    cn, ns, kchal = fixed("cn", 32), fixed("ns", 32), fixed("kchal", 32)
    ce, se = x25519(client_private, BASE), x25519(server_private, BASE)
    ts = str(t)
    hello = lp(client.encode(), server.encode(), cn, ce, binding.encode())
    challenge_message = lp(b"ch", b"cs1") + hello + lp(ts.encode(), ns)
    challenge = ts + "." + b64u(ns + mac(kchal, challenge_message)[:16])
    prk, kd, keys = pair_keys(secret, client, server)
    transcript = lp(b"countersign/1 cs1") + hello + lp(exporter, challenge.encode())
    cp = mac(keys["cp"], lp(b"CP") + transcript)
    z = x25519(client_private, se)
    assert z == x25519(server_private, ce) and any(z)
    ticket = b64u(fixed("ticket", 250))
    sp_message = lp(b"SP") + transcript + lp(cp, se, ticket.encode()) + struct.pack(">I", seconds)
    sp = mac(keys["sp"], sp_message)
    es = mac(keys["dh"], z)
    th = hashlib.sha256(transcript + lp(cp, se)).digest()
    c2s, s2c = expand(es, lp(b"c2s", th)), expand(es, lp(b"s2c", th))
    m1 = {"protocol": "cs1", "apiKey": client, "peerKey": server, "nonce": b64u(cn), "ephemeral": b64u(ce),
          "binding": binding}
    connection = fixed("exporter of another connection", 32)
    values = {
        "kchal": kchal, "cn": cn, "client_private": client_private, "ce": ce, "ns": ns, "exporter": exporter,
        "challenge_message": challenge_message, "prk": prk, "kd": kd,
        **{"k" + name: key for name, key in keys.items()},
        "transcript": transcript, "cp": cp, "server_private": server_private, "se": se, "z": z,
        "sp_message": sp_message, "sp": sp, "es": es, "th": th, "c2s": c2s, "s2c": s2c,
        "sid": expand(es, lp(b"sid", th), 16),
        "connection": connection,
        "connection_c2s": expand(c2s, lp(b"conn", connection)),
        "connection_s2c": expand(s2c, lp(b"conn", connection)),
    }
    return {
        "note": note, "secret": secret, "client": client, "server": server, "binding": binding, "t": t,
        "challenge": challenge, "ticket": ticket, "expiresIn": seconds,
        **{name + "_hex": value.hex() for name, value in values.items()},
        "m1": json.dumps(m1),
        "m2": json.dumps({"challenge": challenge, "expiresIn": 30}),
        "m3": json.dumps({**m1, "challenge": challenge, "signedChallenge": b64u(cp)}),
        "m4": json.dumps({"authenticated": True, "ephemeral": b64u(se), "ticket": "cst." + ticket,
                          "expiresIn": seconds, "serverProof": b64u(sp)}),
    }


def sha256_digest(content):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(content).digest()).decode() + ":"


LISTS = {"accept", "accept-language", "allow", "cache-control", "content-encoding", "content-language", "if-match",
         "if-none-match", "vary", "www-authenticate"}
OF_HOPS = {"accept-encoding", "age", "connection", "content-length", "date", "expect", "forwarded", "host", "keep-alive",
           "max-forwards", "proxy-authenticate", "proxy-authorization", "proxy-connection", "server", "te", "traceparent",
           "tracestate", "trailer", "transfer-encoding", "upgrade", "via", "x-real-ip", "x-request-id"}


def to_be_signed(fields):
    """All names, sorted, but for those of CS-29."""
    return sorted({name for name, _ in fields if name not in OF_HOPS and not name.startswith("x-forwarded-")})


def field_value(fields, name):
    """RFC 9421, section 2.1; several lines only of a list (CS-48)."""
    lines = [value.strip(" \t") for one, value in fields if one == name]
    assert len(lines) == 1 or name in LISTS, name
    return ", ".join(lines)


def field_bytes(fields, name):
    """RFC 9421, section 2.1.3."""
    lines = [value.strip(" \t").encode() for one, value in fields if one == name]
    return ", ".join(":" + base64.b64encode(line).decode() + ":" for line in lines)


def derived(request):
    return [("@method", request["method"]), ("@authority", request["authority"]),
            ("@path", request["path"] or "/"), ("@query", "?" + (request["query"] or ""))]


def signed(key, lines, parameters):
    """The base, and the values of both fields. `lines` are pairs of an identifier as it is written and its value."""
    params = "(" + " ".join(identifier for identifier, _ in lines) + ")" + parameters
    base = "".join(f"{identifier}: {value}\n" for identifier, value in lines) + '"@signature-params": ' + params
    signature = base64.b64encode(mac(key, base.encode("ascii"))).decode()
    return {"base": base, "signatureInput": "cs=" + params, "signature": f"cs=:{signature}:"}


def request_vector(note, fixed, method, authority, path, query, fields, content, direct=None):
    """`direct` is a pair in the place of a session (section 9)."""
    key, name = fixed("c2s", 32), {"ticket": "cst." + b64u(fixed("ticket", 60))}
    keyid, tag, window = name["ticket"], "countersign", 60
    if direct:
        key, name = direct["req"], {"client": direct["client"], "server": direct["server"]}
        keyid, tag, window = f"{direct['client']}:{direct['server']}", "countersign-direct", 20
    nonce, created = fixed("nonce", 16).hex(), 1800000000
    if content and not is_stream(fields):
        fields = fields + [("content-digest", sha256_digest(content))]
    request = {"method": method, "authority": authority, "path": path, "query": query}
    lines = [(f'"{name}"', value) for name, value in derived(request)]
    lines += [(f'"{name}"', field_value(fields, name)) for name in to_be_signed(fields)]
    parameters = f';created={created};expires={created + window};nonce="{nonce}";keyid="{keyid}";tag="{tag}"'
    return {"note": note, "key_hex": key.hex(), **request, "query": query,
            "fields": [{"name": name, "value": value} for name, value in fields], "content_hex": content.hex(),
            **name, "nonce": nonce, "created": created, "expires": created + window,
            **signed(key, lines, parameters)}


def response_vector(note, fixed, request, status, fields, content, direct=None):
    """`request` is a vector of a request."""
    key, created = direct["rsp"] if direct else fixed("s2c", 32), 1800000001
    named = f';keyid="{direct["client"]}:{direct["server"]}";tag="countersign-direct"' if direct else ';tag="countersign"'
    if content and not is_stream(fields):
        fields = fields + [("content-digest", sha256_digest(content))]
    lines = [('"@status"', f"{status:03}")]
    lines += [(f'"{name}";req', value) for name, value in derived(request)]
    lines += [(f'"{name}";req;key="cs"', request[member][3:])
              for name, member in (("signature-input", "signatureInput"), ("signature", "signature"))]
    for name in to_be_signed(fields):
        lines.append((f'"{name}";bs', field_bytes(fields, name)) if name == "set-cookie"
                     else (f'"{name}"', field_value(fields, name)))
    return {"note": note, "key_hex": key.hex(), "request": request, "status": status,
            "fields": [{"name": name, "value": value} for name, value in fields], "content_hex": content.hex(),
            "created": created, **signed(key, lines, f";created={created}{named}")}


def is_stream(fields):
    return ("countersign-body", "stream") in fields


def streamed(message, trailers):
    """The trailer behind a message's content (CS-38, CS-52), with what goes into it."""
    content = bytes.fromhex(message["content_hex"])
    key = expand(bytes.fromhex(message["key_hex"]), lp(b"body"))
    signature = base64.b64decode(message["signature"][len("cs=:"):-1])
    # Python's sort keeps the order of what is equal.
    lines = "".join(f"{name.lower()}: {value.strip(chr(32) + chr(9))}\n"
                    for name, value in sorted(trailers, key=lambda line: line[0].lower().encode())).encode()
    length = struct.pack(">Q", len(content))
    body_message = lp(signature) + length + lp(hashlib.sha256(content).digest(), lines)
    return {**message, "trailers": [{"name": name, "value": value} for name, value in trailers],
            "body_key_hex": key.hex(), "signature_hex": signature.hex(), "sha256_hex": hashlib.sha256(content).hexdigest(),
            "trailer_lines_hex": lines.hex(), "body_message_hex": body_message.hex(),
            "bodyMac": b64u(mac(key, body_message))}


def streams(fixed, direct, keys):
    announced = ("countersign-body", "stream")
    upload = request_vector("a stream without other trailers", fixed("stream upload"), "PUT", "orders.example", "/files/7", None,
                            [("content-type", "application/octet-stream"), announced], bytes(range(256)) * 9)
    empty = request_vector("a stream of nothing", fixed("stream empty"), "POST", "orders.example", "/x", None, [announced],
                           b"")
    digest = request_vector("a stream with a digest beside it: both have to be right", fixed("stream digest"), "POST",
                            "orders.example", "/x", None, [announced, ("content-digest", sha256_digest(b"both"))], b"both")
    answer = response_vector(
        "trailers: by name in lower case, those of one name in their order, without white space around", fixed("stream answer"),
        upload, 200, [("content-type", "application/grpc"), announced], b"one\ntwo\n")
    of_pair = response_vector("a stream under the keys of a pair", fixed("stream direct"), direct, 200, [announced], b"{}",
                              keys)
    return {
        "cs1/stream-request": streamed(upload, []),
        "cs1/stream-empty": streamed(empty, []),
        "cs1/stream-digest": streamed(digest, []),
        "cs1/stream-response": streamed(answer, [("X-Sum", " 7\t"), ("grpc-status", "0"), ("x-b", "2"), ("X-B", "1"),
                                                 ("x-b", "2"), ("grpc-message", "")]),
        "cs1/stream-direct": streamed(of_pair, [("x-b-", "after x-b")]),
    }


def pair(secret, client, server):
    """What stands in the place of a session's keys and id (section 9)."""
    prk, kd, keys = pair_keys(secret, client, server)
    direct_id = hashlib.sha256(lp(b"direct", client.encode(), server.encode())).digest()[:16]
    return {"client": client, "server": server, **keys,
            "values": {"secret": secret, "prk_hex": prk.hex(), "kd_hex": kd.hex(), "krsp_hex": keys["rsp"].hex(),
                       "id_hex": direct_id.hex()}}


def without_handshake(fixed, keys):
    get = request_vector("without a handshake", fixed("direct get"), "GET", "orders.example", "/invoices", "page=2", [], b"",
                         keys)
    post = request_vector("without a handshake, with content", fixed("direct post"), "POST", "orders.example", "/invoices", None,
                          [("content-type", "application/json")], b'{"item": 1}', keys)
    return {
        "cs1/direct-get": {**get, **keys["values"]},
        "cs1/direct-post": {**post, **keys["values"]},
        "cs1/direct-response": {
            **response_vector("to a request without a handshake", fixed("direct answer"), post, 201,
                              [("content-type", "application/json")], b'{"id": 7}', keys), **keys["values"]},
    }


def messages(fixed):
    get = request_vector("a request without content, query or path", fixed("get"), "GET", "orders.example", "", None, [],
                         b"")
    post = request_vector(
        "content; all fields are covered but those of hops; a list comes twice, with white space around", fixed("post"), "POST",
        "orders.example:8443", "/invoices/%C3%A4", "page=2&q=a%20b",
        [("content-type", "application/json"), ("if-match", '"1"'), ("if-match", '  "2"\t'), ("x-other", "1"),
         ("via", "1.1 proxy"), ("x-forwarded-for", "192.0.2.1"), ("authorization", "Basic YTpi"), ("idempotency-key", "k-1")], b'{"item": 1}')
    cookie = request_vector("a cookie, joined where HTTP/2 has brought it in pieces; an empty query", fixed("crumbs"),
                            "DELETE", "orders.example", "/a/b", "", [("cookie", "a=1; b=2")], b"")
    return {
        "cs1/request-get": get, "cs1/request-post": post, "cs1/request-cookie": cookie,
        "cs1/response-empty": response_vector("a response without content", fixed("empty"), get, 204, [], b""),
        "cs1/response-full": response_vector(
            "content, cookies with commas in them, and fields that are covered and not", fixed("full"), post, 201,
            [("content-type", "application/json"), ("set-cookie", "a=1; Expires=Wed, 9 Nov 2033 07:28:00 GMT"),
             ("set-cookie", " b=2 "), ("location", "/invoices/7"), ("etag", '"3"'), ("x-other", "1"),
             ("server", "x")],
            b'{"id": 7}'),
        "cs1/response-error": response_vector("a problem of the service is signed as well", fixed("error"), post, 429,
                                              [("content-type", "application/problem+json"), ("retry-after", "7")],
                                              b'{"title": "later"}'),
    }


# Points of small order and their non-canonical forms: the result is all zero whatever the private key (RFC 7748,
# section 6.1).
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def small_order(fixed):
    private = fixed("client private", 32)
    cases = []
    for share in SMALL_ORDER:
        assert not any(x25519(private, bytes.fromhex(share))), share
        cases.append({"share_hex": share, "accept": False, "why": "of small order"})
    good = x25519(fixed("server private", 32), BASE)
    cases.append({"share_hex": good.hex(), "accept": True, "why": "an ordinary share"})
    return cases


def challenge_form():
    good = "1800000000." + b64u(bytes(range(48)))
    cases = [
        (good, True, "48 bytes"),
        ("1800000000." + "A" * 16, True, "the shortest"),
        ("1800000000." + "_-" * 64, True, "the longest"),
        ("1800000000." + "A" * 15, False, "too short"),
        ("1800000000." + "A" * 129, False, "too long"),
        ("0800000000." + "A" * 64, False, "a leading zero"),
        ("180000000." + "A" * 64, False, "nine digits"),
        ("18000000000." + "A" * 64, False, "eleven digits"),
        ("1800000000" + "A" * 64, False, "no dot"),
        ("1800000000.." + "A" * 63, False, "two dots"),
        ("1800000000." + "A" * 63 + "=", False, "padding"),
        ("1800000000." + "A" * 63 + "+", False, "the other base64"),
        ("1800000000." + "A" * 63 + "\n", False, "a line end"),
        (" " + good, False, "a space"),
        ("+800000000." + "A" * 64, False, "a sign"),
        ("GET /admin", False, "something else"),
        ("", False, "nothing"),
        ("AAAAAAAAAAAAAAAAAAAAAA==", False, "a challenge of guide 1"),
    ]
    return [{"value": value, "accept": accept, "why": why} for value, accept, why in cases]


def vectors(fixed_bytes, generated, base64_text):
    """Name of the folder and content, for generate.py."""
    client, server = generated("csk_", "cs1 client", 16), generated("csk_", "cs1 server", 16)
    secret = generated("css_", "cs1 secret", 32)

    def fixed(case):
        return lambda label, count: fixed_bytes(f"cs1/{case}/{label}", count)

    keys = pair(secret, client, server)
    direct = without_handshake(fixed, keys)
    return {
        "cs1/handshake-plain": handshake(
            "a handshake that is bound to nothing", secret, client, server, "none", 1800000000, 600, fixed("plain")),
        "cs1/handshake-reversed": handshake(
            "the same two services with roles exchanged: every key is another one", secret, server, client, "none",
            1800000000, 600, fixed("plain")),
        "cs1/handshake-exporter": handshake(
            "bound to its TLS connection", secret, client, server, "tls-exporter", 1800000077, 1, fixed("exporter")),
        "cs1/handshake-openssl-secret": handshake(
            "a secret from `openssl rand -base64 32`, which is not decoded; keys of the shortest and longest form",
            base64_text("cs1 openssl", 32), "A" * 15 + "~", "+/=._~-" * 18 + "ab", "none", 9999999999, 300,
            fixed("openssl")),
        **messages(fixed),
        **direct,
        **streams(fixed, direct["cs1/direct-post"], keys),
        "cs1/challenge-form": challenge_form(),
        "cs1/small-order": small_order(fixed("small order")),
    }
