#!/usr/bin/env node
// `http-message-signatures` of npm against a server of cs1 that takes requests without a handshake, and as verifier of the
// vectors.
//
//     interop.js client [CHECK …]    COUNTERSIGN_URL, COUNTERSIGN_API_KEY, COUNTERSIGN_THEIR_KEY, COUNTERSIGN_SECRET_FILE
//     interop.js vectors FOLDER      vectors/cs1
//
// Prints a line for each check, `ok NAME` or `failed NAME: WHY`. Exit status 1 if one failed.
'use strict';

const assert = require('node:assert/strict');
const { createHash, createHmac, randomBytes } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { createSigner, createVerifier, httpbis } = require('http-message-signatures');
const { parseDictionary } = require('structured-headers');

const TAG = 'countersign-direct';
const REQUEST = ['@method', '@authority', '@path', '@query'];
const RESPONSE = ['"@status"', ...REQUEST.map((name) => `"${name}";req`), '"signature-input";req;key="cs"',
  '"signature";req;key="cs"', '"content-digest"', '"content-type"'];
const HOUR = 3600;
const BODY = Buffer.from('{"item": 1}');
const NOTHING = Buffer.alloc(0);

function lp(...parts) {
  return Buffer.concat(parts.flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.byteLength(part));
    return [length, Buffer.from(part)];
  }));
}

const hmac = (key, ...parts) => createHmac('sha256', key).update(Buffer.concat(parts)).digest();

// Kreq and Krsp: specs/cs1.md, section 2.
function keysOfPair(secret, client, server) {
  const expand = (key, info) => hmac(key, info, Buffer.from([1]));
  const kd = expand(hmac('countersign/1', secret), lp('dir', client, server));
  return [expand(kd, lp('req')), expand(kd, lp('rsp'))];
}

const digestOf = (content) => `sha-256=:${createHash('sha256').update(content).digest('base64')}:`;

class Client {
  constructor(url, client, server, secret) {
    this.url = url;
    const [toServer, toClient] = keysOfPair(secret, client, server);
    this.key = createSigner(toServer, 'hmac-sha256', `${client}:${server}`);
    this.verifier = { id: this.key.id, algs: ['hmac-sha256'], verify: createVerifier(toClient, 'hmac-sha256') };
  }

  sign(method, target, body, { ahead = 0, nonce = randomBytes(16).toString('hex') } = {}) {
    const headers = body ? { 'content-type': 'application/json', 'content-digest': digestOf(body) } : {};
    const created = new Date(Date.now() + ahead * 1000);
    return httpbis.signMessage({
      key: this.key,
      name: 'cs',
      fields: [...REQUEST, ...Object.keys(headers)],
      params: ['created', 'expires', 'nonce', 'alg', 'keyid', 'tag'],
      paramValues: { created, expires: new Date(created.getTime() + 20000), nonce, tag: TAG },
    }, { method, url: this.url + target, headers });
  }

  async send(request, body = NOTHING) {
    const answer = await new Promise((resolve, reject) => {
      const sent = http.request(request.url, {
        method: request.method, headers: request.headers, agent: false, timeout: 30000,
      }, resolve);
      sent.on('error', reject).on('timeout', () => sent.destroy(new Error('no answer')));
      sent.end(body);
    });
    const content = [];
    for await (const piece of answer) content.push(piece);
    return { status: answer.statusCode, headers: answer.headers, content: Buffer.concat(content), request };
  }

  // Signature, coverage, and digest of the content.
  async verify({ status, headers, content, request }) {
    const right = await httpbis.verifyMessage({
      keyLookup: async ({ keyid, tag }) => (keyid === this.key.id && tag === TAG ? this.verifier : null),
      requiredParams: ['created', 'tag'],
      tolerance: 5,
    }, { status, headers }, request);
    assert.equal(right, true, 'the signature is wrong');
    // The library compares names only, and forgets their parameters.
    const [[covered]] = [...parseDictionary(headers['signature-input']).values()];
    const names = covered.map(([name, parameters]) => `"${name}"` + [...parameters].map(
      ([key, value]) => (value === true ? `;${key}` : `;${key}="${value}"`)).join(''));
    for (const component of RESPONSE) assert.ok(names.includes(component), `${component} is not covered`);
    assert.equal(headers['content-digest'], digestOf(content), 'the content is another one');
  }

  // The verified answer. Signs once more, with the server's nonce, where it asks for that.
  async call(method, target, body, options = {}) {
    let response = await this.send(await this.sign(method, target, body, options), body);
    const nonce = askedFor(response);
    if (nonce) response = await this.send(await this.sign(method, target, body, { ...options, nonce }), body);
    await this.verify(response);
    return response;
  }
}

// The nonce that the server wants to be signed (RFC 9421, section 5).
function askedFor({ status, headers }) {
  if (status !== 401 || !headers['accept-signature']) return undefined;
  const [, parameters] = parseDictionary(headers['accept-signature']).get('cs');
  assert.equal(parameters.get('tag'), TAG);
  return parameters.get('nonce');
}

function refused({ status, headers, content }, kind) {
  assert.equal(status, 401);
  assert.equal(JSON.parse(content).type, `urn:countersign:problem:${kind}`);
  assert.equal(headers.signature, undefined);
}

function greets({ status, content }) {
  assert.equal(status, 200);
  assert.equal(JSON.parse(content).service, 'billing');
}

const CHECKS = {
  async get(client) {
    greets(await client.call('GET', '/hello?a=b&c=%20'));
  },
  async post(client) {
    greets(await client.call('POST', '/invoices', BODY));
  },
  async 'skewed-clock'(client) {
    for (const ahead of [-HOUR, HOUR]) {
      const first = await client.send(await client.sign('GET', '/hello', undefined, { ahead }));
      refused(first, 'nonce-required');
      const nonce = askedFor(first);
      assert.match(nonce, /^csn\./);
      const request = await client.sign('GET', '/hello', undefined, { ahead, nonce });
      const response = await client.send(request);
      await client.verify(response);
      greets(response);
      refused(await client.send(request), 'request-replayed');
      greets(await client.call('POST', '/invoices', BODY, { ahead }));
    }
  },
  async 'tampered-body'(client) {
    refused(await client.send(await client.sign('POST', '/invoices', BODY), Buffer.from('{"item": 2}')), 'digest-mismatch');
  },
  async 'tampered-target'(client) {
    const request = await client.sign('GET', '/hello?a=b');
    refused(await client.send({ ...request, url: `${client.url}/hello?a=c` }), 'authentication-failed');
  },
  async replay(client) {
    const request = await client.sign('POST', '/invoices', BODY);
    await client.verify(await client.send(request, BODY));
    refused(await client.send(request, BODY), 'request-replayed');
  },
  // What is changed in an answer, or answers another request, is not verified.
  async 'not-for-us'(client) {
    const good = await client.call('GET', '/hello');
    const request = await client.sign('GET', '/hello');
    for (const changed of [
      { ...good, status: 201 },
      { ...good, headers: { ...good.headers, 'content-type': 'text/html' } },
      { ...good, content: Buffer.concat([good.content, Buffer.from(' ')]) },
      { ...good, request },
      await client.send({ method: 'GET', url: `${client.url}/hello`, headers: {} }),
    ]) await assert.rejects(client.verify(changed));
  },
};

// Messages as the library takes them.
function vectorMessage(vector, like) {
  const headers = {};
  for (const { name, value } of vector.fields) {
    headers[name] = name in headers ? [headers[name], value].flat() : value;
  }
  return { ...like, headers: { ...headers, 'signature-input': vector.signatureInput, signature: vector.signature } };
}

async function checkVector(file) {
  const vector = JSON.parse(fs.readFileSync(file));
  const asked = vector.request ?? vector;
  const query = asked.query === null ? '' : `?${asked.query}`;
  const request = vectorMessage(asked, { method: asked.method, url: `https://${asked.authority}${asked.path}${query}` });
  const response = vector.request && vectorMessage(vector, { status: vector.status });
  const verify = createVerifier(Buffer.from(vector.key_hex, 'hex'), 'hmac-sha256');
  let base;
  const seen = (data, signature) => {
    base = data.toString();
    return verify(data, signature);
  };
  const config = { keyLookup: async () => ({ verify: seen }), tolerance: 1e10 }; // the vectors have their own time
  const right = await httpbis.verifyMessage(config, response ?? request, response && request);
  assert.equal(base, vector.base);
  assert.equal(right, true);
}

function client() {
  const { COUNTERSIGN_URL, COUNTERSIGN_API_KEY, COUNTERSIGN_THEIR_KEY, COUNTERSIGN_SECRET_FILE } = process.env;
  const secret = fs.readFileSync(COUNTERSIGN_SECRET_FILE, 'latin1').replace(/\r?\n$/, '');
  return new Client(COUNTERSIGN_URL, COUNTERSIGN_API_KEY, COUNTERSIGN_THEIR_KEY, Buffer.from(secret, 'latin1'));
}

async function main([mode, ...given]) {
  let checks;
  if (mode === 'client') {
    const one = client();
    checks = (given.length ? given : Object.keys(CHECKS)).map((name) => [name, () => CHECKS[name](one)]);
  } else if (mode === 'vectors' && given.length === 1) {
    const names = fs.readdirSync(given[0]).filter((name) => /^(request|response|direct|stream)-/.test(name)).sort();
    checks = names.map((name) => [name, () => checkVector(path.join(given[0], name, 'vector.json'))]);
  } else {
    console.error('usage: interop.js client [CHECK …]\n       interop.js vectors FOLDER');
    process.exitCode = 2;
    return;
  }
  for (const [name, check] of checks) {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`failed ${name}: ${error.message}`);
    }
  }
}

main(process.argv.slice(2));
