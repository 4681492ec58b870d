"""Test vectors: one fault for each file, with the expected result. Repeatable byte for byte.

Written to core/tests/vectors: NAME.tbr, vectors.json and the private keys NAME.key, which are published and
protect nothing. Unless a vector says otherwise, everything else in it is right: MACs are computed over the
faulty bytes with the true key, as a hostile sealer would, so that only the rule under test refuses the file.
"""

import hashlib
import json
import struct

from cbor import encode
from kyber_py.ml_kem import ML_KEM_768

from envelope import DIRTY, Maker, ROOT, Refused, header_copy, open_envelope
from keys import HYBRID, RSA_OAEP, Private, Public, gcm_seal, key_encryption_key, oaep_encrypt
from policy import example_policy, faulty_policies, make_policy, make_stanza

HELLO = "こんにちは".encode()
KEYS = {"label": (RSA_OAEP, 2048), "recovery": (HYBRID, 2048), "stranger": (RSA_OAEP, 2048), "rsa3072": (RSA_OAEP, 3072), "rsa4096": (RSA_OAEP, 4096)}


def write_vectors(directory):
    directory.mkdir(parents=True, exist_ok=True)
    keys = {name: stored_key(directory / f"{name}.key", *kind) for name, kind in KEYS.items()}
    for old in directory.glob("*.tbr"):
        old.unlink()
    index = []
    for vector in Vectors(keys).all():
        data = vector.pop("data")
        check(vector, data, keys)
        (directory / f"{vector['name']}.tbr").write_bytes(data)
        index.append(vector)
    text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    (directory / "vectors.json").write_text(text, encoding="utf-8")
    print(f"{len(index)} vectors")


def check(vector, data, keys):
    """The decoder of this folder has to agree with what the vector says of itself."""
    try:
        opened = open_envelope(data, keys[vector["key"]])
    except Refused as refused:
        assert vector["expect"] == "refused", f"{vector['name']}: {refused}"
        assert vector["stage"] == refused.stage, f"{vector['name']}: {refused}"
        return
    vector["file"] = opened.header.file_id.hex()
    vector["policy"] = shown(opened.header.policy)
    assert vector["expect"] == "opens", f"{vector['name']} opens"
    assert vector["sha256"] == hashlib.sha256(opened.plaintext).hexdigest(), vector["name"]
    assert vector.get("tail") == opened.tail, vector["name"]


def shown(policy):
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in policy.items()}


def stored_key(path, kind, bits):
    """Keys are made once: RSA keys cannot be made from a seed in a standard way."""
    if not path.exists():
        path.write_bytes(Private.generate(kind, bits).exported)
    return Private(path.read_bytes())


class Vectors:
    def __init__(self, keys):
        self.keys = keys
        self.label, self.recovery = keys["label"].public, keys["recovery"].public

    def all(self):
        for part in (self.valid, self.fixed_fields, self.policies, self.recipients, self.keys_and_macs, self.slots, self.sizes, self.bodies):
            yield from part()

    def maker(self, name, plaintext=HELLO, recipients=None, policy=None, chunk_log2=12):
        stream = Stream(name)
        return Maker(recipients or [self.label], policy or example_policy(), plaintext, chunk_log2, stream.take)

    # What opens.

    def valid(self):
        for name, plaintext in (
            ("empty", b""),
            ("one-byte", b"\0"),
            ("hello", HELLO),
            ("one-chunk", pattern(4096)),
            ("one-chunk-and-a-byte", pattern(4097)),
            ("three-chunks", pattern(10_000)),
            ("zeros", bytes(8192)),
        ):
            yield opens(name, self.maker(name, plaintext).make(), plaintext)
        yield opens("default-chunk-size", self.maker("default-chunk-size", pattern(20_000), chunk_log2=14).make(), pattern(20_000))
        yield opens("largest-chunk-size", self.maker("largest-chunk-size", HELLO, chunk_log2=20).make(), HELLO)
        yield opens("hybrid", self.maker("hybrid", recipients=[self.recovery]).make(), HELLO, key="recovery")
        both = self.maker("two-recipients", recipients=[self.label, self.recovery]).make()
        yield opens("two-recipients", both, HELLO)
        yield opens("two-recipients-second", both, HELLO, key="recovery")
        for name in ("rsa3072", "rsa4096"):
            yield opens(name, self.maker(name, recipients=[self.keys[name].public]).make(), HELLO, key=name)
        yield opens("sixteen-recipients", self.maker("sixteen-recipients", recipients=self.crowd(15) + [self.label]).make(), HELLO)
        maker = self.maker("larger-header-than-needed")
        maker.header_size = 65536
        yield opens("larger-header-than-needed", maker.make(), HELLO)
        for name, policy in (
            ("no-owner-group", {**example_policy(), "owner_group": None}),
            ("long-label-name", {**example_policy(), "label_name": "極秘" * 20}),
        ):
            yield opens(name, self.maker(name, policy=policy).make(), HELLO)
        maker = self.maker("policy-unknown-entries")
        maker.policy_bytes = encode({**make_policy(example_policy()), 9: 1, 100: b"bytes", 1 << 40: "text"})
        yield opens("policy-unknown-entries", maker.make(), HELLO)
        maker = self.maker("second-slot-newer", pattern(5000))
        maker.slots = [maker.slot(1, 3, 0, bytes(32)), maker.slot(2, 5000, ROOT, maker.root())]
        yield opens("second-slot-newer", maker.make(), maker.plaintext)
        maker = self.maker("first-slot-torn", pattern(5000))
        maker.slots = [flip(maker.slot(2, 3, 0, bytes(32)), 60), maker.slot(1, 5000, ROOT, maker.root())]
        yield opens("first-slot-torn", maker.make(), maker.plaintext)
        maker = self.maker("no-root", pattern(5000))
        maker.slots = [maker.slot(7, 5000, 0, bytes(32)), bytes(512)]
        yield opens("no-root", maker.make(), maker.plaintext)
        for name, tail in (("dirty", b""), ("dirty-with-tail", b"tail of an append that a power cut ended")):
            maker = self.maker(name, pattern(5000))
            maker.slots = [maker.slot(1, 5000, ROOT, maker.root()), maker.slot(2, 5000, DIRTY, bytes(32))]
            yield opens(name, maker.make() + tail, maker.plaintext, tail=len(tail))
        yield from self.header_copies()

    # A header change that was interrupted.

    def header_copies(self):
        at, maker = (4096 - 1024) // 2, self.maker("header-copy", pattern(5000))
        old = maker.make()
        maker.policy_bytes = encode(make_policy({**example_policy(), "label_level": 5, "label_name": "公開 Öffentlich"}))
        new = maker.make()
        wire = new[: 48 + sum(struct.unpack("<II", new[40:48])) + 32]
        copy = header_copy(wire)
        other = self.maker("header-copy-of-another-file").make()
        other = header_copy(other[: 48 + sum(struct.unpack("<II", other[40:48])) + 32])
        for name, data in (
            ("copy-before-the-header-was-written", patch(old, at, copy)),
            ("copy-and-torn-header", patch(old[:512] + new[512:], at, copy)),
            ("copy-and-lost-header", patch(patch(old, 40, bytes(at - 40)), at, copy)),
            ("copy-and-new-header", patch(new, at, copy)),
            ("copy-torn-before-the-header-was-written", patch(old, at, copy[:512])),
            ("copy-torn-while-it-was-removed", patch(new, at + 512, copy[512:])),
            ("copy-with-a-wrong-byte", patch(old, at, flip(copy, len(copy) - 1))),
            ("copy-of-another-file", patch(old, at, other)),
            ("copy-place-with-rubbish", patch(old, 4096 - 1025, b"\1")),
        ):
            yield opens(name, data, maker.plaintext)
        forged = header_copy(flip(wire, len(wire) - 1))
        yield refused("copy-forged", "key", patch(old, at, forged))

    # Bytes 0 to 47 and padding.

    def fixed_fields(self):
        for at in (0, 3, 4, 7):
            data = self.maker("magic").make()
            yield refused(f"magic-byte-{at}", "header", flip(data, at))
        for name, attribute, value in (
            ("version-0", "version", 0),
            ("version-2", "version", 2),
            ("flags", "flags", 1),
            ("reserved", "reserved", 1),
            ("chunk-size-too-small", "chunk_log2", 11),
            ("chunk-size-too-large", "chunk_log2", 21),
            ("chunk-size-absurd", "chunk_log2", 0xFFFFFFFF),
        ):
            maker = self.maker(name)
            setattr(maker, attribute, value)
            yield refused(name, "header", maker.make())
        for name, size in (("header-size-odd", 4608), ("header-size-too-large", 69632)):
            maker = self.maker(name)
            maker.header_size = size
            yield refused(name, "header", maker.make())
        for name, size in (("header-size-zero", 0), ("header-size-absurd", 0xFFFFF000)):
            yield refused(name, "header", patch(self.maker(name).make(), 12, struct.pack("<I", size)))
        for name, at in (("policy-length-absurd", 40), ("recipients-length-absurd", 44)):
            yield refused(name, "header", patch(self.maker(name).make(), at, b"\xff\xff\xff\xff"))
        data = self.maker("padding").make()
        yield refused("padding-before-the-copy", "header", patch(data, (4096 - 1024) // 2 - 1, b"\1"))
        maker = self.maker("padding-last-byte", recipients=[self.recovery])
        maker.header_size = 4096
        yield refused("padding-last-byte", "header", patch(maker.make(), 4096 - 1025, b"\1"), key="recovery")
        maker = self.maker("padding-first-byte")
        covered = 48 + sum(struct.unpack("<II", maker.make()[40:48])) + 32
        yield refused("padding-first-byte", "header", patch(maker.make(), covered, b"\1"))
        maker = self.maker("lengths-reach-the-slots", recipients=self.crowd(3))
        maker.header_size = 4096
        yield refused("lengths-reach-the-slots", "header", maker.make())
        for name, end in (("nothing", 0), ("magic-alone", 8), ("cut-in-fixed-fields", 47), ("cut-in-header", 4095)):
            yield refused(name, "header", self.maker(name).make()[:end])

    # The policy.

    def policies(self):
        good = make_policy(example_policy())
        encoded = encode(good)
        yield from self.with_policy_bytes("policy-empty", b"")
        yield from self.with_policy_bytes("policy-not-a-map", encode([1]))
        yield from self.with_policy_bytes("policy-trailing-byte", encoded + b"\0")
        yield from self.with_policy_bytes("policy-cut", encoded[:-1])
        yield from self.with_policy_bytes("policy-indefinite-length", b"\xbf" + encoded[1:] + b"\xff")
        yield from self.with_policy_bytes("policy-nested-deeply", b"\x81" * 500 + b"\0")
        head, entries = encoded[:1], [encode(key) + encode(value) for key, value in good.items()]
        entries.sort()
        yield from self.with_policy_bytes("policy-out-of-order", head + b"".join(entries[1:] + entries[:1]))
        yield from self.with_policy_bytes("policy-key-twice", bytes([head[0] + 1]) + entries[0] + b"".join(entries))
        for name, policy_bytes in faulty_policies():
            yield from self.with_policy_bytes(name, policy_bytes)

    def with_policy_bytes(self, name, policy_bytes):
        maker = self.maker(name)
        maker.policy_bytes = policy_bytes
        yield refused(name, "header", maker.make())

    # The recipients.

    def recipients(self):
        maker = self.maker("stanza")
        size = maker.fitting_size()
        good = maker.stanza_list(maker.prologue(size))
        (encapsulation, _), wrapped = maker.encapsulations[0], b"\0" * 48
        key_id = self.label.key_id
        for name, stanzas in (
            ("no-recipient", []),
            ("recipient-twice", good + good),
            ("unknown-kind", [make_stanza("rsa-pkcs1", key_id, encapsulation, wrapped)]),
            ("key-id-too-short", [make_stanza(RSA_OAEP, key_id[:31], encapsulation, wrapped)]),
            ("wrapped-dek-too-short", [make_stanza(RSA_OAEP, key_id, encapsulation, wrapped[:47])]),
            ("wrapped-dek-too-long", [make_stanza(RSA_OAEP, key_id, encapsulation, wrapped + b"\0")]),
            ("encapsulation-too-short", [make_stanza(RSA_OAEP, key_id, encapsulation[:255], wrapped)]),
            ("encapsulation-too-long", [make_stanza(RSA_OAEP, key_id, encapsulation + b"\0", wrapped)]),
            ("encapsulation-empty", [make_stanza(RSA_OAEP, key_id, b"", wrapped)]),
            ("encapsulation-of-another-kind", [make_stanza(HYBRID, key_id, encapsulation, wrapped)]),
            ("stanza-not-an-array-or-map", [1]),
        ):
            yield refused(name, "header", self.maker(name).make(stanzas=stanzas))
        crowd = self.maker("seventeen-recipients", recipients=self.crowd(16) + [self.label])
        yield refused("seventeen-recipients", "header", crowd.make())
        encoded = encode(good)
        for name, recipients_bytes in (
            ("recipients-empty", b""),
            ("recipients-not-an-array", encode(1)),
            ("recipients-trailing-byte", encoded + b"\0"),
            ("recipients-indefinite-length", b"\x9f" + encoded[1:] + b"\xff"),
        ):
            yield refused(name, "header", self.maker(name).make(recipients_bytes=recipients_bytes))

    # What a key refuses.

    def keys_and_macs(self):
        yield refused("stranger", "key", self.maker("stranger").make(), key="stranger")
        maker = self.maker("header-mac")
        mac_at = 48 + sum(struct.unpack("<II", maker.make()[40:48]))
        for at in (mac_at, mac_at + 31):
            yield refused(f"header-mac-byte-{at - mac_at}", "key", flip(self.maker("header-mac").make(), at))
        maker, other = self.maker("label-lowered"), {**example_policy(), "label_level": 0}
        data = maker.make()
        policy_bytes = encode(make_policy(other))
        assert len(policy_bytes) == len(maker.policy_bytes)
        yield refused("label-lowered", "key", patch(data, 48, policy_bytes))
        size = maker.fitting_size()
        stanzas = maker.stanza_list(maker.prologue(size))
        maker.policy_bytes = policy_bytes
        yield refused("label-lowered-by-one-who-knows-the-dek", "key", maker.make(stanzas=stanzas))
        first, second = self.maker("stanza-moved"), self.maker("stanza-moved-to")
        moved = first.stanza_list(first.prologue(4096))
        yield refused("stanza-of-another-file", "key", second.make(stanzas=moved))
        maker = self.maker("file-id-changed")
        stanzas = maker.stanza_list(maker.prologue(4096))
        maker.file_id = Stream("another file id").take(16)
        maker.chunks = maker.seal_chunks()
        yield refused("file-id-changed-by-one-who-knows-the-dek", "key", maker.make(stanzas=stanzas))
        maker = self.maker("chunk-size-changed")
        stanzas = maker.stanza_list(maker.prologue(4096))
        maker.chunk_log2 = 13
        yield refused("chunk-size-changed-by-one-who-knows-the-dek", "key", maker.make(stanzas=stanzas))
        maker = self.maker("header-size-changed")
        stanzas = maker.stanza_list(maker.prologue(4096))
        maker.header_size = 8192
        yield refused("header-size-changed-by-one-who-knows-the-dek", "key", maker.make(stanzas=stanzas))
        for name, recipients, key in (("encapsulation-flipped", [self.label], "label"), ("mlkem-flipped", [self.recovery], "recovery")):
            maker = self.maker(name, recipients=recipients)
            stanza = [*map(bytes, maker.encapsulations[0])]
            at = 100 if key == "label" else 256 + 100
            stanzas = self.rewritten(maker, recipients[0], encapsulation=flip(stanza[0], at))
            yield refused(name, "key", maker.make(stanzas=stanzas), key=key)
        maker = self.maker("wrapped-dek-flipped")
        yield refused("wrapped-dek-flipped", "key", maker.make(stanzas=self.rewritten(maker, self.label, flip_wrapped=True)))
        maker = self.maker("wrong-oaep-length")
        short = oaep_encrypt(self.label.rsa, bytes(31), bytes(32))
        yield refused("secret-of-31-bytes", "key", maker.make(stanzas=self.rewritten(maker, self.label, encapsulation=short)))

    def rewritten(self, maker, recipient, encapsulation=None, flip_wrapped=False):
        true, secret = maker.encapsulations[0]
        bound = maker.prologue(maker.fitting_size()) + maker.policy_bytes
        kek = key_encryption_key(secret, maker.file_id, recipient.kind, recipient.key_id, true, bound)
        wrapped = gcm_seal(kek, bytes(12), b"", maker.dek)
        if flip_wrapped:
            wrapped = flip(wrapped, 0)
        return [make_stanza(recipient.kind, recipient.key_id, encapsulation or true, wrapped)]

    # State slots.

    def slots(self):
        def with_slots(name, slots, plaintext=pattern(5000)):
            maker = self.maker(name, plaintext)
            maker.slots = slots(maker)
            return refused(name, "slot", maker.make())

        yield with_slots("slots-zero", lambda maker: [bytes(512), bytes(512)])
        yield with_slots("slots-flipped", lambda maker: [flip(slot, 8) for slot in (maker.default_slots()[0],) * 2])
        yield with_slots("slot-mac-flipped", lambda maker: [flip(maker.default_slots()[0], 56), bytes(512)])
        other = self.maker("another file", pattern(5000))
        yield with_slots("slot-of-another-file", lambda maker: [other.default_slots()[0], bytes(512)])
        # Authentic, but nothing that a writer makes.
        for name, length in (("length-absurd", 1 << 63), ("length-of-too-many-chunks", (1 << 44) + 1)):
            yield with_slots(name, lambda maker: [maker.slot(1, length, ROOT, maker.root()), bytes(512)])
        yield with_slots("slot-unknown-flag-of-the-other", lambda maker: [maker.default_slots()[0], maker.slot(1, 5000, 4, bytes(32))])
        yield with_slots("slots-of-one-generation", lambda maker: [maker.default_slots()[0]] * 2)
        yield with_slots("slot-padding-of-the-other", lambda maker: [maker.default_slots()[0], bytes(511) + b"\1"])
        yield with_slots("slot-unknown-flag", lambda maker: [maker.slot(1, 5000, 4 | ROOT, maker.root()), bytes(512)])
        yield with_slots("slot-root-without-flag", lambda maker: [maker.slot(1, 5000, 0, maker.root()), bytes(512)])
        yield with_slots("slot-reserved-field", lambda maker: [maker.slot(1, 5000, ROOT, maker.root(), reserved=1), bytes(512)])
        yield with_slots("slot-padding", lambda maker: [patch(maker.default_slots()[0], 511, b"\1"), bytes(512)])

    # Sizes.

    def sizes(self):
        plaintext = pattern(10_000)
        whole = self.maker("sizes", plaintext).make()
        for name, data in (
            ("body-missing", whole[:4096]),
            ("cut-in-last-chunk", whole[:-1]),
            ("cut-last-chunk", whole[: 4096 + 2 * (4096 + 28)]),
            ("extended-by-a-byte", whole + b"\0"),
            ("extended-by-a-chunk", whole + whole[4096 : 4096 + 4096 + 28]),
        ):
            yield refused(name, "size", data)
        for name, length in (("length-one-less", 9999), ("length-one-more", 10_001)):
            maker = self.maker(name, plaintext)
            maker.slots = [maker.slot(1, length, ROOT, maker.root()), bytes(512)]
            yield refused(name, "size", maker.make())
        maker = self.maker("dirty-but-short", plaintext)
        maker.slots = [maker.slot(2, 10_000, DIRTY, bytes(32)), bytes(512)]
        yield refused("dirty-but-short", "size", maker.make()[:-1])

    # Chunks.

    def bodies(self):
        plaintext, stored = pattern(12_288), 4096 + 28
        whole = self.maker("bodies", plaintext).make()
        chunk = [whole[4096 + i * stored : 4096 + (i + 1) * stored] for i in range(3)]
        header, other = whole[:4096], self.maker("bodies of another file", plaintext).make()
        for name, chunks in (
            ("nonce-flipped", [flip(chunk[0], 0), chunk[1], chunk[2]]),
            ("ciphertext-flipped", [chunk[0], flip(chunk[1], 2000), chunk[2]]),
            ("tag-flipped", [chunk[0], chunk[1], flip(chunk[2], stored - 1)]),
            ("chunks-swapped", [chunk[1], chunk[0], chunk[2]]),
            ("chunk-duplicated", [chunk[0], chunk[0], chunk[2]]),
            ("chunk-zeroed", [chunk[0], bytes(stored), chunk[2]]),
            ("chunk-of-another-file", [chunk[0], other[4096 + stored : 4096 + 2 * stored], chunk[2]]),
        ):
            yield refused(name, "body", header + b"".join(chunks))
        maker = self.maker("bodies", plaintext)
        key_stream = Stream("older")
        maker.random = key_stream.take
        older = maker.seal_chunks()
        yield refused("older-chunk-put-back", "body", header + chunk[0] + older[1] + chunk[2])
        maker = self.maker("root-wrong", plaintext)
        maker.slots = [maker.slot(1, len(plaintext), ROOT, flip(maker.root(), 0)), bytes(512)]
        yield refused("root-wrong", "body", maker.make())
        maker = self.maker("root-of-empty", b"")
        maker.slots = [maker.slot(1, 0, ROOT, bytes(32)), bytes(512)]
        yield refused("root-of-an-empty-file-wrong", "body", maker.make())

    def crowd(self, count):
        """Different recipients that need no RSA key of their own: one RSA key with different ML-KEM keys."""
        members = []
        for number in range(count):
            seed = Stream(f"crowd {number}").take(64)
            members.append(Public(self.label.spki, ML_KEM_768._keygen_internal(seed[:32], seed[32:])[0]))
        return members


def opens(name, data, plaintext, key="label", tail=None):
    vector = {"name": name, "expect": "opens", "key": key, "length": len(plaintext)}
    vector["sha256"] = hashlib.sha256(plaintext).hexdigest()
    if tail is not None:
        vector["tail"] = tail
    return {**vector, "data": data}


def refused(name, stage, data, key="label"):
    return {"name": name, "expect": "refused", "stage": stage, "key": key, "data": data}


def flip(data, at):
    return patch(data, at, bytes([data[at] ^ 1]))


def patch(data, at, piece):
    return data[:at] + piece + data[at + len(piece) :]


def pattern(length):
    return bytes((i * 31 + (i >> 8)) & 255 for i in range(length))


class Stream:
    """Repeatable bytes that look random."""

    def __init__(self, name):
        self.name, self.count = name, 0

    def take(self, length):
        self.count += 1
        return hashlib.shake_256(f"tobari vector {self.name} {self.count}".encode()).digest(length)

