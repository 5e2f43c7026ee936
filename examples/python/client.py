#!/usr/bin/env python3
"""Prove who we are to another service, then fetch a path from it, with Python's standard library only.

    client.py shared-secret [--per-request] PATH
    client.py api-key PATH

The body of PATH goes to standard output. Settings come from the environment, keys and secrets from files:

    COUNTERSIGN_URL                base URL of the other service: https://, or http:// to loopback
    COUNTERSIGN_API_KEY            shared-secret: our API key
    COUNTERSIGN_THEIR_KEY          shared-secret: their API key
    COUNTERSIGN_SECRET_FILE        shared-secret: the secret of the pair, or ours where each side has one
    COUNTERSIGN_THEIR_SECRET_FILE  shared-secret: theirs, where each side has one
    COUNTERSIGN_API_KEY_FILE       api-key: the key, which is also the secret
    COUNTERSIGN_CA                 a PEM file to trust in place of the system's certificates

Exit status: 0 done, 1 refused or failed, 2 usage.
"""

import hashlib
import hmac
import http.client
import ipaddress
import json
import os
import re
import secrets
import ssl
import sys
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

API_KEY = re.compile(r"[A-Za-z0-9+/=._~-]{16,128}")
SECRET = re.compile(r"[\x21-\x7e]{32,256}")
SIGNATURE = re.compile(r"[0-9A-Fa-f]{64}")
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")

# We sign nothing of another shape: a signature over a text that the other side may choose could mean anything.
GUIDE_1_CHALLENGE = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
GUIDE_2_CHALLENGE = re.compile(r"[0-9]{10}\.[0-9A-Za-z-]{10,64}")
CHALLENGE_PARAMETER = re.compile(r'(?:^|[ ,])challenge="([^"]*)"')

TIMEOUT = 30
MAX_ANSWER = 64 * 1024


class Failed(Exception):
    """What went wrong, for standard error."""


class Usage(Failed):
    """A setting or an argument is missing or wrong."""


class Service:
    """One connection to the other service. Redirects are not followed, and no proxy is used."""

    def __init__(self, url, ca_file):
        parts = urlsplit(url)
        if parts.username is not None or parts.query or parts.fragment or not parts.hostname:
            raise Usage("COUNTERSIGN_URL is not a base URL")
        self._prefix = parts.path.rstrip("/")
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT, context=context)
        elif parts.scheme == "http" and is_loopback(parts.hostname):
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
        else:
            raise Usage("COUNTERSIGN_URL has to begin with https://, or name a loopback address")

    def send(self, method, path, headers, body=None):
        self._connection.request(method, self._prefix + path, body, headers)
        return self._connection.getresponse()

    def post(self, path, members, headers=None):
        """The JSON object that answers, and the response for its headers. Any status but 200 is a failure."""
        headers = {"Content-Type": "application/json"} | (headers or {})
        response = self.send("POST", path, headers, json.dumps(members))
        body = read_limited(response)
        if response.status != 200:
            raise Failed(f"{path}: {describe(response, body)}")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise Failed(f"{path}: the answer is not a JSON object")
        return answer, response


def shared_secret(service, settings):
    """Guide 1 on the endpoints: we prove ourselves, they prove themselves, and only then do we go on."""
    our_key, their_key, our_secret, their_secret = settings
    answer, _ = service.post("/authenticate", {"apiKey": our_key})
    challenge = require_shape(answer.get("challenge"), GUIDE_1_CHALLENGE)
    ours = b64encode(secrets.token_bytes(16)).decode("ascii")
    answer, response = service.post(
        "/verify_challenge",
        {"apiKey": our_key, "challenge": challenge, "signedChallenge": sign(our_secret, our_key + challenge)},
        {"X-Client-Challenge": ours},
    )
    keys, proofs = response.headers.get_all("X-API-Key", []), response.headers.get_all("X-Signature", [])
    if keys != [their_key] or len(proofs) != 1 or not SIGNATURE.fullmatch(proofs[0]):
        raise Failed("the server did not prove itself")
    if not hmac.compare_digest(proofs[0].lower(), sign(their_secret, their_key + ours)):
        raise Failed("the server's proof is wrong: it does not hold the secret")
    return bearer(answer)


def shared_secret_per_request(service, settings, path):
    """Guide 1 on any route: the first answer is a challenge. The server is proved by TLS alone."""
    our_key, _, our_secret, _ = settings
    response = service.send("GET", path, {"X-API-Key": our_key})
    body = read_limited(response)
    if response.status != 401:
        raise Failed(f"{path}: expected a challenge, but {describe(response, body)}")
    offers = [value for value in response.headers.get_all("WWW-Authenticate", [])
              if value.lower().startswith("countersign ")]
    found = CHALLENGE_PARAMETER.findall(offers[0]) if len(offers) == 1 else []
    challenge = require_shape(found[0] if len(found) == 1 else None, GUIDE_1_CHALLENGE)
    return {"X-API-Key": our_key, "X-Challenge": challenge, "X-Signature": sign(our_secret, our_key + challenge)}


def api_key(service, key):
    """Guide 2: the key goes over the wire and is the secret, so all that protects it is TLS."""
    answer, _ = service.post("/authenticate", {"apiKey": key})
    challenge = require_shape(answer.get("challenge"), GUIDE_2_CHALLENGE)
    answer, _ = service.post("/verify_challenge", {"apiKey": key, "signedChallenge": sign(key, challenge)})
    return bearer(answer)


def sign(key, message):
    return hmac.new(key.encode("ascii"), message.encode("ascii"), hashlib.sha256).hexdigest()


def require_shape(challenge, shape):
    if not isinstance(challenge, str) or not shape.fullmatch(challenge):
        raise Failed("the server's challenge has another shape; not signed")
    return challenge


def bearer(answer):
    """The header that carries the token. A server may give none; then there is nothing to carry."""
    token = answer.get("token")
    if token is None:
        return {}
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise Failed("the server's token cannot be sent in a header")
    return {"Authorization": f"Bearer {token}"}


def read_limited(response):
    body = response.read(MAX_ANSWER + 1)
    if len(body) > MAX_ANSWER:
        raise Failed("the answer is too long")
    return body


def describe(response, body):
    """The status and what the problem document says, without anything that a terminal would act on."""
    try:
        title = json.loads(body)["title"]
    except (ValueError, TypeError, KeyError, RecursionError):
        title = ""
    title = re.sub(r"[^ -~]", "", title)[:200] if isinstance(title, str) else ""
    return f"the server answered {response.status}" + (f": {title}" if title else "")


def is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def setting(name):
    if not os.environ.get(name):
        raise Usage(f"set {name}")
    return os.environ[name]


def key_setting(name):
    value = setting(name)
    if not API_KEY.fullmatch(value):
        raise Usage(f"{name} needs 16 to 128 characters of A-Za-z0-9+/=._~-")
    return value


def file_setting(name, form, expected):
    """The text of the file that a setting names, without the line end that an editor leaves."""
    try:
        value = Path(setting(name)).read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"cannot read the file that {name} names: {type(error).__name__}") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not form.fullmatch(value):
        raise Usage(f"the file that {name} names needs {expected}")
    return value


def shared_secret_settings():
    our_key, their_key = key_setting("COUNTERSIGN_API_KEY"), key_setting("COUNTERSIGN_THEIR_KEY")
    if our_key == their_key:
        raise Usage("both sides have the same API key: our own signature sent back would pass for theirs")
    expected = "a secret of 32 to 256 visible ASCII characters"
    our_secret = file_setting("COUNTERSIGN_SECRET_FILE", SECRET, expected)
    their_secret = our_secret
    if os.environ.get("COUNTERSIGN_THEIR_SECRET_FILE"):
        their_secret = file_setting("COUNTERSIGN_THEIR_SECRET_FILE", SECRET, expected)
    return our_key, their_key, our_secret, their_secret


def main(arguments):
    per_request = arguments[:2] == ["shared-secret", "--per-request"]
    if per_request:
        arguments = ["shared-secret", *arguments[2:]]
    if len(arguments) != 2 or arguments[0] not in ("shared-secret", "api-key") or not PATH.fullmatch(arguments[1]):
        raise Usage(__doc__.strip())
    profile, path = arguments
    service = Service(setting("COUNTERSIGN_URL"), os.environ.get("COUNTERSIGN_CA") or None)

    if profile == "api-key":
        expected = "22 to 128 characters of A-Za-z0-9+/=._~-"
        key = file_setting("COUNTERSIGN_API_KEY_FILE", re.compile(r"[A-Za-z0-9+/=._~-]{22,128}"), expected)
        headers = api_key(service, key)
    elif per_request:
        headers = shared_secret_per_request(service, shared_secret_settings(), path)
    else:
        headers = shared_secret(service, shared_secret_settings())

    response = service.send("GET", path, headers)
    if not 200 <= response.status <= 299:
        raise Failed(f"{path}: {describe(response, read_limited(response))}")
    while block := response.read(MAX_ANSWER):
        sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
    if response.length:
        raise Failed(f"{path}: the answer was cut short")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Usage as error:
        print(f"client.py: {error}", file=sys.stderr)
        sys.exit(2)
    except (Failed, OSError, http.client.HTTPException, ValueError) as error:
        sys.exit(f"client.py: {error}")
