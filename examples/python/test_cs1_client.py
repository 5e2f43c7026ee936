#!/usr/bin/env python3
"""Checks cs1_client.py against vectors/cs1, against signatures made by hand, and against a server written here.

    python3 examples/python/test_cs1_client.py

The server is written from specs/cs1.md too, and shares no line with the client: another X25519, another HKDF, another
reader of signatures. Its clock stands at 1800000000, so a client that asks its own is found out.
"""

import base64
import contextlib
import hashlib
import hmac
import importlib.util
import json
import secrets
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "vectors" / "cs1"
SPEC = importlib.util.spec_from_file_location("cs1_client", HERE / "cs1_client.py")
cs1 = sys.modules["cs1_client"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cs1)

OURS, THEIRS, SECRET = "csk_caller-0123456789ab", "csk_server-0123456789ab", "css_" + "s3cret/+" * 5
NOW = 1800000000


def load(name):
    return json.loads((VECTORS / name / "vector.json").read_text())


def handshake_vectors():
    return [load(path.name) for path in sorted(VECTORS.glob("handshake-*"))]


def from_vector(v):
    keys = cs1.direction_keys(v["secret"].encode(), v["client"], v["server"])
    private, exporter = bytes.fromhex(v["client_private_hex"]), bytes.fromhex(v["exporter_hex"])
    return cs1.Handshake(keys, v["client"], v["server"], bytes.fromhex(v["cn_hex"]), private, v["binding"], exporter)


def finish(v, m4, proved=False):
    """The client's session for M4; if `proved`, with the proof that the server would make for it."""
    h = from_vector(v)
    h.m3(v["challenge"])
    if proved:
        sealed = framed(h.proof, unb64u(m4["ephemeral"]), m4["ticket"][4:]) + u32(m4["expiresIn"])
        m4 |= {"serverProof": b64u(mac(bytes.fromhex(v["ksp_hex"]), framed("SP"), h.transcript, sealed))}
    return h.finish(m4)


# -- the server's own arithmetic --


def u32(number):
    return struct.pack(">I", number)


def framed(*parts):
    return b"".join(u32(len(part)) + part for part in (p.encode() if isinstance(p, str) else p for p in parts))


def mac(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha256")


def hkdf_expand(key, info, length=32):
    """RFC 5869, section 2.3, with its loop."""
    out, block, count = b"", b"", 0
    while len(out) < length:
        count += 1
        block = mac(key, block, info, bytes([count]))
        out += block
    return out[:length]


def b64u(data):
    return base64.b64encode(data, b"-_").decode().replace("=", "")


def unb64u(text):
    return base64.b64decode(text + "==", b"-_")


def affine_x25519(scalar, point):
    """Multiplication on the affine curve by x alone (Montgomery 1987), for points of large order."""
    p, a = 2**255 - 19, 486662
    bits = bytearray(scalar)
    bits[0], bits[31] = bits[0] & 248, bits[31] & 127 | 64
    k, x = int.from_bytes(bits, "little"), int.from_bytes(point, "little") % 2**255 % p

    def twice(q):
        return (q * q - 1) ** 2 * pow(4 * q * (q * q + a * q + 1), -1, p) % p

    low, high = x, twice(x)
    for bit in bin(k)[3:]:
        both = (low * high - 1) ** 2 * pow(x * (low - high) ** 2, -1, p) % p
        low, high = (both, twice(high)) if bit == "1" else (twice(low), both)
    return low.to_bytes(32, "little")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        s = self.server
        s.seen.append(f"{self.command} {self.path}")
        if self.path == "/authenticate":
            status, fields, answer = self.m2(json.loads(body))
        elif self.path == "/verify_challenge":
            status, fields, answer = self.m4(json.loads(body))
        else:
            status, fields, answer = self.signed(body)
        self.send_response_only(status)
        for name, value in [*fields, ("Content-Length", str(len(answer))), ("Date", "Mon, 01 Jan 2001 00:00:00 GMT")]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else answer)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

    def m2(self, m1):
        s = self.server
        assert list(m1) == ["protocol", "apiKey", "peerKey", "nonce", "ephemeral", "binding"]
        assert (m1["protocol"], m1["binding"]) == ("cs1", "none")
        s.m1, s.challenge = m1, f"{NOW}.{secrets.token_urlsafe(48)}"
        return 200, [], json.dumps(s.change_m2({"challenge": s.challenge, "expiresIn": 30})).encode()

    def m4(self, m3):
        s = self.server
        proof = unb64u(m3.pop("signedChallenge"))
        assert m3 == s.m1 | {"challenge": s.challenge}
        cn, ce = unb64u(m3["nonce"]), unb64u(m3["ephemeral"])
        t = framed("countersign/1 cs1", OURS, THEIRS, cn, ce, "none", b"", s.challenge)
        kd = hkdf_expand(mac(b"countersign/1", SECRET.encode()), framed("dir", OURS, THEIRS))
        kcp, ksp, kdh = (hkdf_expand(kd, framed(label)) for label in ("cp", "sp", "dh"))
        if proof != mac(kcp, framed("CP"), t):
            return 401, [], b'{"title": "no\x1b[31m", "type": "urn:countersign:problem:authentication-failed"}'
        private, s.ticket = secrets.token_bytes(32), secrets.token_urlsafe(200)
        share = affine_x25519(private, (9).to_bytes(32, "little"))
        es = mac(kdh, affine_x25519(private, ce))
        th = hashlib.sha256(t + framed(proof, share)).digest()
        s.c2s, s.s2c = hkdf_expand(es, framed("c2s", th)), hkdf_expand(es, framed("s2c", th))
        sp = mac(ksp, framed("SP"), t, framed(proof, share, s.ticket), u32(600))
        m4 = {"authenticated": True, "ephemeral": b64u(share), "ticket": "cst." + s.ticket, "expiresIn": 600,
              "serverProof": b64u(sp)}
        return 200, [], json.dumps(s.change_m4(m4)).encode()

    def signed(self, body):
        s = self.server
        if s.invalid_sessions > 0:
            s.invalid_sessions -= 1
            return 401, [], json.dumps({"type": f"urn:countersign:problem:{s.problem}"}).encode()
        if s.ask > 0:
            s.ask -= 1
            s.given = "csn." + secrets.token_urlsafe(24)
            asked = (f'cs=("@method" "@authority" "@path" "@query");created;expires;nonce="{s.given}"'
                     f';keyid="cst.{s.ticket}";tag="countersign"')
            return 401, [("Accept-Signature", s.change_asked(asked))], b'{"type": "urn:countersign:problem:nonce-required"}'
        if s.given and f';nonce="{s.given}";' not in self.headers["Signature-Input"]:
            s.errors.append("the nonce that was given")
        s.errors += self.errors(body)
        status, fields, answer = s.page
        answer = answer or json.dumps({"method": self.command, "got": body.decode()}).encode()
        sent = b"" if self.command == "HEAD" else answer
        own = [(n.lower(), v) for n, v in fields]
        own += [("content-digest", "sha-256=:" + base64.b64encode(hashlib.sha256(sent).digest()).decode() + ":")]
        path, _, query = self.path.partition("?")
        lines = {'"@status"': str(status), '"@method";req': self.command, '"@authority";req': self.headers["Host"],
                 '"@path";req': path, '"@query";req': "?" + query,
                 '"signature-input";req;key="cs"': self.headers["Signature-Input"].removeprefix("cs="),
                 '"signature";req;key="cs"': self.headers["Signature"].removeprefix("cs=")}
        for name, value in own:
            lines[f'"{name}"'] = value
        lines = s.change_coverage(lines)
        parameters = f'({" ".join(lines)});created={NOW};tag="countersign"'
        text = "".join(f"{name}: {value}\n" for name, value in lines.items()) + f'"@signature-params": {parameters}'
        mark = base64.b64encode(mac(s.s2c, text.encode())).decode()
        own += [("Signature-Input", f"cs={parameters}"), ("Signature", f"cs=:{mark}:")]
        return s.change_answer(status, own, answer)

    def errors(self, body):
        """What is wrong with the request by sections 5 and 8."""
        h, found = self.headers, []
        label, text = h["Signature-Input"].split("=", 1)
        inner, *parameters = text[1:].replace(")", "", 1).split(";")
        parameters = dict(p.split("=", 1) for p in parameters)
        path, _, query = self.path.partition("?")
        derived = {"@method": self.command, "@authority": h["Host"], "@path": path, "@query": "?" + query}
        names = [name.strip('"') for name in inner.split(" ")]
        base = [f'"{name}": {derived.get(name) or h[name]}' for name in names] + [f'"@signature-params": {text}']
        if h["Signature"] != f"cs=:{base64.b64encode(mac(self.server.c2s, chr(10).join(base).encode())).decode()}:":
            found.append("mac")
        created, expires = int(parameters["created"]), int(parameters["expires"])
        if not created - 5 <= NOW < expires <= created + 60:
            found.append("clock")
        keyid, tag, nonce = (parameters[name] for name in ("keyid", "tag", "nonce"))
        if (keyid, tag, label, len(parameters)) != (f'"cst.{self.server.ticket}"', '"countersign"', "cs", 5):
            found.append("parameters")
        if not 18 <= len(nonce) <= 130 or nonce in self.server.nonces:
            found.append("nonce")
        self.server.nonces.add(nonce)
        need = set(derived) | ({"content-digest", "content-type"} if body else set())
        if need - set(names) or len(names) != len(set(names)) or any(len(h.get_all(n, [])) > 1 for n in h):
            found.append("coverage")
        if body and h["content-digest"] != "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":":
            found.append("digest")
        return found


def unchanged(value):
    return value


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.errors, self.nonces, self.invalid_sessions, self.ask = [], [], set(), 0, 0
        self.problem, self.given, self.change_asked = "session-invalid", None, unchanged
        self.page = (200, [("Content-Type", "application/json")], b"")
        self.change_m2 = self.change_m4 = self.change_coverage = unchanged
        self.change_answer = lambda *answer: answer


@contextlib.contextmanager
def serving(server=None):
    with server or Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Vectors(unittest.TestCase):
    def test_the_key_schedule_is_that_of_the_vectors(self):
        self.assertEqual(len(handshake_vectors()), 4)
        for v in handshake_vectors():
            keys = cs1.direction_keys(v["secret"].encode(), v["client"], v["server"])
            self.assertEqual(set(keys), {"cp", "sp", "dh", "req", "rsp", "rot"})
            for name, key in keys.items():
                self.assertEqual(key.hex(), v[f"k{name}_hex"], name)

    def test_a_handshake_has_the_messages_and_the_session_of_the_vectors(self):
        for v in handshake_vectors():
            h = from_vector(v)
            self.assertEqual(h.ephemeral.hex(), v["ce_hex"])
            self.assertEqual(json.dumps(h.m1()), v["m1"])
            self.assertEqual(json.dumps(h.m3(json.loads(v["m2"])["challenge"])), v["m3"])
            self.assertEqual((h.transcript.hex(), h.proof.hex()), (v["transcript_hex"], v["cp_hex"]))
            self.assertEqual(cs1.x25519(h.private, bytes.fromhex(v["se_hex"])).hex(), v["z_hex"])
            session = h.finish(json.loads(v["m4"]))
            self.assertEqual((session.ticket, session.expires_in), ("cst." + v["ticket"], v["expiresIn"]))
            self.assertEqual([x.hex() for x in (session.c2s, session.s2c, session.sid)],
                             [v["c2s_hex"], v["s2c_hex"], v["sid_hex"]])
            for key, name in ((session.c2s, "connection_c2s_hex"), (session.s2c, "connection_s2c_hex")):
                self.assertEqual(cs1.connection_key(key, bytes.fromhex(v["connection_hex"])).hex(), v[name])

    def test_a_challenge_of_another_form_is_not_answered(self):
        for case in [*load("challenge-form"), *({"value": x, "accept": False} for x in (None, 1800000000, ["x"]))]:
            h = from_vector(handshake_vectors()[0])
            if case["accept"]:
                h.m3(case["value"])
                continue
            with self.assertRaises(cs1.Failed, msg=case):
                h.m3(case["value"])

    def test_a_share_of_small_order_ends_the_handshake_though_the_proof_is_right(self):
        for case in load("small-order"):
            v, share = handshake_vectors()[0], bytes.fromhex(case["share_hex"])
            m4 = json.loads(v["m4"]) | {"ephemeral": b64u(share)}
            if case["accept"]:
                finish(v, m4, proved=True)
                continue
            with self.assertRaisesRegex(cs1.Failed, "small order", msg=case):
                finish(v, m4, proved=True)


class Forms(unittest.TestCase):
    def test_x25519_is_that_of_rfc_7748(self):
        unhex = bytes.fromhex
        for x25519 in (cs1.x25519, affine_x25519):
            for scalar, point, product in (
                ("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                 "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                 "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
                ("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                 "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",  # its last bit is set
                 "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
                (cs1.BASE_POINT.hex(), cs1.BASE_POINT.hex(),
                 "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"),
            ):
                self.assertEqual(x25519(unhex(scalar), unhex(point)).hex(), product)

    def test_only_canonical_base64url_is_read(self):
        self.assertEqual(cs1.from_b64u("_-8", 2), b"\xff\xef")
        for text in ("_-8=", "_-9", "/+8", "_-", "_-8\n", " _-8", "_-8A", "_", "", None, 5, b"_-8", "_-８"):
            with self.assertRaises(cs1.Failed, msg=text):
                cs1.from_b64u(text, 2)

    def test_m4_is_refused_when_any_member_is_wrong(self):
        v = handshake_vectors()[-2]
        good = json.loads(v["m4"])
        proof, share = good["serverProof"], good["ephemeral"]
        other = {"A": "B"}.get(proof[0], "A") + proof[1:]
        bad = {"serverProof": (None, "", other, proof + "=", proof[:-1], proof[:-1] + "9", v["cp_hex"], 7),
               "ephemeral": (None, "", share + "=", share[:-1], b64u(bytes(31)), b64u(bytes(32)), [share]),
               "expiresIn": (None, 0, 601, -1, "600", 600.0, True, good["expiresIn"] - 1),
               "ticket": (None, "", v["ticket"], "csb." + v["ticket"], good["ticket"] + "AAAA", []),
               "authenticated": (None, False, "true", 1)}
        for name, values in bad.items():
            changed = [good | {name: value} for value in values] + [{k: x for k, x in good.items() if k != name}]
            for m4 in changed:
                with self.assertRaises(cs1.Failed, msg=(name, m4)):
                    finish(v, m4)
        finish(v, good | {"later": "member"})

    def test_m4_of_another_form_is_refused_though_its_proof_is_right(self):
        v = handshake_vectors()[0]
        good = json.loads(v["m4"])
        for change in ({"expiresIn": 1}, {"expiresIn": 600}, {"ticket": "cst." + "A" * 48}):
            finish(v, good | change, proved=True)
        for change in ({"expiresIn": 0}, {"expiresIn": 601}, {"ticket": "cst." + "A" * 47 + "="},
                       {"ticket": "cst." + "A" * 49}, {"ticket": "cst." + "A" * 49 + "B"}, {"ticket": "cst.AAAA"},
                       {"ticket": "cst." + "A" * 4097}, {"ticket": "cst." + "A" * 48 + "+A"}):
            with self.assertRaises(cs1.Failed, msg=change):
                finish(v, good | change, proved=True)

    def test_json_with_a_member_twice_is_not_read(self):
        self.assertEqual(cs1.json_object(b'{"a": 1}'), {"a": 1})
        for text in (b'{"a": 1, "a": 1}', b"[1]", b"", b"[" * 100000, b"\xff", b'{"a": 1} x'):
            self.assertIsNone(cs1.json_object(text))

    def test_a_secret_loses_one_line_end_and_no_more(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "secret"
            for end, good in (("", 1), ("\n", 1), ("\r\n", 1), ("\r", 1), ("\n\n", 0), (" \n", 0), ("\u00e9", 0)):
                file.write_bytes((SECRET + end).encode())
                if good:
                    self.assertEqual(cs1.read_secret(file), SECRET.encode())
                else:
                    self.assertRaises(cs1.Usage, cs1.read_secret, file)

    def test_urls_are_https_or_loopback_and_the_authority_is_that_of_cs_28(self):
        for url, authority, target in (
            ("https://Billing.Example:443/a%2Fb?x=%20", "billing.example", "/a%2Fb?x=%20"),
            ("https://billing.example:8443", "billing.example:8443", "/"),
            ("https://billing.example?q", "billing.example", "/?q"),
            ("http://127.0.0.1:80/", "127.0.0.1", "/"),
            ("http://[::1]:443/", "[::1]:443", "/"),
            ("http://localhost:8000//x", "localhost:8000", "//x"),
        ):
            service = cs1.Service(url, None)
            self.assertEqual((service.authority, service.target), (authority, target))
        for url in ("http://billing.example/", "http://127.0.0.1.example/", "ftp://localhost/", "https://a@b/",
                    "https:///", "https://b/#x", "https://b/ x", "https://b:x/", "https://b:99999/", "b", "",
                    "https://b\\c/", "https://b/é"):
            self.assertRaises(cs1.Usage, cs1.Service, url, None)


class Signatures(unittest.TestCase):
    """The texts are written out by hand from RFC 9421, sections 2.1 to 2.5."""

    KEY = bytes(range(32))
    POST = (
        b'"@method": POST\n'
        b'"@authority": billing.example:8443\n'
        b'"@path": /v1/a%2Fb\n'
        b'"@query": ?x=1&y=%20\n'
        b'"content-type": application/json\n'
        b'"content-digest": sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:\n'
        b'"@signature-params": ("@method" "@authority" "@path" "@query" "content-type" "content-digest")'
        b';created=1800000003;expires=1800000063;nonce="0123456789abcdef";keyid="cst.AAAA";tag="countersign"'
    )  # the digest of the two bytes {}

    def post(self):
        return cs1.sign_request(self.KEY, "cst.AAAA", "POST", "billing.example:8443", "/v1/a%2Fb?x=1&y=%20",
                                {"content-type": "application/json"}, b"{}", 1800000003, "0123456789abcdef")

    def test_the_example_of_rfc_9421_b_2_5_is_met(self):
        key = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtj"
                               "UkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
        lines = [('"date"', "Tue, 20 Apr 2021 02:07:55 GMT"), ('"@authority"', "example.com"),
                 ('"content-type"', "application/json")]
        parameters = '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
        found = cs1.byte_sequence(cs1.hmac_sha256(key, cs1.signature_base(lines, parameters)))
        self.assertEqual(found, ":pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:")

    def test_a_request_with_content_is_signed_as_by_hand(self):
        request, fields = self.post(), self.post().headers()
        self.assertEqual(request.signature, ":" + base64.b64encode(mac(self.KEY, self.POST)).decode() + ":")
        self.assertEqual(fields["signature"], "cs=" + request.signature)
        self.assertEqual(fields["signature-input"], "cs=" + self.POST.split(b'"@signature-params": ')[1].decode())
        self.assertEqual(fields["content-digest"], "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:")

    def test_a_request_without_content_path_and_query_is_signed_as_by_hand(self):
        request = cs1.sign_request(self.KEY, "cst.A", "GET", "b.example", "", {}, None, 1800000000, "n" * 16)
        by_hand = (b'"@method": GET\n"@authority": b.example\n"@path": /\n"@query": ?\n'
                   b'"@signature-params": ("@method" "@authority" "@path" "@query");created=1800000000'
                   b';expires=1800000060;nonce="nnnnnnnnnnnnnnnn";keyid="cst.A";tag="countersign"')
        self.assertEqual(request.signature, ":" + base64.b64encode(mac(self.KEY, by_hand)).decode() + ":")
        self.assertEqual(set(request.headers()), {"signature-input", "signature"})

    def response(self, **change):
        """A response made by hand: its headers and its content."""
        request = self.post()
        own = [("Content-Type", "text/plain"), ("Cache-Control", "no-store"), ("Set-Cookie", "a=1, b"), ("ETag", '"x"'),
               ("Set-Cookie", "c=2"), ("cache-control", " private\t"), ("X-Other", "not signed"),
               ("Content-Digest", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:")]  # of hello
        covered = ('"@status" "content-type" "cache-control" "set-cookie";bs "etag" "content-digest" "@method";req '
                   '"@authority";req "@path";req "@query";req "signature-input";req;key="cs" "signature";req;key="cs"')
        parameters = change.get("parameters", ';created=1800000004;tag="countersign"')
        text = ('"@status": 201\n"content-type": text/plain\n"cache-control": no-store, private\n'
                '"set-cookie";bs: :YT0xLCBi:, :Yz0y:\n"etag": "x"\n'
                '"content-digest": sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\n'
                '"@method";req: POST\n"@authority";req: billing.example:8443\n"@path";req: /v1/a%2Fb\n'
                '"@query";req: ?x=1&y=%20\n'
                f'"signature-input";req;key="cs": INPUT\n"signature";req;key="cs": {request.signature}\n'
                f'"@signature-params": ({covered}){parameters}')
        for old, new in change.get("instead", {}).items():
            self.assertIn(old, text)
            text, covered = text.replace(old, new), covered.replace(old, new)
        text = text.replace("INPUT", self.POST.split(b'"@signature-params": ')[1].decode())
        mark = base64.b64encode(mac(change.get("key", self.KEY), text.encode())).decode()
        own += [("Signature-Input", f"cs=({covered}){parameters}"), ("Signature", f"cs=:{mark}:")]
        return own, b"hello"

    def verify(self, headers, content, status=201, request=None):
        return cs1.verify_response(self.KEY, request or self.post(), status, headers, content)

    def refused(self, *arguments, **named):
        with self.assertRaises(cs1.Unverified, msg=(arguments, named)):
            self.verify(*arguments, **named)

    def test_a_response_made_by_hand_is_accepted_and_only_signed_fields_are_handed_on(self):
        signed = self.verify(*self.response())
        self.assertEqual(signed["cache-control"], "no-store, private")
        self.assertNotIn("x-other", signed)
        self.verify(*self.response(parameters=';tag="countersign";created=0'))

    def test_a_response_for_another_request_status_key_or_content_is_refused(self):
        headers, content = self.response()
        self.refused(headers, content, status=200)
        self.refused(headers, b"hello!")
        self.refused(headers, b"")
        for name, value in (("method", "PUT"), ("authority", "b"), ("path", "/"), ("query", "?"), ("parameters", "()"),
                            ("signature", ":AAAA:")):
            self.refused(headers, content, request=cs1.Signed(**vars(self.post()) | {name: value}))
        self.refused(*self.response(key=bytes(32)))

    def test_a_changed_added_or_missing_field_is_refused(self):
        headers, content = self.response()
        for i, (name, value) in enumerate(headers):
            if name == "X-Other":
                continue
            self.refused(headers[:i] + headers[i + 1:], content)
            self.refused(headers[:i] + [(name, value + "x")] + headers[i + 1:], content)
            self.refused([*headers, (name, value)], content)
        for name in ("Location", "Retry-After", "WWW-Authenticate", "Content-Encoding", "Content-Range"):
            self.refused([*headers, (name, "x")], content)
        self.refused([*headers, ("Countersign-Body", "stream")], content)
        self.verify([*headers, ("Date", "today")], content)

    def test_a_response_short_of_coverage_is_refused_though_its_signature_is_right(self):
        lines = {'"@status": 201\n': '"@status" ', '"content-type": text/plain\n': '"content-type" ',
                 '"etag": "x"\n': '"etag" ', '"set-cookie";bs: :YT0xLCBi:, :Yz0y:\n': '"set-cookie";bs ',
                 '"cache-control": no-store, private\n': '"cache-control" ', '"@method";req: POST\n': '"@method";req ',
                 '"@query";req: ?x=1&y=%20\n': '"@query";req ', '"@path";req: /v1/a%2Fb\n': '"@path";req ',
                 '"@authority";req: billing.example:8443\n': '"@authority";req '}
        lines |= {'"signature-input";req;key="cs": INPUT\n': '"signature-input";req;key="cs" ',
                  f'"signature";req;key="cs": {self.post().signature}\n': ' "signature";req;key="cs"'}
        for line, component in lines.items():
            with self.assertRaisesRegex(cs1.Unverified, "does not cover " + component.strip(), msg=component):
                self.verify(*self.response(instead={line: "", component: ""}))
        digest = '"content-digest": sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\n'
        instead = {digest: "", '"content-digest" ': ""}
        headers, content = self.response(instead=instead)
        headers = [field for field in headers if field[0] != "Content-Digest"]
        self.refused(headers, content)
        self.verify(headers, b"")

    def test_another_form_of_signature_input_is_refused(self):
        tag = ';tag="countersign"'
        for parameters in ("", ";created=1", tag, ';created=1;tag="countersign-direct"', ";created=1;created=1",
                           f';created=1{tag};keyid="x"', f";created=01{tag}", f";created=-1{tag}",
                           f";created=1{tag}{tag}", ';created=1; tag="countersign"',
                           f';created=1{tag};alg="hmac-sha256"'):
            self.refused(*self.response(parameters=parameters))
        headers, content = self.response()
        for old, new in (("cs=", "sig="), ("cs=", " x=(), cs="), (" ", "  "), ('"@status"', '"@status" "@status"')):
            self.refused([(n, v.replace(old, new, 1) if n == "Signature-Input" else v) for n, v in headers], content)
        etag = {'"etag": "x"\n': '"etag": "x"\n"etag": "x"\n', '"etag" ': '"etag" "etag" '}
        self.refused(*self.response(instead=etag))

    def test_a_stream_and_a_signed_field_with_a_control_character_are_refused(self):
        etag = {'"etag": "x"\n': '"etag": "x"\n"countersign-body": stream\n', '"etag" ': '"etag" "countersign-body" '}
        headers, content = self.response(instead=etag)
        self.refused([*headers, ("Countersign-Body", "stream")], content)
        for value in ("text/pl\x01ain", "text/pl\x7fain", "text/\xe9", "text/plain\r\n x"):
            headers, content = self.response(instead={'"content-type": text/plain': f'"content-type": {value}'})
            self.refused([(n, value if n == "Content-Type" else v) for n, v in headers], content)

    def test_a_digest_of_another_kind_is_no_digest_and_one_beside_it_is_not_looked_at(self):
        good = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
        for value, accept in (("sha-512=:AAAA:, " + good, True), ("sha-512=:AAAA:", False), (good + ", " + good, False),
                              (good + ";x", False), ("x, " + good, False), ("", False)):
            headers, content = self.response(instead={'"content-digest": ' + good: '"content-digest": ' + value})
            headers = [(n, value if n == "Content-Digest" else v) for n, v in headers]
            if accept:
                self.verify(headers, content)
            else:
                self.refused(headers, content)


class Exchange(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(serving())
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.secret = Path(folder) / "secret"
        self.secret.write_text(SECRET + "\n")

    def call(self, *arguments, path="/v1/x?y=1", ours=OURS):
        url = f"http://127.0.0.1:{self.server.server_port}{path}"
        command = [sys.executable, str(HERE / "cs1_client.py"), "--url", url, "--our-key", ours, "--their-key", THEIRS,
                   "--secret-file", str(self.secret), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def refused(self, expected, *arguments, **named):
        code, out, err = self.call(*arguments, **named)
        self.assertEqual((code, out), (1, ""), err)
        self.assertRegex(err, r"\Acs1_client\.py: [ -~]*\n\Z")
        self.assertIn(expected, err)
        return err

    def test_a_request_is_signed_and_its_answer_printed(self):
        self.assertEqual(self.call(), (0, '{"method": "GET", "got": ""}', ""))
        self.assertEqual(self.call("-d", '{"é": 1}')[:2], (0, '{"method": "POST", "got": "{\\"\\u00e9\\": 1}"}'))
        self.assertEqual(self.call("-X", "PUT", "-d", "")[:2], (0, '{"method": "PUT", "got": ""}'))
        self.assertEqual(self.call("-X", "HEAD")[:2], (0, ""))
        code, out, _ = self.call("--json", path="")
        self.assertEqual((code, json.loads(out)["status"], base64.b64decode(json.loads(out)["body"])),
                         (0, 200, b'{"method": "GET", "got": ""}'))
        self.assertEqual(set(json.loads(out)["fields"]), {"content-type", "content-digest"})
        self.assertEqual(self.server.errors, [])

    def test_time_is_that_of_the_challenge_and_what_has_passed_since(self):
        ticks = iter((1000.0, 1007.9))
        service = cs1.Service(f"http://127.0.0.1:{self.server.server_port}/", None)
        self.addCleanup(service._connection.close)
        cs1.Client(service, OURS, THEIRS, SECRET.encode(), lambda: next(ticks)).request("GET", {}, None)
        self.assertEqual(self.server.errors, ["clock"])  # created is 7 s ahead, so the clock was asked

    def test_an_answer_that_is_not_signed_for_this_request_is_not_printed(self):
        kept = []

        def replay(*answer):
            kept.append(answer)
            return kept[0]

        def without(name):
            return lambda status, fields, body: (status, [f for f in fields if f[0] != name], body)

        self.server.change_answer = replay
        self.assertEqual(self.call()[0], 0)
        self.refused("wrong, or is for another request")
        for change in (without("Signature"), without("Signature-Input"), without("content-digest"),
                       lambda status, fields, body: (status, fields, b"other"),
                       lambda status, fields, body: (404, fields, body),
                       lambda status, fields, body: (status, [*fields, ("Set-Cookie", "a=b")], body)):
            self.server.change_answer = change
            self.refused("unknown")
        self.server.change_answer = lambda *answer: answer
        self.server.change_coverage = lambda lines: {k: v for k, v in lines.items() if k != '"content-type"'}
        self.refused('does not cover "content-type"')

    def test_a_handshake_that_is_not_right_sends_no_request(self):
        self.server.change_m4 = lambda m4: m4 | {"serverProof": b64u(bytes(32))}
        self.refused("does not hold the secret")
        self.server.change_m4 = lambda m4: m4 | {"expiresIn": 601}
        self.refused("lifetime")
        self.server.change_m4 = lambda m4: [m4]
        self.refused("not a JSON object")
        self.server.change_m2 = lambda m2: m2 | {"challenge": "GET /admin"}
        self.refused("not answered")
        self.server.change_m2 = unchanged
        self.assertNotIn("\x1b", self.refused("answered 401", ours=OURS + "x"))
        self.assertFalse([line for line in self.server.seen if "/v1" in line])

    def test_a_redirect_is_not_followed_and_an_error_is_told(self):
        self.server.page = (302, [("Location", "/elsewhere")], b"{}")
        self.refused("answered 302")
        self.server.page = (404, [("Content-Type", "application/problem+json")], b'{"title": "No such thing\\u0007"}')
        self.refused("answered 404: No such thing")
        self.assertFalse([line for line in self.server.seen if "elsewhere" in line])
        self.assertEqual(self.server.errors, [])

    def test_session_invalid_causes_one_new_handshake_and_repeats_only_what_is_safe_or_has_an_idempotency_key(self):
        for times, arguments, code, handshakes in ((1, (), 0, 2), (2, (), 1, 2), (1, ("-d", "{}"), 1, 1),
                                                   (1, ("-X", "PUT"), 1, 1)):
            self.server.seen.clear()
            self.server.invalid_sessions = times
            self.assertEqual(self.call(*arguments)[0], code, arguments)
            self.assertEqual(len([line for line in self.server.seen if "authenticate" in line]), handshakes)
            self.assertEqual(len([line for line in self.server.seen if "/v1" in line]), handshakes)
            self.server.invalid_sessions = 0
        self.server.seen.clear()
        self.server.change_answer = lambda *_: (400, [], b'{"type": "urn:countersign:problem:session-invalid"}')
        self.refused("status 400")
        self.assertEqual(len(self.server.seen), 3)

    def test_clock_skew_causes_one_new_handshake(self):
        self.server.problem, self.server.invalid_sessions = "clock-skew", 1
        self.assertEqual(self.call()[0], 0)
        self.assertEqual(len([line for line in self.server.seen if "authenticate" in line]), 2)

    def test_a_nonce_that_the_server_asks_for_is_signed_once_where_the_request_may_be_repeated(self):
        for times, arguments, code, sent in ((1, (), 0, 2), (2, (), 1, 2), (1, ("-d", "{}"), 1, 1), (1, ("-X", "PUT"), 1, 1)):
            self.server.seen.clear()
            self.server.ask, self.server.given = times, None
            self.assertEqual(self.call(*arguments)[0], code, arguments)
            self.assertEqual(len([line for line in self.server.seen if "authenticate" in line]), 1)
            self.assertEqual(len([line for line in self.server.seen if "/v1" in line]), sent)
        self.assertEqual(self.server.errors, [])

    def test_a_nonce_is_taken_only_from_a_member_of_this_profile_and_session(self):
        for old, new in (("cs=", "sig="), ('tag="countersign"', 'tag="countersign-direct"'), ("cst.", "cst.A"), ("csn.", ""),
                         (";created;", ';alg="ed25519";created;')):
            self.server.seen.clear()
            self.server.ask, self.server.given = 1, None
            self.server.change_asked = lambda text, old=old, new=new: text.replace(old, new)
            self.refused("unknown")
            self.assertEqual(len(self.server.seen), 3, old)

    def test_an_idempotency_key_lets_a_request_be_repeated(self):
        service = cs1.Service(f"http://127.0.0.1:{self.server.server_port}/v1", None)
        self.addCleanup(service._connection.close)
        self.server.ask = 1
        client = cs1.Client(service, OURS, THEIRS, SECRET.encode())
        response, _, _ = client.request("POST", {"content-type": "text/plain", "idempotency-key": "k-1"}, b"x")
        self.assertEqual((response.status, self.server.seen.count("POST /v1"), self.server.errors), (200, 2, []))

    def test_content_that_is_too_long_to_be_held_is_not_printed(self):
        self.server.page = (200, [], b"x" * cs1.MAX_CONTENT)
        self.assertEqual(len(self.call()[1]), cs1.MAX_CONTENT)
        self.server.page = (200, [], b"x" * (cs1.MAX_CONTENT + 1))
        self.refused("too long")

    def test_usage_is_told_before_anything_is_sent(self):
        for arguments in (("--url", "http://billing.example/"), ("-X", "get"), ("-X", "CONNECT"), ("--our-key", THEIRS),
                          ("--their-key", "short"), ("--secret-file", str(self.secret) + "x"), ("--nothing",)):
            self.assertEqual(self.call(*arguments)[:2], (2, ""), arguments)
        self.assertEqual(self.server.seen, [])

    @unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
    def test_a_certificate_is_trusted_only_if_it_is_given(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = f"{folder}/tls.pem", f"{folder}/tls.key"
            make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x".split()
            make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
            subprocess.run(make, check=True, capture_output=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            server = Server()
            server.socket = context.wrap_socket(server.socket, server_side=True)
            with serving(server):
                url = f"https://127.0.0.1:{server.server_port}/v1"
                self.assertEqual(self.call("--url", url, "--ca", cert)[0], 0)
                self.refused("CERTIFICATE_VERIFY_FAILED", "--url", url)
            self.assertEqual((server.errors, len(server.seen)), ([], 3))


if __name__ == "__main__":
    unittest.main()
