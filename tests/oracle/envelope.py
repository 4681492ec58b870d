"""The Tobari envelope, version 1, written from docs/spec/envelope.md alone: a decoder and an encoder.

Slow and plain on purpose. It shares no code with the product, and no library: what it opens and what it makes
shows that the specification says what the product does.
"""

import hashlib
import os
import struct

import policy as policies
from cbor import NotCanonical, decode, encode
from keys import (
    HYBRID,
    RSA_OAEP,
    KeyRefused,
    gcm_open,
    gcm_seal,
    hkdf,
    hmac,
    key_encryption_key,
)

MAGIC = b"\x89TBR\r\n\x1a\n"
COPY_MAGIC = b"\x89TBN\r\n\x1a\n"
DIRTY, ROOT = 1, 2
ZERO_NONCE = bytes(12)


class Refused(Exception):
    """The envelope is refused; `stage` says by which step: header, key, slot, size or body."""

    def __init__(self, stage, reason):
        super().__init__(f"{stage}: {reason}")
        self.stage = stage


class Stanza:
    def __init__(self, kind, key_id, encapsulation, wrapped):
        self.kind, self.key_id, self.encapsulation, self.wrapped = kind, key_id, encapsulation, wrapped


def header_copy(wire):
    """What is put at half the way to the slots before the header is written over."""
    return COPY_MAGIC + struct.pack("<II", len(wire), 0) + hashlib.sha256(wire).digest() + wire


def with_copy(data, size):
    """The data as they will be when the header copy, if it is whole, is in its place."""
    half = (size - 1024) // 2
    place = data[half : size - 1024]
    if len(data) < size or place[:8] != COPY_MAGIC or place[12:16] != bytes(4):
        return data
    (length,) = struct.unpack("<I", place[8:12])
    wire = place[48 : 48 + length]
    if length + 48 > half or hashlib.sha256(wire).digest() != place[16:48] or wire[:40] != data[:40]:
        return data
    return wire.ljust(half, b"\0") + bytes(size - 1024 - half) + data[size - 1024 :]


class Header:
    """The header region without its state slots."""

    def __init__(self, data):
        def need(condition, reason):
            if not condition:
                raise Refused("header", reason)

        need(len(data) >= 48 and data[:8] == MAGIC, "magic")
        version, flags, self.size, self.chunk_log2, reserved = struct.unpack("<HHIII", data[8:24])
        need(version == 1, "version")
        need(flags == 0 and reserved == 0, "flags or reserved field")
        need(self.size % 4096 == 0 and 4096 <= self.size <= 65536, "header size")
        need(12 <= self.chunk_log2 <= 20, "chunk size")
        self.file_id = data[24:40]
        data = with_copy(data, self.size)
        policy_length, recipients_length = struct.unpack("<II", data[40:48])
        self.end = 48 + policy_length + recipients_length
        need(self.end + 32 <= self.size - 1024, "lengths")
        need(len(data) >= self.size, "cut off in the header")
        self.policy_bytes = data[48 : 48 + policy_length]
        recipients = data[48 + policy_length : self.end]
        self.authenticated, self.mac = data[: self.end], data[self.end : self.end + 32]
        half = (self.size - 1024) // 2
        # A torn copy means nothing, where there is a place for one.
        zeros = half if self.end + 32 + 48 <= half else self.size - 1024
        need(not any(data[self.end + 32 : zeros]), "padding")
        try:
            self.policy = policies.parse_policy(decode(self.policy_bytes))
            self.stanzas = [Stanza(*policies.parse_stanza(item)) for item in policies.parse_array(decode(recipients))]
        except (NotCanonical, policies.Malformed) as error:
            raise Refused("header", str(error)) from error
        self.bound = data[:40] + self.policy_bytes

    def unwrap(self, private):
        """The DEK, with a recipient's private key, after the header MAC is checked."""
        for stanza in self.stanzas:
            if stanza.key_id == private.public.key_id and stanza.kind == private.public.kind:
                try:
                    secret = private.decapsulate(stanza.encapsulation)
                    kek = key_encryption_key(
                        secret, self.file_id, stanza.kind, stanza.key_id, stanza.encapsulation, self.bound
                    )
                    dek = gcm_open(kek, ZERO_NONCE, b"", stanza.wrapped)
                except KeyRefused as error:
                    raise Refused("key", str(error)) from error
                if hmac(hkdf(dek, self.file_id, b"tobari/1 header"), self.authenticated) != self.mac:
                    raise Refused("key", "header MAC")
                return dek
        raise Refused("key", "no stanza for this key")


class Opened:
    def __init__(self, header, plaintext, tail):
        self.header, self.plaintext, self.tail = header, plaintext, tail


def open_envelope(data, private):
    """All of it: header, slot, size, every chunk and the root."""
    header = Header(data)
    dek = header.unwrap(private)
    generation, length, flags, root = read_slots(data, header, dek)
    chunk, keys = 1 << header.chunk_log2, hkdf(dek, header.file_id, b"tobari/1 content")
    chunks = -(-length // chunk)
    size = header.size + length + 28 * chunks
    if len(data) != size and not (len(data) > size and flags & DIRTY):
        raise Refused("size", f"{len(data)} bytes, not {size}")
    at, plaintext, tags = header.size, [], []
    for index in range(chunks):
        stored = min(chunk, length - index * chunk) + 28
        piece = data[at : at + stored]
        try:
            plaintext.append(gcm_open(keys, piece[:12], header.file_id + struct.pack("<Q", index), piece[12:]))
        except KeyRefused as error:
            raise Refused("body", f"chunk {index}") from error
        tags.append(piece[-16:])
        at += stored
    if flags & ROOT and root != body_root(dek, header.file_id, tags):
        raise Refused("body", "root")
    return Opened(header, b"".join(plaintext), len(data) - size if flags & DIRTY else None)


def read_slots(data, header, dek):
    """Generation, length, flags and root of the authentic slot with the higher generation."""
    key, valid = hkdf(dek, header.file_id, b"tobari/1 state"), []
    for start in (header.size - 1024, header.size - 512):
        slot = data[start : start + 512]
        generation, length, flags, reserved = struct.unpack("<QQII", slot[:24])
        root = slot[24:56]
        if any(slot[88:]):
            raise Refused("slot", "padding")
        if hmac(key, slot[:56]) != slot[56:88]:
            continue
        if reserved or flags & ~(DIRTY | ROOT) or (not flags & ROOT and any(root)):
            raise Refused("slot", "authentic, but nothing that a writer makes")
        if length > 1 << 32 + header.chunk_log2:
            raise Refused("slot", "more than 2^32 chunks")
        valid.append((generation, length, flags, root))
    if not valid:
        raise Refused("slot", "two invalid slots")
    if len(valid) == 2 and valid[0][0] == valid[1][0]:
        raise Refused("slot", "two slots of one generation")
    return max(valid)


def body_root(dek, file_id, tags):
    return hmac(hkdf(dek, file_id, b"tobari/1 state"), b"".join(tags))


class Maker:
    """Makes envelopes piece by piece, so that a test vector can put one fault anywhere."""

    def __init__(self, recipients, policy, plaintext, chunk_log2=14, random=os.urandom):
        self.recipients, self.policy, self.plaintext = recipients, policy, plaintext
        self.chunk_log2, self.random = chunk_log2, random
        self.dek, self.file_id = random(32), random(16)
        self.version, self.flags, self.reserved = 1, 0, 0
        self.policy_bytes = encode(policies.make_policy(policy))
        self.header_size = None
        self.slots = None
        self.chunks = self.seal_chunks()
        self.encapsulations = [recipient.encapsulate(random) for recipient in recipients]

    def seal_chunks(self):
        size, key = 1 << self.chunk_log2, hkdf(self.dek, self.file_id, b"tobari/1 content")
        pieces = [self.plaintext[at : at + size] for at in range(0, len(self.plaintext), size)]
        return [self.seal_chunk(key, index, piece) for index, piece in enumerate(pieces)]

    def seal_chunk(self, key, index, piece):
        nonce = self.random(12)
        return nonce + gcm_seal(key, nonce, self.file_id + struct.pack("<Q", index), piece)

    def prologue(self, size):
        fixed = struct.pack("<HHIII", self.version, self.flags, size, self.chunk_log2, self.reserved)
        return MAGIC + fixed + self.file_id

    def stanza_list(self, prologue):
        bound = prologue + self.policy_bytes
        stanzas = []
        for recipient, (encapsulation, secret) in zip(self.recipients, self.encapsulations):
            kek = key_encryption_key(secret, self.file_id, recipient.kind, recipient.key_id, encapsulation, bound)
            wrapped = gcm_seal(kek, ZERO_NONCE, b"", self.dek)
            stanzas.append(policies.make_stanza(recipient.kind, recipient.key_id, encapsulation, wrapped))
        return stanzas

    def fitting_size(self):
        """The header size depends on the recipients' lengths, which do not depend on the header size."""
        length = 48 + len(self.policy_bytes) + len(encode(self.stanza_list(self.prologue(0)))) + 32 + 1024
        return -(-length // 4096) * 4096

    def slot(self, generation, length, flags, root, reserved=0):
        fields = struct.pack("<QQII", generation, length, flags, reserved) + root
        return (fields + hmac(hkdf(self.dek, self.file_id, b"tobari/1 state"), fields)).ljust(512, b"\0")

    def root(self):
        return body_root(self.dek, self.file_id, [chunk[-16:] for chunk in self.chunks])

    def default_slots(self):
        return [self.slot(len(self.chunks) + 1, len(self.plaintext), ROOT, self.root()), bytes(512)]

    def header(self, stanzas=None, recipients_bytes=None, mac=None):
        size = self.header_size or self.fitting_size()
        prologue = self.prologue(size)
        if recipients_bytes is None:
            recipients_bytes = encode(self.stanza_list(prologue) if stanzas is None else stanzas)
        lengths = struct.pack("<II", len(self.policy_bytes), len(recipients_bytes))
        covered = prologue + lengths + self.policy_bytes + recipients_bytes
        mac = mac or hmac(hkdf(self.dek, self.file_id, b"tobari/1 header"), covered)
        slots = b"".join(self.slots or self.default_slots())
        return (covered + mac).ljust(size - 1024, b"\0") + slots

    def make(self, **changes):
        return self.header(**changes) + b"".join(self.chunks)


__all__ = ["HYBRID", "RSA_OAEP", "Header", "Maker", "Opened", "Refused", "header_copy", "open_envelope", "read_slots"]
