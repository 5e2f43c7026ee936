#!/usr/bin/env bash
# Prove who we are to another service, then fetch a path from it (profile api-key).
#
#   call.sh PATH
#
# Needs bash, curl 7.55 or later, openssl and sed. The body of PATH goes to standard output. Settings:
#
#   COUNTERSIGN_URL           base URL of the other service: https://, or http:// to loopback
#   COUNTERSIGN_API_KEY_FILE  file with the API key, which is also the secret
#   COUNTERSIGN_CA            a PEM file to trust in place of the system's certificates
#
# In this profile the key itself is sent in the body of two requests: whoever reads one of them has it, and all that
# prevents this, or proves the server, is TLS.
#
# The key is an argument of openssl for a moment, where `ps` shows it to other users of this machine. Where there are
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

# read_key NAME: the text of the file that a setting names, without the line end that an editor leaves
read_key() {
  local text=
  if IFS= read -r -d '' text <"${!1}" || [[ -z $text ]]; then fail "$1 names no text file that can be read" 2; fi
  text=${text%$'\n'}
  text=${text%$'\r'}
  [[ ! $text =~ [^A-Za-z0-9+/=._~-] ]] && ((${#text} >= 22 && ${#text} <= 128)) ||
    fail "the file that $1 names needs a key of 22 to 128 characters of A-Za-z0-9+/=._~-" 2
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

request() { # ARGUMENT...: sets status and body
  local answer
  answer=$(curl "${curl_options[@]}" --include --suppress-connect-headers --max-filesize 65536 \
    --write-out '\n%{http_code}' "$@") || fail "no usable answer"
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  while [[ $answer =~ ^HTTP/[0-9.]+\ 1[0-9][0-9] ]]; do answer=${answer#*$'\r\n\r\n'}; done
  body=${answer#*$'\r\n\r\n'}
}

post() { # PATH JSON
  request --header 'Content-Type: application/json' --data-binary @<(printf %s "$2") "$url$1"
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

# sign KEY MESSAGE: openssl prints a prefix before the digits, which sed strips
sign() {
  printf %s "$2" | openssl dgst -sha256 -hmac "$1" | sed 's/^.* //'
}

# We sign nothing of another shape: a signature over a text that the other side may choose could mean anything.
require_challenge() {
  [[ $challenge =~ ^[0-9]{10}\.[0-9A-Za-z-]{10,64}$ ]] || fail "the server's challenge has another shape; not signed"
}

[[ $# == 1 && $1 == /* && ! $1 =~ [^!-~] && $1 != *'#'* ]] || fail 'usage: call.sh PATH' 2
path=$1

require_settings COUNTERSIGN_URL COUNTERSIGN_API_KEY_FILE
url=${COUNTERSIGN_URL%/}
require_url
key=$(read_key COUNTERSIGN_API_KEY_FILE)

curl_options=(--disable --silent --show-error --globoff --path-as-is --tlsv1.2 --max-time 30
  --noproxy 'localhost,127.0.0.1,::1')
if [[ ${COUNTERSIGN_CA-} ]]; then curl_options+=(--cacert "$COUNTERSIGN_CA"); fi

post /authenticate "{\"apiKey\":\"$key\"}"
challenge=$(member challenge)
require_challenge
signature=$(sign "$key" "$challenge")
post /verify_challenge "{\"apiKey\":\"$key\",\"signedChallenge\":\"$signature\"}"
token=$(member token) # a server may give none; then there is nothing to carry
[[ ! $token =~ [^A-Za-z0-9._~+/=-] ]] || fail "the server's token cannot be sent in a header"
fetch "${token:+Authorization: Bearer $token}"
