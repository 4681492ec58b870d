"""Deterministic CBOR (RFC 8949, 4.2.1) of the few types that an envelope uses, decoded strictly by hand.

Anything that is not the one canonical encoding is refused: longer forms of numbers and lengths, indefinite
lengths, map keys out of order or twice, floats, tags, bytes after the end.
"""


class NotCanonical(Exception):
    """The bytes are not canonical CBOR of an allowed type."""


def encode(value):
    if value is True:
        return b"\xf5"
    if value is False:
        return b"\xf4"
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(3, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(encode(item) for item in value)
    if isinstance(value, dict):
        entries = sorted((encode(key), encode(item)) for key, item in value.items())
        return _head(5, len(entries)) + b"".join(key + item for key, item in entries)
    raise TypeError(type(value))


def decode(data):
    value, end = _item(data, 0, depth=0)
    if end != len(data):
        raise NotCanonical("bytes after the end")
    return value


def _head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | info]) + number.to_bytes(size, "big")
    raise OverflowError(number)


def _item(data, at, depth):
    if depth > 4:
        raise NotCanonical("nested too deeply")
    if at >= len(data):
        raise NotCanonical("cut off")
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        if info in (20, 21, 22):
            return {20: False, 21: True, 22: None}[info], at
        raise NotCanonical("float or simple value")
    if info < 24:
        number = info
    elif info <= 27:
        size = 1 << info - 24
        if at + size > len(data):
            raise NotCanonical("cut off")
        number = int.from_bytes(data[at : at + size], "big")
        at += size
        if number < (24 if size == 1 else 1 << 4 * size):
            raise NotCanonical("longer form than needed")
    else:
        raise NotCanonical("indefinite length")
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        if at + number > len(data):
            raise NotCanonical("cut off")
        raw = bytes(data[at : at + number])
        if major == 2:
            return raw, at + number
        try:
            return raw.decode("utf-8"), at + number
        except UnicodeDecodeError as error:
            raise NotCanonical("not UTF-8") from error
    if major == 4:
        items = []
        for _ in range(number):
            item, at = _item(data, at, depth + 1)
            items.append(item)
        return items, at
    if major == 5:
        entries, previous = {}, None
        for _ in range(number):
            start = at
            key, at = _item(data, at, depth + 1)
            encoded = bytes(data[start:at])
            if previous is not None and encoded <= previous:
                raise NotCanonical("map keys out of order")
            if isinstance(key, (list, dict)):
                raise NotCanonical("key of a compound type")
            previous = encoded
            entries[key], at = _item(data, at, depth + 1)
        return entries, at
    raise NotCanonical("tag")
