"""Damaged copies of files, drawn from a seed."""

# What large and negative lengths, offsets and counts look like.
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
OTHERS = {
    "an empty file": b"",
    "a page of HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "JSON": b'{"model": 3, "scales": [2, null], "metadata": {}}\n',
    "a list in JSON": b"[[[[]]]]",
    "a pointer to large storage": b"version https://git-lfs.github.com/spec/v1\nsize 132735\n",
    "an archive": b"PK\x05\x06" + bytes(18),
    "zeros": bytes(4096),
}


def mutate(content, random):
    """Returns (what was done, the damaged bytes) of one kind or another."""
    name = random.choice(sorted(_KINDS))
    return name, _KINDS[name](content, random)


def _place(content, random):
    return int(random.integers(0, max(len(content), 1)))


def _block(content, random):
    start = _place(content, random)
    return start, start + int(random.integers(1, max(len(content) // 4, 2)))


def _truncate(content, random):
    return content[: _place(content, random)]


def _flip_bits(content, random):
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 9)) if content else 0):
        changed[_place(content, random)] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def _zero_block(content, random):
    start, end = _block(content, random)
    return content[:start] + bytes(len(content[start:end])) + content[end:]


def _repeat_block(content, random):
    start, end = _block(content, random)
    return content[:end] + content[start:end] * int(random.integers(1, 4)) + content[end:]


def _remove_block(content, random):
    start, end = _block(content, random)
    return content[:start] + content[end:]


def _fill_block(content, random):
    start, end = _block(content, random)
    return content[:start] + random.bytes(len(content[start:end])) + content[end:]


def _swap_words(content, random):
    size = int(random.choice([1, 2, 4, 8]))
    first, second = sorted(_place(content[:-size], random) for _ in range(2))
    second = max(second, first + size)
    return (
        content[:first]
        + content[second : second + size]
        + content[first + size : second]
        + content[first : first + size]
        + content[second + size :]
    )


def _set_word(content, random):
    size, order = int(random.choice([1, 2, 4, 8])), str(random.choice(["little", "big"]))
    value = int(random.choice(EXTREMES)) % (1 << 8 * size)
    start = _place(content, random)
    return content[:start] + value.to_bytes(size, order) + content[start + size :]


def _set_digits(content, random):
    places = [place for place, byte in enumerate(content[:4096]) if byte in b"0123456789"]
    if not places:
        return _set_word(content, random)
    start = int(random.choice(places))
    number = str(random.choice(["-1", "1e999", "99999999999", "null", '"a"', "NaN"])).encode()
    return content[:start] + number + content[start + 1 :]


def _other_kind(content, random):
    return OTHERS[str(random.choice(sorted(OTHERS)))]


_KINDS = {
    "truncated": _truncate,
    "bits flipped": _flip_bits,
    "a block of zeros": _zero_block,
    "a block repeated": _repeat_block,
    "a block removed": _remove_block,
    "a block of noise": _fill_block,
    "words swapped": _swap_words,
    "a word replaced": _set_word,
    "a number replaced": _set_digits,
    "another kind of file": _other_kind,
}
