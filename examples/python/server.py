#!/usr/bin/env python3
"""A service that asks its callers for proof, with Python's standard library only.

    server.py --profile shared-secret|api-key [--listen 127.0.0.1:0] [--cert FILE --key FILE]

POST /authenticate and POST /verify_challenge are the handshake; GET and POST /hello need its result. Settings, seen
from this service's side:

    COUNTERSIGN_API_KEY            shared-secret: our API key
    COUNTERSIGN_THEIR_KEY          shared-secret: the caller's API key
    COUNTERSIGN_SECRET_FILE        shared-secret: the secret of the pair, or ours where each side has one
    COUNTERSIGN_THEIR_SECRET_FILE  shared-secret: the caller's, where each side has one
    COUNTERSIGN_API_KEY_FILE       api-key: the key that callers present, which is also the secret

It knows one caller and keeps its state in this process: challenges and tokens do not survive a restart and are not
shared with a second process.
"""

import argparse
import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import socket
import ssl
import sys
import threading
import time
import uuid
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

API_KEY = re.compile(r"[A-Za-z0-9+/=._~-]{16,128}")
SECRET = re.compile(r"[\x21-\x7e]{32,256}")
SIGNATURE = re.compile(r"[0-9A-Fa-f]{64}")
BASE64_16_BYTES = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
BEARER = re.compile(r"[Bb]earer ([A-Za-z0-9._~+/-]{1,512}=*)")
PRINTED_IN_GUIDES = {"aBcDeFgHiJkLmNoPqRsTuVwXyZ12345", "zYxWvUtSrQpOnMlKjIhGfEdCbA9876"}

REALM = "python-example"
TOKEN_LIFETIME = 300
MINIMAL_LIFETIME = 30
MAX_BODY = 4096
MAX_CHALLENGES = 64
MAX_TOKENS = 1024
MAX_CONNECTIONS = 64
SOCKET_TIMEOUT = 10

ONLY_JSON = "send a JSON object with exactly the members that the guide names, and a Content-Length up to 4096"
NOT_ACCEPTED = "the credentials were not accepted; ask for a new challenge and sign it with the right key"


class Refused(Exception):
    """The request gets a problem document instead of what it asked for."""

    def __init__(self, status, title, challenge=None, keep_alive=True):
        super().__init__(title)
        self.status, self.title, self.challenge, self.keep_alive = status, title, challenge, keep_alive


class Expiring:
    """A bounded set of values, each with an end. A live value is never dropped to make room: full means refuse."""

    def __init__(self, limit):
        self._limit = limit
        self._ends = {}
        self._lock = threading.Lock()

    def add(self, value, lifetime):
        with self._lock:
            self._prune()
            if value not in self._ends and len(self._ends) >= self._limit:
                return False
            self._ends[value] = time.monotonic() + lifetime
            return True

    def __contains__(self, value):
        with self._lock:
            self._prune()
            return value in self._ends

    def take_first(self, matches):
        """Remove one live value for which `matches` holds. Every value is tried, and the removal is atomic."""
        with self._lock:
            self._prune()
            found = [value for value in self._ends if matches(value)]
            for value in found[:1]:
                del self._ends[value]
            return bool(found)

    def _prune(self):
        now = time.monotonic()
        self._ends = {value: end for value, end in self._ends.items() if end > now}


def sign(key, message):
    return hmac.new(key.encode("ascii"), message.encode("ascii"), hashlib.sha256).hexdigest()


def same(a, b):
    return hmac.compare_digest(a.encode("ascii"), b.encode("ascii"))


class SharedSecret:
    """Guide 1: hex(HMAC-SHA256(secret, API key then challenge)), with the secret and key of whoever proves itself."""

    proof_members = {"apiKey", "challenge", "signedChallenge"}
    optional_members = set()

    def __init__(self, lifetime):
        self.lifetime = lifetime
        self.our_key, self.their_key = api_key_from("COUNTERSIGN_API_KEY"), api_key_from("COUNTERSIGN_THEIR_KEY")
        self.our_secret = secret_from("COUNTERSIGN_SECRET_FILE")
        self.their_secret = self.our_secret
        if "COUNTERSIGN_THEIR_SECRET_FILE" in os.environ:
            self.their_secret = secret_from("COUNTERSIGN_THEIR_SECRET_FILE")
        if self.our_key == self.their_key:
            sys.exit("server.py: both sides have the same API key: one would accept its own signatures back")
        self._no_secret = secrets.token_urlsafe(32)
        self._challenges = Expiring(MAX_CHALLENGES)

    def knows(self, api_key):
        return same(api_key, self.their_key)

    def challenge(self, api_key):
        """A fresh challenge. An unknown key gets one that nothing will ever match, and leaves no state."""
        value = b64encode(secrets.token_bytes(16)).decode("ascii")
        if self.knows(api_key) and not self._challenges.add(value, self.lifetime):
            raise Refused(429, "too many unanswered challenges for this key; wait until they expire")
        return value

    def verify(self, api_key, signature, challenge):
        """True once for each challenge: it is burned, but only by the right signature."""
        known = self.knows(api_key)
        wanted = sign(self.their_secret if known else self._no_secret, api_key + challenge)
        right = same(wanted, signature.lower())
        return right and known and self._challenges.take_first(lambda value: same(value, challenge))

    def own_proof(self, client_challenge):
        return {"X-API-Key": self.our_key, "X-Signature": sign(self.our_secret, self.our_key + client_challenge)}


class ApiKey:
    """Guide 2: hex(HMAC-SHA256(API key, challenge)). The answer does not say to which challenge, so all are tried."""

    proof_members = {"apiKey", "signedChallenge"}
    optional_members = {"challenge"}

    def __init__(self, lifetime):
        self.lifetime = lifetime
        self.their_key = read_key_file("COUNTERSIGN_API_KEY_FILE")
        if not API_KEY.fullmatch(self.their_key) or len(self.their_key) < 22 or self.their_key in PRINTED_IN_GUIDES:
            sys.exit("server.py: COUNTERSIGN_API_KEY_FILE needs 22 to 128 random characters of A-Za-z0-9+/=._~-")
        self._challenges = Expiring(MAX_CHALLENGES)

    def knows(self, api_key):
        return same(api_key, self.their_key)

    def challenge(self, api_key):
        value = f"{int(time.time())}.{uuid.uuid4()}"
        if self.knows(api_key) and not self._challenges.add(value, self.lifetime):
            raise Refused(429, "too many unanswered challenges for this key; wait until they expire")
        return value

    def verify(self, api_key, signature, challenge=None):
        """True once for each challenge: the one that matched is burned, and a wrong signature burns none."""
        if not self.knows(api_key):
            return False
        signature = signature.lower()
        return self._challenges.take_first(
            lambda value: same(sign(self.their_key, value), signature) and challenge in (None, value))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "python-example", ""
    timeout = SOCKET_TIMEOUT
    disable_nagle_algorithm = True

    def do_GET(self):
        self.respond({"/hello": self.hello})

    def do_POST(self):
        self.respond({"/authenticate": self.authenticate, "/verify_challenge": self.verify_challenge,
                      "/hello": self.hello})

    def respond(self, routes):
        try:
            body = self.read_body()
            route = routes.get(self.path.partition("?")[0])
            if route is None:
                raise Refused(404, "there is nothing here")
            self.send_json(200, *route(body))
        except Refused as refusal:
            self.log_message("refused, %d: %s", refusal.status, refusal.title)
            self.close_connection = self.close_connection or not refusal.keep_alive
            self.send_problem(refusal)

    # -- the handshake

    def authenticate(self, body):
        profile = self.server.profile
        if isinstance(profile, SharedSecret) and self.header("X-API-Key") is not None and not body:
            api_key = self.header("X-API-Key")
        else:
            if self.header("X-API-Key") is not None:
                raise Refused(400, "send the API key once, in the header or in the body")
            api_key = self.members(body, {"apiKey"})["apiKey"]
        if not API_KEY.fullmatch(api_key):
            raise Refused(400, "an API key has 16 to 128 characters of A-Za-z0-9+/=._~-")
        if not profile.knows(api_key):
            raise Refused(401, NOT_ACCEPTED)
        challenge = profile.challenge(api_key)
        return ({"challenge": challenge} if self.server.minimal else
                {"challenge": challenge, "expiresIn": profile.lifetime}), {}

    def verify_challenge(self, body):
        profile = self.server.profile
        sent = self.members(body, profile.proof_members, profile.optional_members)
        self.check_forms(sent["apiKey"], sent["signedChallenge"], sent.get("challenge"))
        client_challenge = self.client_challenge()
        if not profile.verify(sent["apiKey"], sent["signedChallenge"], sent.get("challenge")):
            raise Refused(401, NOT_ACCEPTED)
        # Only now: a server that answers strangers signs whatever challenge another server gave them.
        headers = profile.own_proof(client_challenge) if client_challenge else {}
        if self.server.minimal:
            if not self.server.sources.add(self.client_address[0], MINIMAL_LIFETIME):
                raise Refused(503, "too many callers at once; try again later")
            return {}, headers
        token = secrets.token_urlsafe(32)
        if not self.server.tokens.add(token_id(token), TOKEN_LIFETIME):
            raise Refused(503, "too many live tokens; try again later")
        return {"authenticated": True, "token": token, "expiresIn": TOKEN_LIFETIME}, headers

    # -- what it protects

    def hello(self, body):
        headers = self.admit()
        self.log_message("admitted")
        return {"message": "hello", "service": REALM, "receivedBytes": len(body)}, headers

    def admit(self):
        """Headers for the answer, or Refused."""
        api_key, authorization = self.header("X-API-Key"), self.header("Authorization")
        if authorization is not None and api_key is not None:
            raise Refused(400, "send one kind of credential, not two")
        if authorization is not None:
            bearer = BEARER.fullmatch(authorization)
            if not bearer or token_id(bearer[1]) not in self.server.tokens:
                raise Refused(401, "the token is unknown or has expired; authenticate again")
            return {}
        if api_key is not None and isinstance(self.server.profile, SharedSecret):
            return self.admit_signed(api_key)
        if self.server.minimal and self.client_address[0] in self.server.sources:
            return {}
        raise Refused(401, "authenticate first: POST /authenticate")

    def admit_signed(self, api_key):
        """Guide 1 without the endpoints: the first request is answered with a challenge, the second is signed."""
        profile = self.server.profile
        if not API_KEY.fullmatch(api_key):
            raise Refused(400, "an API key has 16 to 128 characters of A-Za-z0-9+/=._~-")
        challenge, signature = self.header("X-Challenge"), self.header("X-Signature")
        if challenge is None and signature is None:
            raise Refused(401, "sign the challenge and send the request again", profile.challenge(api_key))
        self.check_forms(api_key, signature or "", challenge or "")
        client_challenge = self.client_challenge()
        if not profile.verify(api_key, signature, challenge):
            raise Refused(401, NOT_ACCEPTED, profile.challenge(api_key))
        return profile.own_proof(client_challenge) if client_challenge else {}

    # -- input

    def read_body(self):
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) > 1:
            raise Refused(400, ONLY_JSON, keep_alive=False)
        length = lengths[0] if lengths else "0"
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused(400, ONLY_JSON, keep_alive=False)
        if int(length) > MAX_BODY:
            raise Refused(413, ONLY_JSON, keep_alive=False)
        body = self.rfile.read(int(length))
        if len(body) != int(length):
            raise Refused(400, ONLY_JSON, keep_alive=False)
        return body

    def header(self, name):
        values = self.headers.get_all(name, [])
        if len(values) > 1:
            raise Refused(400, f"send {name} once")
        return values[0].strip(" \t") if values else None

    def client_challenge(self):
        value = self.header("X-Client-Challenge")
        if value is None or not isinstance(self.server.profile, SharedSecret):
            return None
        if not BASE64_16_BYTES.fullmatch(value):
            raise Refused(400, "X-Client-Challenge has 16 random bytes in base64")
        return value

    @staticmethod
    def members(body, required, optional=frozenset()):
        """The members of a strict JSON object: none unknown, none missing, none twice, all of them strings."""
        def without_duplicates(pairs):
            if len(dict(pairs)) != len(pairs):
                raise ValueError("a member twice")
            return dict(pairs)

        try:
            value = json.loads(body.decode("utf-8"), object_pairs_hook=without_duplicates)
        except (ValueError, RecursionError):
            raise Refused(400, ONLY_JSON) from None
        if not isinstance(value, dict) or not required <= set(value) <= required | set(optional):
            raise Refused(400, ONLY_JSON)
        if not all(isinstance(member, str) for member in value.values()):
            raise Refused(400, ONLY_JSON)
        return value

    @staticmethod
    def check_forms(api_key, signature, challenge):
        if not API_KEY.fullmatch(api_key):
            raise Refused(400, "an API key has 16 to 128 characters of A-Za-z0-9+/=._~-")
        if not SIGNATURE.fullmatch(signature):
            raise Refused(400, "a signature has 64 hexadecimal digits")
        if challenge is not None and not re.fullmatch(r"[\x21-\x7e]{1,128}", challenge):
            raise Refused(400, "that is not a challenge of this server")

    # -- output

    def send_json(self, status, value, headers, content_type="application/json"):
        body = json.dumps(value).encode("ascii") + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, text in headers.items():
            self.send_header(name, text)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_problem(self, refusal):
        problem = {"type": "about:blank", "title": refusal.title, "status": refusal.status}
        headers = {}
        if refusal.status == 401:
            headers["WWW-Authenticate"] = f'Countersign realm="{REALM}"'
        if refusal.challenge:
            lifetime = self.server.profile.lifetime
            problem |= {"challenge": refusal.challenge, "expiresIn": lifetime}
            headers["WWW-Authenticate"] += f', challenge="{refusal.challenge}", expires_in="{lifetime}"'
        if refusal.status == 429:
            headers["Retry-After"] = str(self.server.profile.lifetime)
        self.send_json(refusal.status, problem, headers, "application/problem+json")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the default of 5 resets callers that come at once

    def __init__(self, address, profile, minimal, tls):
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.profile, self.minimal, self.tls = profile, minimal, tls
        self.tokens = Expiring(MAX_TOKENS)
        self.sources = Expiring(MAX_TOKENS)
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, Handler)

    def process_request(self, request, client_address):
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def finish_request(self, request, client_address):
        """The TLS handshake belongs here, in the connection's own thread: a slow one then delays nobody else."""
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(SOCKET_TIMEOUT)
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request, client_address):
        print(f"{client_address[0]} {sys.exc_info()[1]!r}", file=sys.stderr)


def token_id(token):
    """Tokens are kept and looked up as hashes: the time of a look-up then tells nothing about a token."""
    return hashlib.sha256(token.encode("ascii")).digest()


def api_key_from(name):
    value = os.environ.get(name, "")
    if not API_KEY.fullmatch(value) or value in PRINTED_IN_GUIDES:
        sys.exit(f"server.py: {name} needs 16 to 128 characters of A-Za-z0-9+/=._~-, and none that a guide prints")
    return value


def secret_from(name):
    value = read_key_file(name)
    if not SECRET.fullmatch(value) or value in PRINTED_IN_GUIDES:
        sys.exit(f"server.py: the file {name} names needs a secret of 32 to 256 visible ASCII characters")
    return value


def read_key_file(name):
    try:
        text = Path(os.environ[name]).read_bytes().decode("ascii")
    except (KeyError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"server.py: cannot read the file that {name} names: {type(error).__name__}")
    return text.removesuffix("\n").removesuffix("\r")


def address(text):
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise argparse.ArgumentTypeError("ADDRESS:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def lifetime(text):
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 120:
        raise argparse.ArgumentTypeError("1 to 120 seconds")
    return int(text)


def is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True, choices=["shared-secret", "api-key"])
    parser.add_argument("--listen", type=address, default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain in PEM; with it the server speaks HTTPS")
    parser.add_argument("--key", metavar="FILE", help="its private key in PEM")
    parser.add_argument("--challenge-lifetime", type=lifetime, default=30, metavar="SECONDS")
    parser.add_argument("--minimal", action="store_true",
                        help="for tests: no token, no expiresIn; /hello is open to an address for 30 s after its proof")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    if not options.cert and not is_loopback(options.listen[0]):
        parser.error("plain HTTP is for loopback only; give --cert and --key")

    tls = None
    if options.cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(options.cert, options.key)
    profile = (SharedSecret if options.profile == "shared-secret" else ApiKey)(options.challenge_lifetime)
    with Server(options.listen, profile, options.minimal, tls) as server:
        host = f"[{options.listen[0]}]" if ":" in options.listen[0] else options.listen[0]
        print(f"listening on {'https' if tls else 'http'}://{host}:{server.server_address[1]}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
