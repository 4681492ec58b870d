"""A lease, checked and opened as docs/spec/lease.md says, with nothing of the product's code: Ed25519, the exact form of the payload, HPKE
(RFC 9180: base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), and the receipt of its keys by the log's formats (audit.py)."""

import base64
import hashlib
import hmac
import json
import re
from datetime import datetime, timezone

import audit
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM = b"KEM" + bytes([0, 0x10])
SUITE = b"HPKE" + bytes([0, 0x10, 0, 1, 0, 2])
RIGHTS = ["view", "edit", "print", "copy", "send", "decrypt", "relabel", "offline"]
CONTEXT = b"tobari/1 lease\0"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


# The keys of each object in their order; those after "?" may be absent.
LEASE = "version id organisation terminal person login name issued_at term opens ?label encapsulated_key files".split()
TERM = "starts_at ends_at".split()
FILE = "file label ?owner_group ?name rights ends_at audit sealed_dek".split()
OPENS = {"unlimited": ["kind"], "at-most": ["kind", "count"]}
ID = re.compile("[0-9a-f]{32}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z")
MAX_FILES = 1024


class LeaseRefused(Exception):
    """It is not a lease that this terminal can use."""


def open_lease(document, signing_key, grant_key):
    """The payload of a signed lease, the DEKs of its files in order, and whether a receipt shows that each is on record.
    `grant_key` is the public point (65 bytes) and the scalar (32)."""
    try:
        return opened(document, signing_key, grant_key)
    except InvalidSignature as error:
        raise LeaseRefused("signature") from error
    except InvalidTag as error:
        raise LeaseRefused("a key is not bound to what the lease says") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise LeaseRefused(f"malformed: {error}") from error


def opened(document, signing_key, grant_key):
    payload = base64.b64decode(document["payload"], validate=True)
    public = Ed25519PublicKey.from_public_bytes(signing_key)
    public.verify(base64.b64decode(document["signature"], validate=True), CONTEXT + payload)
    lease = json.loads(payload)
    if json.dumps(lease, ensure_ascii=False, separators=(",", ":")).encode() != payload or not has_form(lease):
        raise LeaseRefused("not canonical")
    start, end = (micros(lease["term"][name]) for name in TERM)
    if lease["version"] != 1 or not start < end or len(lease["files"]) > MAX_FILES:
        raise LeaseRefused("version, term or number of files")
    if any(micros(file["ends_at"]) > end for file in lease["files"]):
        raise LeaseRefused("a file ends after its lease")
    info = CONTEXT + b"".join(bytes.fromhex(lease[name]) for name in ("organisation", "terminal", "id"))
    open_next = receiver(base64.b64decode(lease["encapsulated_key"]), grant_key[:65], grant_key[65:], info)
    deks = [open_next(aad(lease, file), base64.b64decode(file["sealed_dek"])) for file in lease["files"]]
    receipt = document.get("receipt")
    if receipt is not None:
        check_receipt(lease, receipt, signing_key, public)
    return lease, deks, receipt is not None


def has_form(lease):
    """Section 1: exactly these keys in this order, each value in the one form that it has."""
    ids = [lease[name] for name in ("id", "organisation", "terminal", "person", "label") if name in lease]
    times = [lease["issued_at"], *lease["term"].values()]
    encoded = [lease["encapsulated_key"]]
    good = in_order(lease, LEASE) and in_order(lease["term"], TERM) and list(lease["opens"]) == OPENS[lease["opens"]["kind"]]
    good = good and lease["opens"].get("count", 1) >= 1
    for file in lease["files"]:
        good = good and in_order(file, FILE)
        ids += [file[name] for name in ("file", "label", "owner_group") if name in file]
        times.append(file["ends_at"])
        encoded.append(file["sealed_dek"])
        good = good and file["rights"] == [right for right in RIGHTS if right in file["rights"]]
    good = good and all(ID.fullmatch(text) for text in ids) and all(TIME.fullmatch(text) for text in times)
    return good and all(base64.b64encode(base64.b64decode(text, validate=True)).decode() == text for text in encoded)


def in_order(fields, names):
    expected = [name.lstrip("?") for name in names if not name.startswith("?") or name[1:] in fields]
    return list(fields) == expected


def check_receipt(lease, receipt, signing_key, public):
    """Section 3: the log that the organisation signed has a record of the release of each key, in order."""
    name = f"tobari/audit/{lease['organisation']}"
    hash_ = audit.sha256(name.encode() + b"\n\1" + signing_key)[:4]
    origin, size, signed = audit.checkpoint(receipt["checkpoint"], (name, hash_, public))
    epoch = origin.removeprefix(name + "/")
    if not epoch.isdecimal() or int(epoch) < 1:
        raise LeaseRefused("the checkpoint is of another log")
    records, first = receipt["records"], receipt["first"]
    leaves = [audit.leaf(record.encode()) for record in records]
    proof = [base64.b64decode(hash_, validate=True) for hash_ in receipt["proof"]]
    if first < 1 or audit.root_by_proof(first - 1, leaves, size, proof) != signed:
        raise LeaseRefused("the records are not in the log that was signed")
    for number, record, file in zip(range(first, first + len(records)), records, lease["files"], strict=True):
        said = json.loads(record)
        wanted = {
            "act": "lease-key",
            "file": file["file"],
            "rights": file["rights"],
            "object": f"lease/{lease['id']}",
            "detail": f"person {lease['person']}, terminal {lease['terminal']}",
        }
        if file["audit"] != number or any(said.get(name) != value for name, value in wanted.items()):
            raise LeaseRefused(f"record {number} says something else")


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
