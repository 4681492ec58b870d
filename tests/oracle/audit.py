"""The audit log's formats (docs/spec/audit.md) a second time, from their specifications alone: RFC 6962 hashing by its
definition, signed notes of C2SP, and exports. `python3 audit.py EXPORT KEY [WITNESS]` checks an export."""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf(record):
    return sha256(b"\0" + record)


def node(left, right):
    return sha256(b"\1" + left + right)


def split(size):
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def root(leaves):
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    half = split(len(leaves))
    return node(root(leaves[:half]), root(leaves[half:]))


def root_by_proof(first, leaves, size, proof):
    """The root of a tree in which leaves stand from `first` on; `proof` is used up from its end."""
    proof = list(proof)

    def over(start, end):
        if end - start == 1:
            return leaves[start - first]
        middle = start + split(end - start)
        if first + len(leaves) <= middle:
            right = proof.pop()
            return node(over(start, middle), right)
        if first >= middle:
            left = proof.pop()
            return node(left, over(middle, end))
        right = over(middle, end)
        return node(over(start, middle), right)

    if first + len(leaves) > size or not leaves:
        raise ValueError("records outside of the tree")
    found = over(0, size)
    if proof:
        raise ValueError("a part of the proof is not used")
    return found


def key(text):
    """NAME+HASH+BASE64 to name, hash, public key."""
    name, hash_, encoded = text.split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if raw[0] != 1 or len(raw) != 33:
        raise ValueError("not an Ed25519 key")
    if sha256(name.encode() + b"\n" + raw)[:4].hex() != hash_:
        raise ValueError("the key's hash differs")
    return name, bytes.fromhex(hash_), Ed25519PublicKey.from_public_bytes(raw[1:])


def note(text, verifier):
    """The text of a signed note, if the key signed it."""
    name, hash_, public = verifier
    body, signatures = text.rsplit("\n\n", 1)
    body += "\n"
    signed = False
    for line in signatures.splitlines():
        mark, signer, encoded = line.split(" ")
        if mark != "\u2014":
            raise ValueError("not a signature line")
        raw = base64.b64decode(encoded, validate=True)
        if signer == name and raw[:4] == hash_:
            public.verify(raw[4:], body.encode())
            signed = True
    if not signed:
        raise ValueError("not signed by the key")
    return body


def checkpoint(text, verifier):
    """Origin, size and root of a signed checkpoint."""
    origin, size, encoded = note(text, verifier).splitlines()
    if not origin.startswith(verifier[0] + "/"):
        raise ValueError("of another log")
    return origin, int(size), base64.b64decode(encoded, validate=True)


def witnesses(text, verifier):
    """The checkpoints in a file of signed notes."""
    found, lines, signed = [], [], False
    for line in text.splitlines():
        if signed and not line.startswith("\u2014"):
            found.append(checkpoint("\n".join(lines) + "\n", verifier))
            lines, signed = [], False
        if lines or line.strip():
            lines.append(line)
        signed = signed or line.startswith("\u2014")
    if signed:
        found.append(checkpoint("\n".join(lines) + "\n", verifier))
    return found


def verify(lines, verifier, seen=()):
    """Checks an export; gives first sequence number, number of records and size of the log."""
    head, *records, end = lines
    head, end = json.loads(head), json.loads(end)
    if head["format"] != "tobari/1 audit export":
        raise ValueError("not an export")
    if end["count"] != len(records):
        raise ValueError("another number of records")
    origin, size, signed = checkpoint(end["checkpoint"], verifier)
    leaves = [leaf(record.encode()) for record in records]
    proof = [base64.b64decode(hash_, validate=True) for hash_ in end["proof"]]
    if head["first"] == 1 and not proof:
        found = root(leaves) if len(leaves) == size else None
    else:
        found = root_by_proof(head["first"] - 1, leaves, size, proof)
    if found != signed:
        raise ValueError("not the records that were signed")
    for their_origin, their_size, their_root in seen:
        if their_origin != origin:
            continue
        if their_size > size:
            raise ValueError("a witness saw more records: the end was cut")
        if head["first"] == 1 and root(leaves[:their_size]) != their_root:
            raise ValueError("a witness saw other records")
    return head["first"], len(records), size


def main():
    with open(sys.argv[1], encoding="utf-8", newline="\n") as file:
        lines = file.read().split("\n")
    if lines and not lines[-1]:
        lines.pop()
    verifier = key(sys.argv[2])
    seen = ()
    if len(sys.argv) > 3:
        with open(sys.argv[3], encoding="utf-8") as file:
            seen = witnesses(file.read(), verifier)
    try:
        first, count, size = verify(lines, verifier, seen)
    except (ValueError, KeyError, IndexError, InvalidSignature) as fault:
        print(f"refused: {fault or type(fault).__name__}")
        sys.exit(1)
    print(f"good: records {first} to {first + count - 1} of {size}")


if __name__ == "__main__":
    main()
