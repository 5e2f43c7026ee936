#!/usr/bin/env python3
"""`http-message-signatures` of PyPI against a server of cs1 that takes requests without a handshake, and as verifier of the vectors.

    interop.py client [CHECK …]    COUNTERSIGN_URL, COUNTERSIGN_API_KEY, COUNTERSIGN_THEIR_KEY, COUNTERSIGN_SECRET_FILE
    interop.py vectors FOLDER      vectors/cs1

Prints a line for each check, `ok NAME` or `failed NAME: WHY`. Exit status 1 if one failed.
"""

import base64
import hmac
import http.client
import json
import os
import secrets
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import http_sf
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, InvalidSignature, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256

TAG = "countersign-direct"
REQUEST = ("@method", "@authority", "@path", "@query")
RESPONSE = ("@status", *(f'"{name}";req' for name in REQUEST), '"signature-input";req;key="cs"', '"signature";req;key="cs"',
            "content-digest", "content-type")
HOUR = timedelta(hours=1)
BODY = b'{"item": 1}'


class Request:
    def __init__(self, method, url, headers):
        self.method, self.url, self.headers = method, url, headers


class Response:
    def __init__(self, status, headers, content, request):
        self.status_code, self.headers, self.content, self.request = status, headers, content, request


def lp(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def keys_of_pair(secret, client, server):
    """Kreq and Krsp: specs/cs1.md, section 2."""
    def expand(key, info):
        return hmac.digest(key, info + b"\x01", "sha256")

    kd = expand(hmac.digest(b"countersign/1", secret, "sha256"), lp(b"dir", client.encode(), server.encode()))
    return expand(kd, lp(b"req")), expand(kd, lp(b"rsp"))


class Client:
    def __init__(self, url, client, server, secret):
        self.url, self.keyid = url, f"{client}:{server}"
        to_server, to_client = keys_of_pair(secret, client, server)
        resolver = MappingKeyResolver(private_keys={self.keyid: to_server}, public_keys={self.keyid: to_client})
        self._signer = HTTPMessageSigner(signature_algorithm=HMAC_SHA256, key_resolver=resolver)
        self._verifier = HTTPMessageVerifier(signature_algorithm=HMAC_SHA256, key_resolver=resolver)

    def sign(self, method, path, body=None, ahead=timedelta(), nonce=None):
        request = Request(method, self.url + path, {})
        covered = list(REQUEST)
        if body is not None:
            request.headers["Content-Type"] = "application/json"
            covered.append("content-type")
        created = datetime.now(timezone.utc) + ahead
        self._signer.sign(request, key_id=self.keyid, created=created, expires=created + timedelta(seconds=20),
                          nonce=nonce or secrets.token_hex(16), label="cs", tag=TAG, covered_component_ids=covered,
                          body=body)
        return request

    def send(self, request, body=None):
        parts = urlsplit(request.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(request.method, target, body, request.headers)
            answer = connection.getresponse()
            fields = {}
            for name, value in answer.getheaders():
                name = name.lower()
                fields[name] = f"{fields[name]}, {value}" if name in fields else value
            return Response(answer.status, fields, answer.read(), request)
        finally:
            connection.close()

    def verify(self, response):
        """Signature, coverage, and digest of the content."""
        self._verifier.verify(response, expect_tag=TAG, expect_label="cs", require_components=RESPONSE, body=response.content)

    def call(self, method, path, body=None, ahead=timedelta()):
        """The verified answer. Signs once more, with the server's nonce, where it asks for that."""
        response = self.send(self.sign(method, path, body, ahead), body)
        if nonce := asked_for(response):
            response = self.send(self.sign(method, path, body, ahead, nonce), body)
        self.verify(response)
        return response


def asked_for(response):
    """The nonce that the server wants to be signed (RFC 9421, section 5)."""
    if response.status_code != 401 or "accept-signature" not in response.headers:
        return None
    members = http_sf.parse(response.headers["accept-signature"].encode(), tltype="dictionary")
    _, parameters = members["cs"]
    assert parameters["tag"] == TAG
    return parameters["nonce"]


def refused(response, kind, signed=False):
    assert response.status_code == 401, response.status_code
    assert json.loads(response.content)["type"] == f"urn:countersign:problem:{kind}", response.content
    assert ("signature" in response.headers) == signed


def greets(response):
    assert response.status_code == 200, response.status_code
    assert json.loads(response.content)["service"] == "billing", response.content


def check_get(client):
    greets(client.call("GET", "/hello?a=b&c=%20"))


def check_post(client):
    greets(client.call("POST", "/invoices", BODY))


def check_skewed_clock(client):
    for ahead in (-HOUR, HOUR):
        first = client.send(client.sign("GET", "/hello", ahead=ahead))
        refused(first, "nonce-required")
        nonce = asked_for(first)
        assert nonce.startswith("csn."), nonce
        request = client.sign("GET", "/hello", ahead=ahead, nonce=nonce)
        response = client.send(request)
        client.verify(response)
        greets(response)
        refused(client.send(request), "request-replayed")
        greets(client.call("POST", "/invoices", BODY, ahead))


def check_tampered_body(client):
    refused(client.send(client.sign("POST", "/invoices", BODY), b'{"item": 2}'), "digest-mismatch")


def check_tampered_target(client):
    request = client.sign("GET", "/hello?a=b")
    request.url = client.url + "/hello?a=c"
    refused(client.send(request), "authentication-failed")


def check_replay(client):
    request = client.sign("POST", "/invoices", BODY)
    client.verify(client.send(request, BODY))
    refused(client.send(request, BODY), "request-replayed")


def check_not_for_us(client):
    """What is changed in an answer, or answers another request, the library refuses."""
    def unverified(response):
        try:
            client.verify(response)
        except InvalidSignature:
            return
        raise AssertionError("it was taken")

    good = client.call("GET", "/hello")
    headers, body, request = good.headers, good.content, good.request
    unverified(Response(201, headers, body, request))
    unverified(Response(200, headers | {"content-type": "text/html"}, body, request))
    unverified(Response(200, headers, body + b" ", request))
    unverified(Response(200, headers, body, client.sign("GET", "/hello")))
    unverified(client.send(Request("GET", client.url + "/hello", {})))


def vector_message(vector):
    """Messages as the library takes them. Fields of the same name are given to it joined, set-cookie apart."""
    def fields(one):
        lines = [(field["name"], field["value"]) for field in one["fields"]]
        return Lines([*lines, ("Signature-Input", one["signatureInput"]), ("Signature", one["signature"])])

    asked = vector.get("request", vector)
    query = "" if asked["query"] is None else f"?{asked['query']}"
    request = Request(asked["method"], f"https://{asked['authority']}{asked['path']}{query}", fields(asked))
    if asked is vector:
        return request
    return Response(vector["status"], fields(vector), b"", request)


class Lines:
    def __init__(self, lines):
        self._lines = lines

    def items(self):
        return self._lines


class Keyless(HTTPMessageVerifier):
    """The responses of a session have no keyid, and the library wants one. All it is asked for here is the signature base."""

    def base(self, message):
        _, covered, _ = next(self._get_sig_inputs_and_signatures(message, expect_tag="countersign"))
        return self._build_signature_base(message, covered_component_ids=list(covered), signature_params=covered.params)[0]


def check_vector(path):
    vector = json.loads(path.read_text())
    message = vector_message(vector)
    key, tag = bytes.fromhex(vector["key_hex"]), TAG if "countersign-direct" in vector["signatureInput"] else "countersign"
    signature = base64.b64decode(vector["signature"][len("cs=:"):-1])

    class Any(MappingKeyResolver):
        def resolve_public_key(self, key_id):
            return key

    if "keyid=" not in vector["signatureInput"]:
        base = Keyless(signature_algorithm=HMAC_SHA256, key_resolver=None).base(message)
        assert base == vector["base"], base
        HMAC_SHA256(public_key=key).verify(signature, base.encode())
        return
    verifier = HTTPMessageVerifier(signature_algorithm=HMAC_SHA256, key_resolver=Any(public_keys={}, private_keys={}))
    verifier.max_clock_skew = timedelta(days=100 * 365)  # the vectors have their own time
    body = bytes.fromhex(vector["content_hex"])
    digested = any(field["name"] == "content-digest" for field in vector["fields"])
    [result] = verifier.verify(message, max_age=None, expect_tag=tag, body=body if digested else None)
    base = "\n".join(f"{name}: {value}" for name, value in result.covered_components.items())
    assert base == vector["base"], base


def settings():
    names = ("COUNTERSIGN_URL", "COUNTERSIGN_API_KEY", "COUNTERSIGN_THEIR_KEY")
    return *(os.environ[name] for name in names), Path(os.environ["COUNTERSIGN_SECRET_FILE"]).read_bytes().rstrip(b"\r\n")


CHECKS = {name.removeprefix("check_").replace("_", "-"): check for name, check in list(globals().items())
          if name.startswith("check_") and name != "check_vector"}


def main(arguments):
    match arguments:
        case ["client", *names]:
            client = Client(*settings())
            checks = [(name, lambda name=name: CHECKS[name](client)) for name in names or CHECKS]
        case ["vectors", folder]:
            paths = sorted(path for kind in ("request", "response", "direct", "stream") for path in Path(folder).glob(f"{kind}-*"))
            checks = [(path.name, lambda path=path: check_vector(path / "vector.json")) for path in paths]
        case _:
            sys.exit(__doc__)
    failed = False
    for name, check in checks:
        try:
            check()
            print("ok", name)
        except Exception as error:  # noqa: BLE001: whatever it is, the check has failed
            failed = True
            print(f"failed {name}: {type(error).__name__}: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
