"""Recipients' keys and everything derived from keys: docs/spec/envelope.md, "Stanza" and "Layout".

`cryptography` does RSA, AES-GCM, HKDF and HMAC; kyber-py does the private side of ML-KEM-768, because it
takes the expanded form of decapsulation keys.
"""

import hashlib
import hmac as _hmac
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from kyber_py.ml_kem import ML_KEM_768

RSA_OAEP = "rsa-oaep"
HYBRID = "rsa-oaep+mlkem768"
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class KeyRefused(Exception):
    """The key, or what it should open, is not what it should be."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hkdf(secret, salt, info):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


def hmac(key, message):
    return _hmac.new(key, message, "sha256").digest()


def gcm_seal(key, nonce, aad, plaintext):
    return AESGCM(key).encrypt(nonce, plaintext, aad or None)


def gcm_open(key, nonce, aad, sealed):
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad or None)
    except InvalidTag as error:
        raise KeyRefused("tag") from error


class Public:
    """A recipient's public key."""

    def __init__(self, spki, mlkem=None):
        self.spki, self.mlkem = spki, mlkem
        self.rsa = serialization.load_der_public_key(spki)
        self.kind = HYBRID if mlkem else RSA_OAEP
        self.key_id = sha256(spki, mlkem or b"")

    def encapsulate(self, random=os.urandom):
        """An encapsulation and its secret; `random` makes it repeatable for test vectors."""
        secret = random(32)
        encapsulation = oaep_encrypt(self.rsa, secret, random(32))
        if self.mlkem:
            shared, ciphertext = ML_KEM_768._encaps_internal(self.mlkem, random(32))
            secret, encapsulation = secret + shared, encapsulation + ciphertext
        return encapsulation, secret


class Private:
    """A recipient's private key in the product's export form."""

    def __init__(self, exported):
        if exported[:5] != b"TBRK\x01" or exported[5:6] not in (b"\x01", b"\x02"):
            raise KeyRefused("not an exported key")
        (length,) = struct.unpack("<I", exported[6:10])
        pkcs8, self.mlkem = exported[10 : 10 + length], exported[10 + length :]
        if len(self.mlkem) != (2400 if exported[5] == 2 else 0):
            raise KeyRefused("not an exported key")
        self.rsa = serialization.load_der_private_key(pkcs8, None)
        spki = self.rsa.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        # FIPS 203: the decapsulation key holds its encapsulation key.
        self.public = Public(spki, self.mlkem[1152 : 1152 + 1184] or None)

    @classmethod
    def generate(cls, kind, bits=2048, seed=None):
        key = rsa.generate_private_key(65537, bits)
        pkcs8 = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        mlkem = b""
        if kind == HYBRID:
            seed = seed or os.urandom(64)
            _, mlkem = ML_KEM_768._keygen_internal(seed[:32], seed[32:])
        number = b"\x02" if kind == HYBRID else b"\x01"
        exported = b"TBRK\x01" + number + struct.pack("<I", len(pkcs8)) + pkcs8 + mlkem
        made = cls(exported)
        made.exported = exported
        return made

    def decapsulate(self, encapsulation):
        size = self.rsa.key_size // 8
        classical, post_quantum = encapsulation[:size], encapsulation[size:]
        if len(classical) != size or len(post_quantum) != (1088 if self.mlkem else 0):
            raise KeyRefused("length of the encapsulation")
        try:
            secret = self.rsa.decrypt(classical, OAEP)
        except ValueError as error:
            raise KeyRefused("OAEP") from error
        if len(secret) != 32:
            raise KeyRefused("length of the secret")
        if self.mlkem:
            secret += ML_KEM_768.decaps(self.mlkem, post_quantum)
        return secret


def key_encryption_key(secret, file_id, kind, key_id, encapsulation, bound):
    """`bound`: bytes 0 to 39 of the header and the policy."""
    info = b"tobari/1 wrap" + kind.encode() + key_id + sha256(encapsulation) + sha256(bound)
    return hkdf(secret, file_id, info)


def oaep_encrypt(public, message, seed):
    """RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017, 7.1.1) with a given seed."""
    numbers, size = public.public_numbers(), public.key_size // 8
    block = sha256(b"") + bytes(size - len(message) - 66) + b"\x01" + message
    masked_block = _xor(block, _mgf1(seed, len(block)))
    masked_seed = _xor(seed, _mgf1(masked_block, 32))
    number = int.from_bytes(b"\x00" + masked_seed + masked_block, "big")
    return pow(number, numbers.e, numbers.n).to_bytes(size, "big")


def _mgf1(seed, length):
    blocks = (sha256(seed, struct.pack(">I", i)) for i in range((length + 31) // 32))
    return b"".join(blocks)[:length]


def _xor(left, right):
    return bytes(a ^ b for a, b in zip(left, right))
