"""ASMK: what the local features of two images have in common, word by word of a codebook; needs no weights.

G. Tolias, Y. Avrithis, H. Jégou: "To aggregate or not to aggregate: selective match kernels for image search", ICCV
2013, in its binary form (sec. 4): of each visual word of an image the signs of the aggregated residual are kept, and
two images are as similar as the sum over their words of u³, where u is the correlation of the signs and what is
negative counts nothing. So a few words that agree well outweigh many that agree by chance, which a dot product as in
`vlad` cannot do. The codebook is trained on the collection itself.

In a small collection each descriptor counts for the five nearest words, as the queries of the paper do, and rare words
count more. Words are kept as an inverted file: of each word the images that have it. An image is compared with these
alone, and the number of words grows with that of the images, so that an image has about as many words to compare in a
large collection as in a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import ClassVar

import numpy as np

from .. import codebook
from ..codebook import Codebook
from ..options import Options, option
from ..types import Features

__all__ = ["AsmkOptions", "AsmkRetriever", "BinaryWords", "words_for"]

SELECTIVITY = 3  # the exponent alpha of the paper, at least 2
WORDS = 1024  # of the codebook of a small collection
SMALL = 2048  # images of a collection that is small; one that is not has several levels of words
IMAGES_PER_WORD = 4  # at most, of a large collection
KEYPOINTS = 512  # of an image of a large collection, those of the highest scores
TRAINING_PER_WORD = 8  # descriptors that the words of a large collection are trained on
NEAREST = 5  # words that a descriptor of a small collection counts for; in a large one its nearest alone
BATCH_IMAGES = 32  # that are described at once
MOST_VOTES = 1 << 20  # pairs of entries that are compared at a time: 16 MB


@dataclass(frozen=True, kw_only=True)
class AsmkOptions(Options):
    """Options of ASMK."""

    words: int = option(0, f"retrieval: size of the codebook; 0: {WORDS} up to {SMALL} photos, then more", minimum=0)


@dataclass(frozen=True, eq=False)
class BinaryWords:
    """The visual words of N images as an inverted file: E entries, sorted by word and then by image.

    bits: (ceil(D / 64), E) uint64, the signs of the aggregated residuals, packed
    images: (E,) int32, the image that has the word
    starts: (words + 1,) int, the entries of word i are starts[i] to starts[i + 1] - 1
    words: (E,) int32, the other way round: the words of the first image, of the second, ...
    counts: (N,) int, how many words each image has
    weights: (words,) float32, how much each word counts
    dim: D
    """

    bits: np.ndarray
    images: np.ndarray
    starts: np.ndarray
    words: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    dim: int


class AsmkRetriever:
    """Binary ASMK over a codebook of the collection; 20 bytes for each word of an image (128 dimensions)."""

    options_class: ClassVar[type[AsmkOptions]] = AsmkOptions

    def __init__(self, options: AsmkOptions) -> None:
        self.options = options

    def describe(self, names: Sequence[str], features: Mapping[str, Features]) -> BinaryWords:
        """The visual words of the images, in the order of the names."""
        if not names:
            none = np.zeros(0, np.int32)
            return BinaryWords(np.zeros((0, 0), np.uint64), none, np.zeros(1, int), none, none, none, 0)
        words = _train(names, features, self.options.words or words_for(len(names)))
        is_small = len(names) <= SMALL
        most, nearest = (None, NEAREST) if is_small else (KEYPOINTS, 1)
        found, bits = [], []
        for batch in _batches(names, BATCH_IMAGES):
            described = [_strongest(features[name], most) for name in batch]
            for own_words, own_bits in _signs(described, words, nearest):
                found.append(own_words)
                bits.append(own_bits)
        return _inverted(found, bits, len(words), words.centres.shape[1], is_weighted=is_small)

    def similarities(self, described: BinaryWords, start: int, stop: int) -> np.ndarray:
        """(stop - start, N) float32, not negative: how similar these images are to all."""
        size = len(described.counts)
        total = np.zeros((stop - start, size), np.float32)
        kernel = _kernel(described.dim)
        own = _words_of(described, start, stop)
        for word in np.unique(own):  # not all: in a large collection few images have a word
            weight, (first, last) = described.weights[word], described.starts[word : word + 2]
            images = described.images[first:last]
            above, below = np.searchsorted(images, (start, stop)) if len(images) > 1 else (0, 0)
            rows = max(1, MOST_VOTES // len(images))
            for top in range(above, below, rows):
                chosen = slice(first + top, first + min(top + rows, below))
                votes = weight * kernel.take(_distances(described.bits[:, chosen], described.bits[:, first:last]))
                for image, row in zip(described.images[chosen], votes, strict=True):
                    total[image - start][images] += row
        norms = np.sqrt(np.maximum(described.counts, 1)).astype(np.float32)
        # an image agrees with itself in all its words; the loop leaves out those that it alone has
        owners = np.repeat(np.arange(stop - start), described.counts[start:stop])
        agreeing = np.bincount(owners, described.weights[own], minlength=stop - start)
        total[np.arange(stop - start), np.arange(start, stop)] = agreeing
        total /= norms[start:stop, None]
        total /= norms
        return total


def words_for(images: int) -> int:
    """The size of the codebook for so many images: a power of four, at least a quarter of their number if many."""
    if images <= SMALL:
        return WORDS
    words = 4 * WORDS
    while words * IMAGES_PER_WORD < images:
        words *= 4
    return words


def _train(names: Sequence[str], features: Mapping[str, Features], words: int) -> Codebook:
    if words <= WORDS:
        centres = codebook.train(codebook.sample(names, features), words)
        return Codebook(centres, centres[:0], np.zeros(1, int))
    count = max(codebook.TRAINING_DESCRIPTORS, TRAINING_PER_WORD * words)
    return codebook.train_two_levels(codebook.sample(names, features, count), words)


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[i : i + size] for i in range(0, len(names), size))


def _strongest(features: Features, most: int | None) -> np.ndarray:
    """(N, D) float32: the descriptors of an image, or of its keypoints with the highest scores."""
    if most is None or len(features) <= most:
        return features.descriptors
    return features.descriptors[np.sort(np.argpartition(-features.scores, most)[:most])]


def _signs(images: Sequence[np.ndarray], words: Codebook, nearest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of the (N, D) descriptors of each image its (K,) words and their (ceil(D / 64), K) signs, packed."""
    assigned = words.nearest(np.concatenate(images), nearest)
    bounds = np.cumsum([0, *map(len, images)])
    for descriptors, (start, stop) in zip(images, pairwise(bounds), strict=True):
        own = assigned[start:stop]
        repeated = np.repeat(descriptors, own.shape[1], axis=0)
        found, sums = codebook.sums_by_word(repeated, own.ravel(), words.centres)
        packed = np.zeros((len(found), -(-sums.shape[1] // 64) * 8), np.uint8)
        signs = np.packbits(sums > 0, axis=1)
        packed[:, : signs.shape[1]] = signs
        yield found.astype(np.int32), np.ascontiguousarray(packed.view(np.uint64).T)


def _inverted(
    found: list[np.ndarray], bits: list[np.ndarray], words: int, dim: int, *, is_weighted: bool
) -> BinaryWords:
    """The inverted file of the words and signs of each image; the lists are emptied, which halves the memory."""
    counts = np.array([len(own) for own in found])
    all_words = np.concatenate(found)
    found.clear()
    order = np.argsort(all_words, kind="stable")  # images stay in their order
    having = np.bincount(all_words, minlength=words)
    starts = np.concatenate([[0], np.cumsum(having)])
    # inverse document frequency; a word that all images have still counts a little
    rarity = np.log(len(counts) / np.maximum(having, 1) + 0.05) if is_weighted else np.ones(words)
    images = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[order]
    packed = np.empty((-(-dim // 64), len(order)), np.uint64)
    for plane, row in enumerate(packed):
        np.take(np.concatenate([own[plane] for own in bits]), order, out=row)
    bits.clear()
    return BinaryWords(packed, images, starts, all_words, counts, rarity.astype(np.float32), dim)


def _words_of(described: BinaryWords, start: int, stop: int) -> np.ndarray:
    """(K,) int32: the words of the images from start to stop - 1, image by image."""
    before = int(described.counts[:start].sum())
    return described.words[before : before + int(described.counts[start:stop].sum())]


def _kernel(dim: int) -> np.ndarray:
    """(D + 1,) float32: max(u, 0) ** SELECTIVITY of signs that differ in 0 to D places; u is their correlation."""
    return (np.maximum(1 - 2 * np.arange(dim + 1) / max(dim, 1), 0) ** SELECTIVITY).astype(np.float32)


def _distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(R, C) integers: in how many places the signs (planes, R) and (planes, C) differ."""
    differing = _count_bits(rows[0][:, None] ^ columns[0]).astype(np.uint16)
    for plane in range(1, len(rows)):
        differing += _count_bits(rows[plane][:, None] ^ columns[plane])
    return differing


@cache
def _bits_of_bytes() -> np.ndarray:
    """(256,) uint8: how many bits of each byte are set."""
    return np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


def _count_bits(values: np.ndarray) -> np.ndarray:
    """(R, C) uint8: how many bits of (R, C) uint64 are set."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(values)
    single = values.view(np.uint8).reshape(*values.shape, 8)  # numpy 1
    return _bits_of_bytes()[single].sum(-1, dtype=np.uint8)
