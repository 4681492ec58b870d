#!/usr/bin/env bash
# schemathesis against the key server's own OpenAPI document: requests that the document allows and requests that it does not,
# by an enrolled terminal with an administrator's session. No answer may be a 5xx, and each must be as the document says.
#
#   bash tests/api/run.sh [EXAMPLES]     EXAMPLES for each route; 30 when missing
#
# The server, its database and the terminal's keys live in a temporary folder. schemathesis is installed into a virtual environment
# below the build's folder, once. Exit status 77: cannot run here, and why on standard error.
set -euo pipefail
cd "$(dirname "$0")/../.."

cannot() { echo "$*" >&2; exit 77; }
for program in python3 openssl curl jq; do
    command -v "$program" >/dev/null || cannot "$program is not installed"
done
examples=${1:-30}
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)
profile=${TOBARI_API_PROFILE:-dev}
output=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
cargo build --quiet --locked --profile "$profile" --workspace --bins

venv=$target/schemathesis
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv" || cannot 'no virtual environments (python3-venv)'
    "$venv/bin/pip" install --quiet 'schemathesis==4.*' || { rm -rf "$venv"; cannot 'schemathesis cannot be installed'; }
fi

directory=$(mktemp -d)
server=
clean() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$directory"
}
trap clean EXIT

password='Api-test-2026'
echo "$password" >"$directory/password"
"$output/tobari-keyserver" init --data-dir "$directory/data" --organisation 'みほん市' --admin admin \
    --admin-password-file "$directory/password" --recovery-key-out "$directory/recovery.key" \
    --token-out "$directory/token" >/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$output/tobari-keyserver" serve --data-dir "$directory/data" --listen "127.0.0.1:$port" >"$directory/log" 2>&1 &
server=$!
base=https://127.0.0.1:$port
for _ in $(seq 600); do
    if curl --silent --insecure "$base/healthz" >/dev/null; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$directory/log" >&2; exit 1; }
    sleep 0.1
done

# A terminal, as tobarid enrols it.
openssl ecparam -genkey -name prime256v1 -noout -out "$directory/key.pem" 2>/dev/null
openssl req -new -key "$directory/key.pem" -subj /CN=api -out "$directory/csr.pem" 2>/dev/null
grant_key=$(openssl ecparam -genkey -name prime256v1 -noout 2>/dev/null | openssl ec -pubout -outform DER 2>/dev/null |
    tail -c 65 | base64 -w0)
jq -n --rawfile csr "$directory/csr.pem" --arg token "$(tr -d '\n' <"$directory/token")" --arg key "$grant_key" \
    '{token: $token, name: "api", csr_pem: $csr, grant_key: $key}' >"$directory/enrol.json"
curl --silent --fail --insecure --json @"$directory/enrol.json" "$base/v1/terminals/enrol" >"$directory/enrolled.json"
jq -r .certificate_pem "$directory/enrolled.json" >"$directory/certificate.pem"
jq -r .ca_pem "$directory/enrolled.json" >"$directory/ca.pem"
ask=(curl --silent --fail --cacert "$directory/ca.pem" --cert "$directory/certificate.pem" --key "$directory/key.pem")
bearer=$("${ask[@]}" --json "$(jq -n --arg password "$password" '{login: "admin", password: $password}')" \
    "$base/v1/sessions" | jq -r .token)
"${ask[@]}" -H "Authorization: Bearer $bearer" -X POST "$base/v1/admin/presets/kigyo" >/dev/null

# Not asked: what ends the session that asks, what holds the answer back, and what shuts this terminal or this person out.
"$venv/bin/schemathesis" run "$base/openapi.json" --url "$base" --tls-verify "$directory/ca.pem" \
    --request-cert "$directory/certificate.pem" --request-cert-key "$directory/key.pem" \
    --header "Authorization: Bearer $bearer" --phases examples,coverage,fuzzing --max-examples "$examples" --seed 1 \
    --exclude-path /v1/changes --exclude-path /v1/sessions/current --exclude-path /v1/assertions \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --generation-allow-x00 false --no-color
