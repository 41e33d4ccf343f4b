"""Texts as CLIP's numbers: byte pairs that are merged in the order of a file of merges.

Sennrich et al., "Neural machine translation of rare words with subword units", ACL 2016, on bytes
as in Radford et al., "Language models are unsupervised multitask learners", 2019. The file is the
authors' bpe_simple_vocab_16e6.txt.gz: a line of its own, then a pair in each line.
"""

import gzip
import itertools
import re
import zlib

# Bytes that stand for themselves as characters; the others are the characters from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + number) for number, byte in enumerate(_OTHERS)
}
_END = "</w>"
# Endings, runs of letters, single digits, runs of anything else but spaces.
_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")
_SPECIAL = 2  # the start and the end of a text
_MOST_BYTES = 2**26  # the authors' file has 3 million


class Tokens:
    """Turns texts into the numbers of their pieces, from the start of a text to its end."""

    def __init__(self, path, count):
        """Reads the merges.

        Args:
            path: the file, compressed by gzip.
            count: number of tokens that the network knows.

        Raises:
            ValueError: for a file that is none, or holds too few merges.
            FileNotFoundError: when there is no such file.
        """
        needed = count - 2 * len(_CHARACTERS) - _SPECIAL
        pairs = [tuple(line.split()) for line in _read_lines(path)[1 : needed + 1]]
        if needed < 0 or len(pairs) < needed or any(len(pair) != 2 for pair in pairs):
            raise ValueError(
                f"{path} should hold {needed} pairs for a network of {count} tokens, one in each "
                f"line after the first. Received: {sum(len(pair) == 2 for pair in pairs)}"
            )
        characters = list(_CHARACTERS.values())
        pieces = [*characters, *(character + _END for character in characters)]
        pieces += ["".join(pair) for pair in pairs]
        self._numbers = {piece: number for number, piece in enumerate(pieces)}
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self.start, self.end = len(pieces), len(pieces) + 1

    def __call__(self, text):
        """Returns a list of numbers."""
        words = _WORDS.findall(text.lower())
        pieces = [piece for word in words for piece in self._merge(word)]
        return [self.start, *(self._numbers[piece] for piece in pieces), self.end]

    def _merge(self, word):
        """Returns the pieces of a word, whose most frequent pairs were merged first."""
        pieces = [_CHARACTERS[byte] for byte in word.encode()]
        pieces[-1] += _END
        while len(pieces) > 1:
            pairs = list(itertools.pairwise(pieces))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged, place = [], 0
            while place < len(pieces):
                is_best = tuple(pieces[place : place + 2]) == best
                merged.append("".join(best) if is_best else pieces[place])
                place += 2 if is_best else 1
            pieces = merged
        return pieces


def _read_lines(path):
    try:
        with gzip.open(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        return content.decode().splitlines()
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise ValueError(
            f"{path} should hold CLIP's merges, compressed by gzip: {error}"
        ) from error
