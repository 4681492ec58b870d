#!/usr/bin/env python3
"""Command line of the independent envelope implementation; core/tests/oracle.rs drives it.

    oracle.py version                                 prints what it runs on; fails if a package is missing
    oracle.py keygen KIND BITS PRIVATE PUBLIC         makes a recipient; PUBLIC is JSON as in a bulletin
    oracle.py open PRIVATE ENVELOPE PLAINTEXT         opens and checks all of it; prints the policy as JSON; PRIVATE
                                                      may be the recovery key as `tobari-keyserver init` wrote it
    oracle.py dek PRIVATE ENVELOPE                    prints the key of its contents in hexadecimal: for searches in logs
    oracle.py seal PLAINTEXT ENVELOPE CHUNK_LOG2 PUBLIC...
    oracle.py lease VECTOR                            opens a signed lease (lease.py); prints its payload, its keys, and
                                                      whether a receipt shows that they are on record, as JSON
    oracle.py vectors DIRECTORY                       writes the test vectors anew (see vectors.py)

Exit code 0: done. 3: the envelope or the lease was refused; the reason is on standard error.
"""

import base64
import json
import sys
from pathlib import Path

from envelope import Header, Maker, Refused, open_envelope
from keys import Private, Public
from lease import LeaseRefused, open_lease
from policy import example_policy
from vectors import shown, write_vectors


def main(arguments):
    match arguments:
        case ["version"]:
            import cryptography
            from cryptography.hazmat.backends.openssl import backend

            print(f"cryptography {cryptography.__version__}, {backend.openssl_version_text()}")
        case ["keygen", kind, bits, private, public]:
            key = Private.generate(kind, int(bits))
            Path(private).write_bytes(key.exported)
            Path(public).write_text(json.dumps(public_to_json(key.public)))
        case ["open", private, envelope, plaintext]:
            opened = open_envelope(Path(envelope).read_bytes(), Private(unarmoured(Path(private).read_bytes())))
            Path(plaintext).write_bytes(opened.plaintext)
            print(json.dumps({"policy": shown(opened.header.policy), "file": opened.header.file_id.hex(), "tail": opened.tail}))
        case ["dek", private, envelope]:
            print(Header(Path(envelope).read_bytes()).unwrap(Private(unarmoured(Path(private).read_bytes()))).hex())
        case ["seal", plaintext, envelope, chunk_log2, *recipients]:
            keys = [public_from_json(json.loads(Path(path).read_text())) for path in recipients]
            maker = Maker(keys, example_policy(), Path(plaintext).read_bytes(), int(chunk_log2))
            Path(envelope).write_bytes(maker.make())
        case ["lease", path]:
            vector = json.loads(Path(path).read_text())
            keys = [bytes.fromhex(vector[name]) for name in ("signing_key", "grant_key")]
            lease, deks, recorded = open_lease(vector["lease"], *keys)
            print(json.dumps({"lease": lease, "deks": [dek.hex() for dek in deks], "recorded": recorded}))
        case ["vectors", directory]:
            write_vectors(Path(directory))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def unarmoured(key):
    """An exported key as it is, or between the lines of a recovery key's text form."""
    lines = key.split(b"\n")
    if lines[0].strip() != b"-----BEGIN TOBARI RECOVERY KEY-----":
        return key
    lines = [line.strip() for line in lines]
    body = lines[lines.index(b"") + 1 : lines.index(b"-----END TOBARI RECOVERY KEY-----")]
    return base64.b64decode(b"".join(body), validate=True)


def public_to_json(key):
    fields = {"rsa_spki": key.spki, "mlkem768": key.mlkem}
    return {name: base64.b64encode(value).decode() for name, value in fields.items() if value}


def public_from_json(fields):
    return Public(*(base64.b64decode(fields[name]) if name in fields else None for name in ("rsa_spki", "mlkem768")))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, LeaseRefused) as refused:
        print(f"refused: {refused}", file=sys.stderr)
        sys.exit(3)
