"""Policy and recipients in CBOR: docs/spec/envelope.md, "Policy" and "Recipients"; and faults of both."""

from cbor import encode
from keys import HYBRID, RSA_OAEP

# Number, type and largest value or exact length of each entry of version 1.
FIELDS = {
    "organisation": (1, bytes, 16),
    "label": (2, bytes, 16),
    "label_level": (3, int, 0xFFFF),
    "label_name": (4, str, 255),
    "owner_group": (5, bytes, 16),
    "sealed_at": (6, int, 253_402_207_200_999),  # milliseconds since 1970, to the end of the year 9999
    "sealer": (7, bytes, 16),
    "generation": (8, int, 0xFFFFFFFF),
}
OPTIONAL = {"owner_group"}
MAX_ENTRIES = 64


class Malformed(Exception):
    """Canonical CBOR, but not of a policy or a list of recipients."""


def parse_policy(value):
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        raise Malformed("policy is not a map of at most 64 entries")
    for key, item in value.items():
        if not isinstance(key, int) or isinstance(key, bool) or not -(1 << 63) <= key < 1 << 63:
            raise Malformed("key is not an integer of 64 bits")
        if isinstance(item, (bool, list, dict)) or item is None or (isinstance(item, int) and item < 0):
            raise Malformed("value is not unsigned, bytes or text")
        if key < 0:
            raise Malformed(f"unknown critical entry {key}")
    policy = {}
    for name, (number, kind, limit) in FIELDS.items():
        if number not in value:
            if name not in OPTIONAL:
                raise Malformed(f"{name} is missing")
            policy[name] = None
            continue
        item = value[number]
        if not isinstance(item, kind):
            raise Malformed(f"{name} has the wrong type")
        if kind is int and item > limit:
            raise Malformed(f"{name} is too large")
        if kind is bytes and len(item) != limit:
            raise Malformed(f"{name} has the wrong length")
        if kind is str and len(item.encode()) > limit:
            raise Malformed(f"{name} is too long")
        policy[name] = item
    return policy


def make_policy(policy):
    return {FIELDS[name][0]: value for name, value in policy.items() if value is not None}


def parse_array(value):
    if not isinstance(value, list) or not 1 <= len(value) <= 16:
        raise Malformed("recipients are not an array of 1 to 16")
    key_ids = [stanza[1] for stanza in value if isinstance(stanza, list) and len(stanza) == 4]
    for index, key_id in enumerate(key_ids):
        if key_id in key_ids[:index]:
            raise Malformed("a recipient twice")
    return value


def parse_stanza(value):
    if not isinstance(value, list) or len(value) != 4:
        raise Malformed("a stanza is not an array of 4")
    kind, key_id, encapsulation, wrapped = value
    if kind not in (RSA_OAEP, HYBRID) or not all(isinstance(item, bytes) for item in value[1:]):
        raise Malformed("kind or types of a stanza")
    classical = len(encapsulation) - (1088 if kind == HYBRID else 0)
    if len(key_id) != 32 or len(wrapped) != 48 or classical not in (256, 384, 512):
        raise Malformed("lengths of a stanza")
    return kind, key_id, encapsulation, wrapped


def make_stanza(kind, key_id, encapsulation, wrapped):
    return [kind, key_id, encapsulation, wrapped]


def example_policy():
    return {
        "organisation": bytes(range(0x10, 0x20)),
        "label": bytes(range(0x20, 0x30)),
        "label_level": 20,
        "label_name": "社外秘",
        "owner_group": bytes(range(0x30, 0x40)),
        "sealed_at": 1_795_219_200_000,
        "sealer": bytes(range(0x40, 0x50)),
        "generation": 1,
    }


def faulty_policies():
    good = make_policy(example_policy())
    for name, (number, _, _) in FIELDS.items():
        if name not in OPTIONAL:
            yield f"policy-without-{name.replace('_', '-')}", encode({key: item for key, item in good.items() if key != number})
    for name, changes in (
        ("policy-critical-entry", {-1: 0}),
        ("policy-critical-entry-far", {-(1 << 63): 0}),
        ("policy-key-beyond-64-bits", {1 << 63: 0}),
        ("policy-text-key", {"label": b""}),
        ("policy-boolean-value", {9: True}),
        ("policy-null-value", {5: None}),
        ("policy-array-value", {9: []}),
        ("policy-negative-value", {9: -1}),
        ("policy-organisation-too-short", {1: bytes(15)}),
        ("policy-label-too-long", {2: bytes(17)}),
        ("policy-label-as-text", {2: "0123456789abcdef"}),
        ("policy-level-too-large", {3: 0x10000}),
        ("policy-level-as-bytes", {3: b"\x14"}),
        ("policy-name-too-long", {4: "a" * 256}),
        ("policy-name-as-bytes", {4: "社外秘".encode()}),
        ("policy-owner-group-empty", {5: b""}),
        ("policy-time-too-large", {6: (1 << 64) - 1}),
        ("policy-generation-too-large", {8: 1 << 32}),
        ("policy-65-entries", {number: 0 for number in range(100, 100 + 65 - len(good))}),
    ):
        yield name, encode({**good, **changes})
    encoded = encode(good)
    level, name = encode(3) + encode(20), encode("社外秘")
    assert level in encoded and name in encoded
    for label, old, new in (
        ("policy-number-in-longer-form", level, b"\x03\x18\x14"[:1] + b"\x19\x00\x14"),
        ("policy-key-in-longer-form", level, b"\x18\x03" + encode(20)),
        ("policy-length-in-longer-form", name, b"\x78\x09" + name[1:]),
        ("policy-name-not-utf-8", name, name[:1] + b"\xff" * 9),
        ("policy-name-in-pieces", name, b"\x7f" + name + b"\xff"),
        ("policy-tagged-value", level, b"\x03\xc1" + encode(20)),
        ("policy-float-value", level, b"\x03\xf9\x4d\x00"),
    ):
        yield label, encoded.replace(old, new)
