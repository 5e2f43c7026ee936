#!/usr/bin/env bash
# Prove who we are to another service, have it prove itself, then fetch a path from it (profile shared-secret).
#
#   call.sh [--per-request] PATH
#
# Needs bash, curl 7.55 or later, openssl and sed. The body of PATH goes to standard output. Settings:
#
#   COUNTERSIGN_URL                base URL of the other service: https://, or http:// to loopback
#   COUNTERSIGN_API_KEY            our API key
#   COUNTERSIGN_THEIR_KEY          their API key
#   COUNTERSIGN_SECRET_FILE        file with the secret of the pair, or ours where each side has one
#   COUNTERSIGN_THEIR_SECRET_FILE  file with theirs, where each side has one
#   COUNTERSIGN_CA                 a PEM file to trust in place of the system's certificates
#
# --per-request uses no endpoint and no token: PATH itself answers with a challenge, and a second request for it carries
# the signature. Then nothing but TLS proves the server.
#
# The secret is an argument of openssl for a moment, where `ps` shows it to other users of this machine. Where there are
# any, use ../python/client.py, or an openssl whose dgst has -hmac-stdin or -hmac-env.
#
# Exit status: 0 done, 1 refused or failed, 2 usage.

set -euo pipefail
export LC_ALL=C # [A-Z] are then 26 bytes, and no other letters

fail() {
  printf 'call.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# ---- settings

require_settings() {
  local name
  for name; do [[ ${!name-} ]] || fail "set $name" 2; done
}

require_api_key() { # NAME
  local key=${!1}
  [[ ! $key =~ [^A-Za-z0-9+/=._~-] ]] && ((${#key} >= 16 && ${#key} <= 128)) ||
    fail "$1 needs 16 to 128 characters of A-Za-z0-9+/=._~-" 2
}

# read_secret NAME: the text of the file that a setting names, without the line end that an editor leaves
read_secret() {
  local text=
  if IFS= read -r -d '' text <"${!1}" || [[ -z $text ]]; then fail "$1 names no text file that can be read" 2; fi
  text=${text%$'\n'}
  text=${text%$'\r'}
  [[ ! $text =~ [^!-~] ]] && ((${#text} >= 32 && ${#text} <= 256)) ||
    fail "the file that $1 names needs a secret of 32 to 256 visible ASCII characters" 2
  printf %s "$text"
}

require_url() {
  local host='([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])' loopback='(localhost|127\.0\.0\.1|\[::1\])'
  local rest='(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$'
  [[ $url =~ ^https://$host$rest || $url =~ ^http://$loopback$rest ]] ||
    fail 'COUNTERSIGN_URL has to begin with https://, or name a loopback address' 2
}

# ---- HTTP: no redirect is followed, and a .curlrc does not count. Keys, challenges and tokens reach curl as files
# (@<(…) is a pipe), so that they are never among its arguments.

request() { # ARGUMENT...: sets status, head and body
  local answer
  answer=$(curl "${curl_options[@]}" --include --suppress-connect-headers --max-filesize 65536 \
    --write-out '\n%{http_code}' "$@") || fail "no usable answer"
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  while [[ $answer =~ ^HTTP/[0-9.]+\ 1[0-9][0-9] ]]; do answer=${answer#*$'\r\n\r\n'}; done
  head=${answer%%$'\r\n\r\n'*}
  body=${answer#*$'\r\n\r\n'}
}

post() { # PATH JSON HEADER...
  request --header 'Content-Type: application/json' --header @<(printf '%s\n' "${@:3}") \
    --data-binary @<(printf %s "$2") "$url$1"
  [[ $status == 200 ]] || fail "$1: $(problem)"
}

fetch() { # HEADER...: the body of PATH to standard output, byte for byte, once it is here and its status is 2xx
  local answer mark='<([0-9]+)>'
  # As base64 the body passes through a variable unharmed, and the status joins it in brackets, which base64 lacks.
  answer=$(
    exec 3>&1
    {
      status=$(curl "${curl_options[@]}" --output /dev/fd/4 --write-out '%{http_code}' \
        --header @<(printf '%s\n' "$@") "$url$path") && printf '<%s>' "$status" >&3
    } 4>&1 | openssl base64
  ) || fail "$path: no usable answer"
  [[ $answer =~ $mark ]]
  status=${BASH_REMATCH[1]}
  answer=${answer/"<$status>"/}
  [[ $status == 2?? ]] || {
    body=$(printf '%s\n' "$answer" | openssl base64 -d | sed 's/[^ -~]//g')
    fail "$path: $(problem)"
  }
  printf '%s\n' "$answer" | openssl base64 -d
}

header() ( # NAME: the values of that header, one a line
  shopt -s nocasematch
  while IFS=: read -r name value; do
    value=${value%$'\r'}
    if [[ $name == "$1" ]]; then printf '%s\n' "${value#"${value%%[! ]*}"}"; fi
  done < <(printf '%s\n' "$head")
)

# member NAME: a string in the JSON answer. This is no JSON parser: whoever uses what it finds checks its form first.
member() {
  printf '%s\n' "${body//[$'\r\n']/ }" | sed -n -e 's#\\/#/#g' -e "s/^.*\"$1\" *: *\"\([^\"\\\\]*\)\".*\$/\1/p"
}

problem() { # the status, and the answer's title without anything that a terminal would act on
  local title
  title=$(member title)
  title=${title//[^ -~]/}
  printf %s "the server answered $status${title:+: ${title:0:200}}"
}

# ---- proof

# sign SECRET MESSAGE: openssl prints a prefix before the digits, which sed strips
sign() {
  printf %s "$2" | openssl dgst -sha256 -hmac "$1" | sed 's/^.* //'
}

# We sign nothing of another shape: a signature over a text that the other side may choose could mean anything.
require_challenge() {
  [[ $challenge =~ ^[A-Za-z0-9+/]{21}[AQgw]==$ ]] || fail "the server's challenge has another shape; not signed"
}

# Not in constant time, and it need not be: our challenge was for one answer, so a wrong guess cannot be improved.
require_server_proof() { # THEIR_CHALLENGE
  local proof
  proof=$(sign "$their_secret" "$COUNTERSIGN_THEIR_KEY$1")
  [[ $(header X-API-Key) == "$COUNTERSIGN_THEIR_KEY" ]] || fail 'the server did not prove itself'
  (shopt -s nocasematch && [[ $(header X-Signature) == "$proof" ]]) || fail "the server's proof is wrong"
}

on_endpoints() {
  post /authenticate "{\"apiKey\":\"$our_key\"}"
  challenge=$(member challenge)
  require_challenge
  local ours signature token
  ours=$(openssl rand -base64 16)
  signature=$(sign "$our_secret" "$our_key$challenge")
  post /verify_challenge "{\"apiKey\":\"$our_key\",\"challenge\":\"$challenge\",\"signedChallenge\":\"$signature\"}" \
    "X-Client-Challenge: $ours"
  require_server_proof "$ours"
  token=$(member token) # a server may give none; then there is nothing to carry
  [[ ! $token =~ [^A-Za-z0-9._~+/=-] ]] || fail "the server's token cannot be sent in a header"
  fetch "${token:+Authorization: Bearer $token}"
}

per_request() {
  request --header @<(printf 'X-API-Key: %s\n' "$our_key") "$url$path"
  [[ $status == 401 ]] || fail "$path: expected a challenge, but $(problem)"
  challenge=$(header WWW-Authenticate | sed -n 's/^[Cc]ountersign \(.*[ ,]\)\{0,1\}challenge="\([^"]*\)".*$/\2/p')
  require_challenge
  local signature
  signature=$(sign "$our_secret" "$our_key$challenge")
  fetch "X-API-Key: $our_key" "X-Challenge: $challenge" "X-Signature: $signature"
}

flow=on_endpoints
if [[ ${1-} == --per-request ]]; then
  flow=per_request
  shift
fi
[[ $# == 1 && $1 == /* && ! $1 =~ [^!-~] && $1 != *'#'* ]] || fail 'usage: call.sh [--per-request] PATH' 2
path=$1

require_settings COUNTERSIGN_URL COUNTERSIGN_API_KEY COUNTERSIGN_THEIR_KEY COUNTERSIGN_SECRET_FILE
url=${COUNTERSIGN_URL%/}
require_url
require_api_key COUNTERSIGN_API_KEY
require_api_key COUNTERSIGN_THEIR_KEY
our_key=$COUNTERSIGN_API_KEY
[[ $our_key != "$COUNTERSIGN_THEIR_KEY" ]] ||
  fail 'both sides have the same API key: our own proof would pass for theirs' 2
our_secret=$(read_secret COUNTERSIGN_SECRET_FILE)
their_secret=$our_secret
if [[ ${COUNTERSIGN_THEIR_SECRET_FILE-} ]]; then their_secret=$(read_secret COUNTERSIGN_THEIR_SECRET_FILE); fi

curl_options=(--disable --silent --show-error --globoff --path-as-is --tlsv1.2 --max-time 30
  --noproxy 'localhost,127.0.0.1,::1')
if [[ ${COUNTERSIGN_CA-} ]]; then curl_options+=(--cacert "$COUNTERSIGN_CA"); fi

$flow
