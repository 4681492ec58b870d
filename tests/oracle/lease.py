"""A lease, checked and opened as docs/spec/lease.md says, with nothing of the product's code: Ed25519, the exact form of the payload, and HPKE
(RFC 9180: base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM)."""

import base64
import hashlib
import hmac
import json
from datetime import datetime, timezone

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM = b"KEM" + bytes([0, 0x10])
SUITE = b"HPKE" + bytes([0, 0x10, 0, 1, 0, 2])
RIGHTS = ["view", "edit", "print", "copy", "send", "decrypt", "relabel", "offline"]
CONTEXT = b"tobari/1 lease\0"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class LeaseRefused(Exception):
    """It is not a lease that this terminal can use."""


def open_lease(document, signing_key, grant_key):
    """The payload of a signed lease, and the DEKs of its files in order. `grant_key` is the public point (65 bytes) and the scalar (32)."""
    payload = base64.b64decode(document["payload"], validate=True)
    try:
        key = Ed25519PublicKey.from_public_bytes(signing_key)
        key.verify(base64.b64decode(document["signature"], validate=True), CONTEXT + payload)
    except InvalidSignature as error:
        raise LeaseRefused("signature") from error
    lease = json.loads(payload)
    if json.dumps(lease, ensure_ascii=False, separators=(",", ":")).encode() != payload:
        raise LeaseRefused("not canonical")
    if lease["version"] != 1 or not micros(lease["term"]["starts_at"]) < micros(lease["term"]["ends_at"]):
        raise LeaseRefused("version or term")
    info = CONTEXT + b"".join(bytes.fromhex(lease[name]) for name in ("organisation", "terminal", "id"))
    open_next = receiver(base64.b64decode(lease["encapsulated_key"]), grant_key[:65], grant_key[65:], info)
    try:
        deks = [open_next(aad(lease, file), base64.b64decode(file["sealed_dek"])) for file in lease["files"]]
    except InvalidTag as error:
        raise LeaseRefused("a key is not bound to what the lease says") from error
    return lease, deks


def aad(lease, file):
    group = file.get("owner_group")
    return b"".join(
        [
            bytes.fromhex(file["file"]),
            bytes.fromhex(file["label"]),
            b"\0" if group is None else b"\1" + bytes.fromhex(group),
            bytes.fromhex(lease["person"]),
            bytes([sum(1 << RIGHTS.index(right) for right in file["rights"])]),
            micros(lease["term"]["starts_at"]).to_bytes(8, "little"),
            micros(file["ends_at"]).to_bytes(8, "little"),
        ]
    )


def micros(text):
    since = datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def receiver(encapsulated, public, scalar, info):
    """The receiving side of one HPKE context: a function that opens the next ciphertext."""
    private = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encapsulated)
    prk = extract(KEM, b"", b"eae_prk", private.exchange(ec.ECDH(), peer))
    shared = expand(KEM, prk, b"shared_secret", encapsulated + public, 32)
    context = b"\0" + extract(SUITE, b"", b"psk_id_hash", b"") + extract(SUITE, b"", b"info_hash", info)
    secret = extract(SUITE, shared, b"secret", b"")
    key = AESGCM(expand(SUITE, secret, b"key", context, 32))
    base = int.from_bytes(expand(SUITE, secret, b"base_nonce", context, 12), "big")
    numbers = iter(range(1 << 32))
    return lambda bound, sealed: key.decrypt((base ^ next(numbers)).to_bytes(12, "big"), sealed, bound)


def extract(suite, salt, label, secret):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, hashlib.sha256)


def expand(suite, prk, label, info, length):
    block, out, number = b"", b"", 1
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([number]), hashlib.sha256)
        out, number = out + block, number + 1
    return out[:length]
