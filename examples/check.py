#!/usr/bin/env python3
"""Run every example against every other one, and against servers that misbehave.

    python3 examples/check.py

Needs bash, curl, openssl and Python; loopback only; under a minute.
"""

import concurrent.futures
import contextlib
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
CALLER, SERVER = "csk_caller-0123456789ab", "csk_server-0123456789ab"
SECRET, KEY = "css_" + "s3cret/+" * 5, "-key+that/is=the.secret~"
CHALLENGE_1, CHALLENGE_2 = "AAECAwQFBgcICQoLDA0ODw==", "1700000000.b1a0f2f4-6a5b-4c3d-8e2f-0123456789ab"
EVERY_BYTE = bytes(range(256)) * 300 + b"\n\n"


def load_client():
    spec = importlib.util.spec_from_file_location("client", HERE / "python" / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(key, message):
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def clients(profile):
    return {
        "script": ["bash", str(HERE / profile / "call.sh")],
        "python": [sys.executable, str(HERE / "python" / "client.py"), profile],
    }


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.secret, cls.key = cls.folder / "secret", cls.folder / "key"
        cls.secret.write_text(SECRET + "\r\n")
        cls.key.write_text(KEY + "\n")
        cls.cert, cls.cert_key = cls.folder / "cert.pem", cls.folder / "cert-key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
             "-keyout", cls.cert_key, "-out", cls.cert], check=True, capture_output=True)

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
        return kept | {"COUNTERSIGN_SECRET_FILE": str(self.secret), "COUNTERSIGN_API_KEY_FILE": str(self.key)} | more

    @contextlib.contextmanager
    def server(self, profile, *options, tls=False):
        options += ("--cert", str(self.cert), "--key", str(self.cert_key)) if tls else ()
        process = subprocess.Popen(
            [sys.executable, str(HERE / "python" / "server.py"), "--profile", profile, *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=self.environment(COUNTERSIGN_API_KEY=SERVER, COUNTERSIGN_THEIR_KEY=CALLER))
        try:
            line = process.stdout.readline()
            self.assertTrue(line.startswith("listening on http"), line)
            yield line.split()[-1]
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()

    @contextlib.contextmanager
    def rogue(self, answer):
        """A server that does what `answer(method, path, headers, body)` says: status, headers, body."""
        seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen.append((self.command, self.path, self.headers, body))
                status, headers, out = answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Transfer-Encoding" not in headers and "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)
                self.close_connection = "Content-Length" in headers

            do_GET = do_POST = handle_any

            def log_message(self, *arguments):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}", seen
            finally:
                server.shutdown()
                thread.join()

    def call(self, command, url, path="/hello", **more):
        settings = {"COUNTERSIGN_API_KEY": CALLER, "COUNTERSIGN_THEIR_KEY": SERVER,
                    "COUNTERSIGN_CA": str(self.cert), "COUNTERSIGN_URL": url} | more
        done = subprocess.run([*command, path], capture_output=True, timeout=30, env=self.environment(**settings))
        for text in (SECRET, KEY):
            self.assertNotIn(text.encode(), done.stdout + done.stderr, "a secret was printed")
        return done

    def assert_done(self, done, expected=None):
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        if expected is None:
            self.assertEqual(json.loads(done.stdout)["message"], "hello")
        else:
            self.assertEqual(done.stdout, expected)

    def assert_failed(self, done, text, status=1):
        self.assertEqual((done.returncode, done.stdout), (status, b""), done.stderr)
        self.assertIn(text, done.stderr.decode())

    def post(self, url, path, body, **headers):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path,
                           json.dumps(body) if isinstance(body, dict) else body, headers)
        response = connection.getresponse()
        content = json.loads(response.read() or b"{}")
        connection.close()
        return response.status, content, response.headers

    # ---- every client with every server

    def test_every_client_reaches_every_server(self):
        for profile in ("shared-secret", "api-key"):
            for tls in (False, True):
                for options in ((), ("--minimal",)):
                    for name, command in clients(profile).items():
                        # Each with a server of its own: --minimal remembers addresses.
                        with self.subTest(profile=profile, tls=tls, options=options, client=name), \
                                self.server(profile, *options, tls=tls) as url:
                            self.assert_done(self.call(command, url))
                            self.assert_failed(self.call(command, url, "/nothing"), "answered 404: there is nothing")

    def test_per_request_signatures(self):
        for tls in (False, True):
            with self.server("shared-secret", tls=tls) as url:
                for name, command in clients("shared-secret").items():
                    with self.subTest(tls=tls, client=name):
                        self.assert_done(self.call([*command, "--per-request"], url))

    def test_one_secret_for_each_side(self):
        other = self.folder / "other-secret"
        other.write_text("o" * 32)
        with self.server("shared-secret") as url:
            for name, command in clients("shared-secret").items():
                with self.subTest(client=name):
                    done = self.call(command, url, COUNTERSIGN_THEIR_SECRET_FILE=str(other))
                    self.assert_failed(done, "the server's proof is wrong")
                    self.assert_done(self.call(command, url, COUNTERSIGN_THEIR_SECRET_FILE=str(self.secret)))

    # ---- refusals by the server

    def test_wrong_secret_is_refused(self):
        wrong = self.folder / "wrong"
        wrong.write_text("w" * 40)
        for profile in ("shared-secret", "api-key"):
            with self.server(profile) as url:
                for name, command in clients(profile).items():
                    more = {"COUNTERSIGN_SECRET_FILE": str(wrong), "COUNTERSIGN_API_KEY_FILE": str(wrong)}
                    with self.subTest(profile=profile, client=name):
                        self.assert_failed(self.call(command, url, **more), "answered 401: the credentials were not")
                        if profile == "shared-secret":
                            command = [*command, "--per-request"]
                            self.assert_failed(self.call(command, url, **more), "answered 401: the credentials were")

    def proof(self, profile, challenge, echo=False):
        if profile == "shared-secret":
            return {"apiKey": CALLER, "challenge": challenge, "signedChallenge": digest(SECRET, CALLER + challenge)}
        return {"apiKey": KEY, "signedChallenge": digest(KEY, challenge)} | ({"challenge": challenge} if echo else {})

    def challenge(self, url, profile):
        api_key = CALLER if profile == "shared-secret" else KEY
        status, answer, _ = self.post(url, "/authenticate", {"apiKey": api_key})
        self.assertEqual(status, 200)
        return answer["challenge"]

    def test_a_challenge_works_once(self):
        for profile in ("shared-secret", "api-key"):
            with self.subTest(profile=profile), self.server(profile) as url:
                proof = self.proof(profile, self.challenge(url, profile))
                with concurrent.futures.ThreadPoolExecutor(16) as pool:
                    statuses = [r[0] for r in pool.map(lambda _: self.post(url, "/verify_challenge", proof), range(16))]
                self.assertEqual(sorted(statuses), [200] + [401] * 15)

    def test_an_expired_challenge_is_refused(self):
        for profile in ("shared-secret", "api-key"):
            with self.subTest(profile=profile), self.server(profile, "--challenge-lifetime", "1") as url:
                proof = self.proof(profile, self.challenge(url, profile))
                time.sleep(1.2)
                status, _, headers = self.post(url, "/verify_challenge", proof)
                self.assertEqual((status, headers["WWW-Authenticate"]), (401, 'Countersign realm="python-example"'))

    def test_a_wrong_signature_burns_nothing_and_either_case_is_accepted(self):
        for profile in ("shared-secret", "api-key"):
            with self.subTest(profile=profile), self.server(profile) as url:
                right = self.proof(profile, self.challenge(url, profile))
                wrong = right | {"signedChallenge": "0" * 64}
                self.assertEqual(self.post(url, "/verify_challenge", wrong)[0], 401)
                right["signedChallenge"] = right["signedChallenge"].upper()
                self.assertEqual(self.post(url, "/verify_challenge", right)[0], 200)

    def test_outstanding_challenges_are_bounded(self):
        for profile in ("shared-secret", "api-key"):
            with self.subTest(profile=profile), self.server(profile) as url:
                first = self.challenge(url, profile)
                for _ in range(63):
                    self.challenge(url, profile)
                api_key = CALLER if profile == "shared-secret" else KEY
                status, _, headers = self.post(url, "/authenticate", {"apiKey": api_key})
                self.assertEqual((status, headers["Retry-After"]), (429, "30"))
                self.assertEqual(self.post(url, "/verify_challenge", self.proof(profile, first, echo=True))[0], 200)
                self.challenge(url, profile)

    def test_the_server_signs_for_nobody_who_has_not_proved_himself(self):
        with self.server("shared-secret") as url:
            right = self.proof("shared-secret", self.challenge(url, "shared-secret"))
            ours = "/" * 21 + "w=="
            for body in (right | {"signedChallenge": "0" * 64}, right | {"apiKey": SERVER}):
                status, _, headers = self.post(url, "/verify_challenge", body, X_Client_Challenge=ours)
                self.assertEqual((status, headers["X-Signature"]), (401, None))
            status, _, headers = self.post(url, "/hello", None, X_Client_Challenge=ours, X_API_Key=CALLER)
            self.assertEqual((status, headers["X-Signature"]), (401, None))
            status, _, headers = self.post(url, "/verify_challenge", right, X_Client_Challenge="not a challenge")
            self.assertEqual((status, headers["X-Signature"]), (400, None))
            status, _, headers = self.post(url, "/verify_challenge", right, X_Client_Challenge=ours)
            self.assertEqual((status, headers["X-API-Key"]), (200, SERVER))
            self.assertEqual(headers["X-Signature"], digest(SECRET, SERVER + ours))

    def test_the_protected_route_admits_only_what_it_should(self):
        with self.server("shared-secret") as url:
            self.assertEqual(self.post(url, "/hello", None)[0], 401)
            self.assertEqual(self.post(url, "/hello", None, Authorization="Bearer " + "A" * 43)[0], 401)
            known, unknown = (self.post(url, "/hello", None, X_API_Key=key) for key in (CALLER, "u" * 23))
            self.assertEqual((known[0], unknown[0]), (401, 401))
            self.assertEqual(set(known[1]), set(unknown[1]))
            challenge = unknown[1]["challenge"]
            signed = {"X_API_Key": "u" * 23, "X_Challenge": challenge, "X_Signature": digest(SECRET, challenge)}
            self.assertEqual(self.post(url, "/hello", None, **signed)[0], 401)
            self.assertEqual(self.post(url, "/hello", None, X_API_Key=CALLER, Authorization="Bearer x")[0], 400)
            proof = self.proof("shared-secret", self.challenge(url, "shared-secret"))
            token = self.post(url, "/verify_challenge", proof)[1]["token"]
            for body in (None, b"data"):
                status, answer, _ = self.post(url, "/hello", body, Authorization=f"Bearer {token}")
                self.assertEqual((status, answer["receivedBytes"]), (200, len(body or b"")))

    def test_strict_json_vectors(self):
        cases = json.loads((VECTORS / "strict-json" / "vector.json").read_text())
        for profile in ("shared-secret", "api-key"):
            with self.server(profile) as url:
                for case in cases:
                    with self.subTest(profile=profile, why=case["why"]):
                        status, _, _ = self.post(url, "/authenticate", bytes.fromhex(case["body_hex"]))
                        self.assertIn(status, (401,) if case["accept"] else (400, 413))

    # ---- refusals by the clients

    def test_vectors_with_the_python_client(self):
        client = load_client()
        for shape, path in ((client.GUIDE_1_CHALLENGE, "shared-secret/challenge-form"),
                            (client.GUIDE_2_CHALLENGE, "api-key/challenge-form"), (client.API_KEY, "api-key-form"),
                            (client.SECRET, "secret-form"), (client.SIGNATURE, "signature-form")):
            for case in json.loads((VECTORS / path / "vector.json").read_text()):
                with self.subTest(path=path, why=case["why"]):
                    self.assertEqual(shape.fullmatch(case["value"]) is not None, case["accept"])
        for path in VECTORS.glob("*/proof-*/vector.json"):
            vector = json.loads(path.read_text())
            message = bytes.fromhex(vector["message_hex"]).decode()
            self.assertEqual(client.sign(vector.get("secret", vector["apiKey"]), message), vector["signature"], path)

    def test_clients_sign_no_challenge_of_another_shape(self):
        for profile in ("shared-secret", "api-key"):
            cases = json.loads((VECTORS / profile / "challenge-form" / "vector.json").read_text())
            offers = [json.dumps({"challenge": case["value"]}, ensure_ascii=False) for case in cases
                      if not case["accept"]] + ["{}", "[]", "", '{"challenge": null}', '{"challenge": 1}', "\0\0"]
            for name, command in clients(profile).items():
                with self.subTest(profile=profile, client=name):
                    remaining = list(offers)
                    with self.rogue(lambda *_: (200, {}, remaining.pop().encode())) as (url, seen):
                        for _ in offers:
                            self.assertEqual(self.call(command, url).returncode, 1)
                        self.assertEqual({path for _, path, _, _ in seen}, {"/authenticate"})

    def test_clients_sign_no_offer_of_another_shape_per_request(self):
        offers = [None, "", "Countersign", 'Bearer realm="x"', f'Bearer challenge="{CHALLENGE_1}"',
                  f'Countersign realm="x", challenge="{CHALLENGE_2}"', 'Countersign challenge=""',
                  f'Countersign notchallenge="{CHALLENGE_1}"', f'Countersign challenge="{CHALLENGE_1}\x7f"']
        for name, command in clients("shared-secret").items():
            with self.subTest(client=name):
                remaining = list(offers)

                def answer(*_):
                    offer = remaining.pop()
                    return 401, {} if offer is None else {"WWW-Authenticate": offer}, b"{}"

                with self.rogue(answer) as (url, seen):
                    for _ in offers:
                        self.assert_failed(self.call([*command, "--per-request"], url), "another shape")
                    self.assertEqual(len(seen), len(offers))

    def stranger(self, *, key=SERVER, proof=str, hello=(200, {}, b"ok"), token=None):
        """A server written by somebody else, that changes one thing."""
        def answer(method, path, headers, body):
            if path == "/authenticate":
                guide_1 = json.loads(body)["apiKey"] == CALLER
                challenge = CHALLENGE_1 if guide_1 else CHALLENGE_2
                return 200, {}, json.dumps({"more": {"x": 1}, "challenge": challenge}, indent=4).encode()
            if path == "/verify_challenge":
                ours = headers.get("X-Client-Challenge")
                signed = {} if ours is None or key is None else {
                    "x-api-key": key, "x-signature": proof(digest(SECRET, SERVER + ours))}
                return 200, signed, json.dumps({} if token is None else {"token": token}).encode()
            return hello
        return answer

    def test_a_server_that_proves_nothing_gets_no_data(self):
        wrong = {"no proof": {"key": None}, "another key": {"key": CALLER},
                 "an empty signature": {"proof": lambda p: ""}, "half of it": {"proof": lambda p: p[:32]},
                 "another signature": {"proof": lambda p: digest("x" * 32, p)},
                 "our own, sent back": {"proof": lambda p: digest(SECRET, CALLER + CHALLENGE_1)}}
        for why, change in wrong.items():
            for name, command in clients("shared-secret").items():
                with self.subTest(why=why, client=name), self.rogue(self.stranger(**change)) as (url, seen):
                    self.assert_failed(self.call(command, url), "the server")
                    self.assertNotIn("/hello", [path for _, path, _, _ in seen])
        for name, command in clients("shared-secret").items():
            with self.subTest(client=name), self.rogue(self.stranger(proof=str.upper)) as (url, _):
                self.assert_done(self.call(command, url), b"ok")

    def test_bodies_arrive_byte_for_byte(self):
        chunked = (200, {"Transfer-Encoding": "chunked", "Trailer": "X-T"}, b"3\r\na\0b\r\n0\r\nX-T: 1\r\n\r\n")
        for profile in ("shared-secret", "api-key"):
            for name, command in clients(profile).items():
                for hello, expected in (((200, {}, EVERY_BYTE), EVERY_BYTE), ((200, {}, b""), b""),
                                        ((200, {}, b"\n"), b"\n"), ((200, {}, b"+123/<404>"), b"+123/<404>"),
                                        (chunked, b"a\0b"), ((204, {}, b""), b"")):
                    with self.subTest(profile=profile, client=name, size=len(expected)), \
                            self.rogue(self.stranger(hello=hello)) as (url, seen):
                        self.assert_done(self.call(command, url, "/hello?a[]={b}&c=%41/../d"), expected)
                        self.assertEqual(seen[-1][1], "/hello?a[]={b}&c=%41/../d")
                        self.assertNotIn("Authorization", seen[-1][2])

    def test_answers_that_are_no_success(self):
        evil = '{"title": "no\x7f\u009b2J\u202e way"}'.encode()
        escaped = json.dumps({"title": "no\x1b[2J\x07 way"}).encode()
        for profile in ("shared-secret", "api-key"):
            for name, command in clients(profile).items():
                for hello, text in (((302, {"Location": "/other"}, b""), "answered 302"),
                                    ((500, {}, b"<html>\0"), "answered 500"),
                                    ((403, {}, evil), "answered 403: no2J way"),
                                    ((403, {}, escaped), "answered 403"),
                                    ((200, {"Content-Length": "100"}, b"short"), "")):
                    with self.subTest(profile=profile, client=name, hello=hello), \
                            self.rogue(self.stranger(hello=hello)) as (url, seen):
                        done = self.call(command, url)
                        self.assertEqual(done.returncode, 1)
                        self.assertIn(text, done.stderr.decode())
                        self.assertNotRegex(done.stderr, rb"[^\n -~]")
                        self.assertNotIn("/other", [path for _, path, _, _ in seen])

    def test_a_token_that_would_add_a_header_is_not_sent(self):
        for profile in ("shared-secret", "api-key"):
            for name, command in clients(profile).items():
                for token in ("a\r\nX-Evil: 1", "a b", "é"):
                    with self.subTest(profile=profile, client=name), \
                            self.rogue(self.stranger(token=token)) as (url, seen):
                        self.call(command, url)
                        self.assertNotIn("X-Evil", [name for _, _, headers, _ in seen for name in headers])
                        self.assertFalse(any(" b" in headers.get("Authorization", "") for _, _, headers, _ in seen))

    def test_where_a_key_may_be_sent(self):
        for profile in ("shared-secret", "api-key"):
            for name, command in clients(profile).items():
                for url in ("http://example.com", "http://127.0.0.1.example.com", "http://localhost@example.com",
                            "http://[::2]", "ftp://127.0.0.1", "127.0.0.1", ""):
                    with self.subTest(profile=profile, client=name, url=url):
                        self.assert_failed(self.call(command, url), "COUNTERSIGN_URL", status=2)
                with self.subTest(profile=profile, client=name), self.server(profile, tls=True) as url:
                    self.assert_failed(self.call(command, url, COUNTERSIGN_CA=""), "ertificate")
                    self.assertEqual(self.call(command, url.replace("127.0.0.1", "localhost")).returncode, 0)

    def test_usage(self):
        long, short, nul = self.folder / "long", self.folder / "short", self.folder / "nul"
        long.write_text("x" * 257)
        short.write_text("x" * 21)
        nul.write_bytes(b"x" * 40 + b"\0" + b"x" * 40)
        for profile in ("shared-secret", "api-key"):
            for name, command in clients(profile).items():
                for path in ("hello", "", "/a b", "/a\nb", "/a#b"):
                    with self.subTest(profile=profile, client=name, path=path):
                        self.assertEqual(self.call(command, "http://127.0.0.1:1", path).returncode, 2)
                for file in (long, short, nul, self.folder, self.folder / "none"):
                    with self.subTest(profile=profile, client=name, file=file.name):
                        more = {"COUNTERSIGN_SECRET_FILE": str(file), "COUNTERSIGN_API_KEY_FILE": str(file)}
                        self.assertEqual(self.call(command, "http://127.0.0.1:1", **more).returncode, 2)
        for name, command in clients("shared-secret").items():
            with self.subTest(client=name):
                done = self.call(command, "http://127.0.0.1:1", COUNTERSIGN_THEIR_KEY=CALLER)
                self.assert_failed(done, "same API key", status=2)

    def test_no_key_is_among_the_arguments_of_curl(self):
        shim, log = self.folder / "bin" / "curl", self.folder / "arguments"
        shim.parent.mkdir()
        shim.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" >>"{log}"\nexec "{shutil.which("curl")}" "$@"\n')
        shim.chmod(0o755)
        search = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
        for profile, more in (("shared-secret", []), ("shared-secret", ["--per-request"]), ("api-key", [])):
            with self.server(profile) as url:
                self.assert_done(self.call([*clients(profile)["script"], *more], url, PATH=search))
        arguments = log.read_text()
        self.assertIn("--disable", arguments)
        for text in (SECRET, KEY, CALLER, "Bearer", "X-Signature"):
            self.assertNotIn(text, arguments)


if __name__ == "__main__":
    unittest.main()
