#!/usr/bin/env python3
"""A client of the profile cs1 with Python's standard library only, written from specs/cs1.md and from nothing else.

    cs1_client.py --url https://billing.example/v1/invoices?open --our-key C --their-key S --secret-file F
                  [--ca FILE] [-X METHOD] [-d BODY] [--json]

It makes the handshake at /authenticate and /verify_challenge of the same host and signs the request. Of the answer it
prints the body, and only if signature, coverage and digest are right. With --json it prints one object: status, the
signed fields, and the body in base64. Without -X the method is GET, or POST with -d. BODY is sent as application/json.

Exit status: 0 done, 1 refused or failed (an answer with a status other than 2xx too), 2 usage.

NOT CONSTANT TIME: X25519 here is arithmetic on Python's big integers, which takes longer for some keys than for others,
and Python cannot erase a key from memory (CS-9). It shows the protocol. A real client uses a cryptographic library.

Not here: the binding tls-exporter (Python's ssl does not give the exporter), content in a stream (http.client does not
give trailers), and countersign-direct.
"""

import argparse
import hashlib
import hmac
import http.client
import ipaddress
import json
import re
import secrets
import ssl
import sys
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

API_KEY = re.compile(r"[A-Za-z0-9+/=._~-]{16,128}")
SECRET = re.compile(r"[\x21-\x7e]{32,256}")
CHALLENGE = re.compile(r"[1-9][0-9]{9}\.[A-Za-z0-9_-]{16,128}")
# kid, nonce and the tag of AES-GCM-SIV alone are 36 bytes. The specification has no greatest length; this one is ours.
TICKET = re.compile(r"cst\.[A-Za-z0-9_-]{48,1020}")
URL = re.compile(r"[\x21-\x22\x24-\x5b\x5d-\x7e]+")
HOST = re.compile(r"[a-z0-9.-]+|[0-9a-f:.]+")
METHOD = re.compile(r"(?!CONNECT$)[A-Z][A-Z-]{0,31}")
VISIBLE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?")
DIGEST_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):")

# Signature-Input of a response, in the one way that RFC 8941 writes it.
COMPONENT = r'"[a-z0-9@!#$%&\'*+.^_`|~-]+"(?:;[a-z]+(?:="[a-z]+")?)*'
CREATED, TAG = r";created=(?:0|[1-9][0-9]{0,14})", r';tag="countersign"'
RESPONSE_INPUT = re.compile(rf"cs=(\(({COMPONENT}(?: {COMPONENT})*)\)(?:{CREATED}{TAG}|{TAG}{CREATED}))")

RESPONSE_FIELDS = (
    "cache-control", "content-digest", "content-encoding", "content-range", "content-type", "countersign-body", "etag",
    "location", "retry-after", "www-authenticate",
)  # CS-33; set-cookie is separate
LISTS = {"accept", "accept-language", "allow", "cache-control", "content-encoding", "content-language", "if-match",
         "if-none-match", "vary", "www-authenticate", "set-cookie"}  # CS-48: these may stand on several lines
SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}  # RFC 9110, section 9.2.1
# CS-53: the nonce that a server wants to be signed, in the one way that it writes the field.
NONCE_ASKED = re.compile(rf'cs=\({COMPONENT}(?: {COMPONENT})*\);created;expires;nonce="(csn\.[A-Za-z0-9+/=_.~-]{{12,124}})"'
                         r';keyid="([^"\\]*)";tag="countersign"')
PROBLEM = "urn:countersign:problem:"

REQUEST_LIFE = 60  # seconds, CS-25
TIMEOUT = 30  # seconds without a byte
MAX_ANSWER = 64 * 1024  # bytes, in the handshake (GP-70)
MAX_CONTENT = 1024 * 1024  # bytes (CS-37)


class Failed(Exception):
    """What went wrong, for standard error."""


class Usage(Failed):
    """A setting or an argument is missing or wrong."""


class Unverified(Failed):
    """An answer that is not signed for our request: nothing that it says is to be believed."""


class Again(Unverified):
    """Such an answer, which asks for a new handshake, or for the request once more with this nonce (CS-35)."""

    def __init__(self, message, nonce=None):
        super().__init__(message)
        self.nonce = nonce


# -- section 1: notation --


def lp(value):
    return len(value).to_bytes(4, "big") + value


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


extract = hmac_sha256  # Extract(salt, ikm)


def expand(key, info, length=32):
    """HKDF-Expand for at most one block."""
    return hmac_sha256(key, info + b"\x01")[:length]


def b64u(value):
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def from_b64u(text, length=None):
    """CS-1: the canonical form and no other; of the exact length, where one is given."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Failed("a value is not base64url")
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64u(value) != text or (length is not None and len(value) != length):
        raise Failed("a value is not base64url in its canonical form, or not of its length")
    return value


def x25519(scalar, point):
    """RFC 7748, section 5, as it is written there. NOT constant time."""
    p = 2**255 - 19
    k = int.from_bytes(scalar, "little") & (2**254 - 8) | 2**254
    x1 = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if swap ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


BASE_POINT = (9).to_bytes(32, "little")


# -- sections 2, 3 and 6: keys and handshake --


def direction_keys(secret, client, server):
    """The keys of section 2 for requests from `client` to `server`, by the name in their label."""
    kd = expand(extract(b"countersign/1", secret), lp(b"dir") + lp(client.encode("ascii")) + lp(server.encode("ascii")))
    return {name: expand(kd, lp(name.encode("ascii"))) for name in ("cp", "sp", "dh", "req", "rsp", "rot")}


def connection_key(key, exporter):
    """CS-32: what a session key becomes on one TLS connection."""
    return expand(key, lp(b"conn") + lp(exporter))


@dataclass(frozen=True, repr=False)
class Session:
    ticket: str  # with its prefix, as it stands in keyid
    expires_in: int  # seconds from the handshake on
    c2s: bytes
    s2c: bytes
    sid: bytes


class Handshake:
    """The client's side of one handshake. The random bytes are arguments, so that a test can repeat it."""

    def __init__(self, keys, client, server, nonce, private, binding="none", exporter=b""):
        self.keys, self.private = keys, private
        self.client, self.server, self.nonce, self.binding, self.exporter = client, server, nonce, binding, exporter
        self.ephemeral = x25519(private, BASE_POINT)

    def m1(self):
        return {"protocol": "cs1", "apiKey": self.client, "peerKey": self.server, "nonce": b64u(self.nonce),
                "ephemeral": b64u(self.ephemeral), "binding": self.binding}

    def m3(self, challenge):
        """CS-6: a text of another form is not answered."""
        if not isinstance(challenge, str) or not CHALLENGE.fullmatch(challenge):
            raise Failed("the server's challenge has another form; not answered")
        parts = ("countersign/1 cs1", self.client, self.server, self.nonce, self.ephemeral, self.binding, self.exporter,
                 challenge)
        self.transcript = b"".join(lp(part if isinstance(part, bytes) else part.encode("ascii")) for part in parts)
        self.proof = hmac_sha256(self.keys["cp"], lp(b"CP") + self.transcript)
        return self.m1() | {"challenge": challenge, "signedChallenge": b64u(self.proof)}

    def finish(self, answer):
        """CS-7 and CS-8: the session, if M4 is right in every member."""
        if answer.get("authenticated") is not True:
            raise Failed("the server does not say that we are authenticated")
        seconds, ticket = answer.get("expiresIn"), answer.get("ticket")
        if type(seconds) is not int or not 1 <= seconds <= 600:
            raise Failed("the session's lifetime is not 1 to 600 seconds")
        if not isinstance(ticket, str) or not TICKET.fullmatch(ticket):
            raise Failed("the session's ticket has another form")
        from_b64u(ticket.removeprefix("cst."))
        share, proof = from_b64u(answer.get("ephemeral"), 32), from_b64u(answer.get("serverProof"), 32)
        sealed = lp(ticket.removeprefix("cst.").encode("ascii")) + seconds.to_bytes(4, "big")
        expected = hmac_sha256(self.keys["sp"], lp(b"SP") + self.transcript + lp(self.proof) + lp(share) + sealed)
        if not hmac.compare_digest(proof, expected):
            raise Failed("the server's proof is wrong: it does not hold the secret")
        z = x25519(self.private, share)
        if z == bytes(32):
            raise Failed("the server's ephemeral key is of small order")
        es = extract(self.keys["dh"], z)
        th = lp(hashlib.sha256(self.transcript + lp(self.proof) + lp(share)).digest())
        self.private = None
        return Session(ticket, seconds, expand(es, lp(b"c2s") + th), expand(es, lp(b"s2c") + th),
                       expand(es, lp(b"sid") + th, 16))


# -- sections 5 and 7: signatures (RFC 9421) --


def signature_base(lines, parameters):
    """`lines`: pairs of a component's identifier, with its quotes and parameters, and its value."""
    lines = [*lines, ('"@signature-params"', parameters)]
    return "\n".join(f"{identifier}: {value}" for identifier, value in lines).encode("ascii")


def byte_sequence(value):
    """As RFC 8941 writes it: base64 between colons."""
    return ":" + b64encode(value).decode("ascii") + ":"


def digest_of(content):
    return byte_sequence(hashlib.sha256(content).digest())


@dataclass(frozen=True)
class Signed:
    """A request as it was signed. `fields`: names in lower case and values, without the two of the signature."""

    method: str
    authority: str
    path: str
    query: str  # with its question mark
    fields: dict
    parameters: str  # the member `cs` of Signature-Input
    signature: str  # the member `cs` of Signature

    def headers(self):
        return self.fields | {"signature-input": f"cs={self.parameters}", "signature": f"cs={self.signature}"}


def sign_request(key, ticket, method, authority, target, fields, content, created, nonce):
    """CS-23 and CS-24. All fields are covered, which is more than has to be; `content-digest` is added to them."""
    path, _, query = target.partition("?")
    path, query, fields = path or "/", "?" + query, dict(fields)
    if content:
        fields["content-digest"] = f"sha-256={digest_of(content)}"
    lines = [('"@method"', method), ('"@authority"', authority), ('"@path"', path), ('"@query"', query)]
    lines += [(f'"{name}"', value) for name, value in fields.items()]
    covered = " ".join(identifier for identifier, _ in lines)
    parameters = (f'({covered});created={created};expires={created + REQUEST_LIFE};nonce="{nonce}";keyid="{ticket}"'
                  ';tag="countersign"')
    mac = hmac_sha256(key, signature_base(lines, parameters))
    return Signed(method, authority, path, query, fields, parameters, byte_sequence(mac))


def response_values(request, status, fields):
    """All components that a response may cover, with their values; and which of them it has to cover (CS-33)."""
    values = {'"@status"': f"{status:03}", '"@method";req': request.method, '"@authority";req': request.authority,
              '"@path";req': request.path, '"@query";req': request.query,
              '"signature-input";req;key="cs"': request.parameters, '"signature";req;key="cs"': request.signature}
    required = list(values)
    for name, lines in fields.items():
        if name == "set-cookie":
            lines = [byte_sequence(line.encode("latin-1")) for line in lines]
        identifier = '"set-cookie";bs' if name == "set-cookie" else f'"{name}"'
        values[identifier] = ", ".join(lines)
        if name == "set-cookie" or name in RESPONSE_FIELDS:
            required.append(identifier)
    return values, required


def verify_response(key, request, status, headers, content):
    """The response's own fields that the signature covers, by name; Unverified if anything is not as it has to be."""
    fields = {}
    for name, value in headers:
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    inputs, signatures = fields.pop("signature-input", []), fields.pop("signature", [])
    if len(inputs) != 1 or len(signatures) != 1:
        raise Unverified("it is not signed once")
    if "countersign-body" in fields:
        raise Unverified("it is a stream, which this client cannot verify")
    form = RESPONSE_INPUT.fullmatch(inputs[0])
    if not form:
        raise Unverified("its signature has another form")
    covered = re.findall(COMPONENT, form[2])
    values, required = response_values(request, status, fields)
    if content:
        required.append('"content-digest"')
    if len(set(covered)) != len(covered) or not values.keys() >= set(covered):
        raise Unverified("its signature covers something twice, or something that is not there")
    if missing := set(required).difference(covered):
        raise Unverified(f"its signature does not cover {' '.join(sorted(missing))}")
    if any(len(lines) > 1 and name not in LISTS and f'"{name}"' in covered for name, lines in fields.items()):
        raise Unverified("a field of it that is signed stands on more than one line")
    if not all(VISIBLE.fullmatch(values[identifier] or "-") for identifier in covered):
        raise Unverified("a field of it that is signed holds more than printable ASCII")
    mac = hmac_sha256(key, signature_base([(identifier, values[identifier]) for identifier in covered], form[1]))
    if not hmac.compare_digest(signatures[0].encode("latin-1"), f"cs={byte_sequence(mac)}".encode("ascii")):
        raise Unverified("its signature is wrong, or is for another request")
    # CS-33: these have no content, and what they say of one is about another response.
    without = request.method == "HEAD" or status in (204, 304)
    if "content-digest" in fields and not (without and not content):
        members = [DIGEST_MEMBER.fullmatch(member.strip(" \t")) for member in values['"content-digest"'].split(",")]
        ours = [f":{member[2]}:" for member in members if member and member[1] == "sha-256"]
        if None in members or ours != [digest_of(content)]:
            raise Unverified("its content is not what was signed")
    return {name: values[f'"{name}"'] for name in fields if f'"{name}"' in covered}


# -- the exchange --


class Service:
    """One connection to the other service. Redirects are not followed, and no proxy is used."""

    def __init__(self, url, ca_file):
        try:
            parts = urlsplit(url if URL.fullmatch(url) else "")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise Usage("--url is not a URL") from None
        if parts.username is not None or not HOST.fullmatch(host):
            raise Usage("--url is not a URL of a host, without user and fragment")
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        name = f"[{host}]" if ":" in host else host
        self.authority = name if port in (None, {"https": 443, "http": 80}.get(parts.scheme)) else f"{name}:{port}"
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
        elif parts.scheme == "http" and is_loopback(host):
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        else:
            raise Usage("--url has to begin with https://, or name a loopback address")

    def send(self, method, target, headers, body, limit):
        self._connection.request(method, target, body, {"Host": self.authority} | headers)
        response = self._connection.getresponse()
        content = response.read(limit + 1)
        if len(content) > limit:
            raise Failed(f"{target}: the answer is too long")
        return response, content

    def post(self, path, members):
        """The JSON object that answers. Any status but 200 is a failure."""
        body = json.dumps(members).encode("ascii")
        response, content = self.send("POST", path, {"Content-Type": "application/json"}, body, MAX_ANSWER)
        if response.status != 200:
            raise Failed(f"{path}: {describe(response, content)}")
        answer = json_object(content)
        if answer is None:
            raise Failed(f"{path}: the answer is not a JSON object with each member once")
        return answer


class Client:
    def __init__(self, service, our_key, their_key, secret, clock=time.monotonic):
        self.service, self.our_key, self.their_key, self._clock = service, our_key, their_key, clock
        self._keys = direction_keys(secret, our_key, their_key)

    def _handshake(self):
        nonce, private = secrets.token_bytes(32), secrets.token_bytes(32)
        handshake = Handshake(self._keys, self.our_key, self.their_key, nonce, private)
        challenge = self.service.post("/authenticate", handshake.m1()).get("challenge")
        # CS-30. Counted from here, and not from the question on: our time is then behind the server's and never ahead.
        received = self._clock()
        answer = self.service.post("/verify_challenge", handshake.m3(challenge))
        self._ts, self._received = int(challenge[:10]), received
        return handshake.finish(answer)

    def request(self, method, fields, content):
        """The verified answer with its signed fields and content. A request is sent twice at most (CS-35)."""
        session = self._handshake()
        try:
            return self._exchange(session, method, fields, content)
        except Again as again:
            if method not in SAFE and not any(name.lower() == "idempotency-key" for name in fields):
                raise
            nonce = again.nonce
        return self._exchange(session if nonce else self._handshake(), method, fields, content, nonce)

    def _exchange(self, session, method, fields, content, nonce=None):
        service, unknown = self.service, "Whether the request had an effect is unknown"
        created = self._ts + int(self._clock() - self._received)
        request = sign_request(session.c2s, session.ticket, method, service.authority, service.target, fields, content,
                               created, nonce or b64u(secrets.token_bytes(18)))
        try:
            response, answer = service.send(method, service.target, request.headers(), content, MAX_CONTENT)
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no answer ({type(error).__name__}). {unknown}") from None
        try:
            signed = verify_response(session.s2c, request, response.status, response.getheaders(), answer)
        except Unverified as error:
            message = f"an answer with status {response.status} is refused: {error}. {unknown}"
            problem = (json_object(answer) or {}).get("type") if response.status == 401 else None
            if problem in (PROBLEM + "session-invalid", PROBLEM + "clock-skew"):
                raise Again(message) from None
            asked = NONCE_ASKED.fullmatch(response.getheader("accept-signature", ""))
            if problem == PROBLEM + "nonce-required" and asked and asked[2] == session.ticket:
                raise Again(message, asked[1]) from None
            raise Unverified(message) from None
        return response, signed, answer


def json_object(content):
    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def describe(response, content):
    """The status and what the problem document says, without anything that a terminal would act on."""
    title = (json_object(content) or {}).get("title")
    title = re.sub(r"[^ -~]", "", title)[:200] if isinstance(title, str) else ""
    return f"the server answered {response.status}" + (f": {title}" if title else "")


def is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_secret(file):
    """The text of the file without the line end that an editor leaves (GP-3)."""
    try:
        text = Path(file).read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"cannot read the file of --secret-file: {type(error).__name__}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not SECRET.fullmatch(text):
        raise Usage("the file of --secret-file needs a secret of 32 to 256 visible ASCII characters")
    return text.encode("ascii")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("url", "our-key", "their-key", "secret-file"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ca", help="a PEM file to trust in place of the system's certificates")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-d", dest="body")
    given = parser.parse_args(arguments)
    body = given.body.encode("utf-8") if given.body is not None else None
    method = given.method or ("GET" if body is None else "POST")
    keys = {given.our_key, given.their_key}
    if len(keys) != 2 or not all(map(API_KEY.fullmatch, keys)):
        raise Usage("--our-key and --their-key need 16 to 128 characters of A-Za-z0-9+/=._~-, and must differ")
    if not METHOD.fullmatch(method):
        raise Usage("-X needs a method in capital letters, and not CONNECT")
    client = Client(Service(given.url, given.ca), given.our_key, given.their_key, read_secret(given.secret_file))
    response, signed, content = client.request(method, {"content-type": "application/json"} if body else {}, body)
    if given.json:
        print(json.dumps({"status": response.status, "fields": signed, "body": b64encode(content).decode()}))
    if not 200 <= response.status <= 299:
        raise Failed(describe(response, content))
    if not given.json:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Usage as error:
        print(f"cs1_client.py: {error}", file=sys.stderr)
        sys.exit(2)
    except (Failed, OSError, http.client.HTTPException, ValueError) as error:
        sys.exit(f"cs1_client.py: {error}")
