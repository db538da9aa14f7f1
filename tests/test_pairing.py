from itertools import combinations

import numpy as np
import pytest

from lgsfm import codebook
from lgsfm.errors import CacheError, InputError
from lgsfm.pairing import (
    PairOptions,
    absolute_files,
    ranking,
    read_pairs,
    select_pairs,
    similar_pairs,
    split_methods,
    write_pairs,
)
from lgsfm.retrievers import asmk, similarities
from lgsfm.retrievers.asmk import AsmkOptions, AsmkRetriever
from lgsfm.retrievers.vlad import VladOptions, VladRetriever
from lgsfm.types import Features

NAMES = ["d.jpg", "a.jpg", "c.jpg", "b.jpg", "e.jpg"]


def select(pairs, names=NAMES, features=None, retriever=None, **options):
    return select_pairs(names, PairOptions(pairs=pairs, **options), features=features, retriever=retriever)


def unit_rows(n, dim, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def described(descriptors):
    n = len(descriptors)
    return Features(np.zeros((n, 2), np.float32), descriptors, np.ones(n, np.float32), (9, 9), "sift")


def collection(scenes=4, views=3, words=40, per_image=150, seed=0):
    """Images of some scenes: those of one see the same things, each with noise, in names that mix the scenes."""
    rng = np.random.default_rng(seed)
    things = unit_rows(scenes * words, 32, seed).reshape(scenes, words, 32)
    images = {}
    for view in range(views):
        for scene in range(scenes):
            seen = things[scene, rng.integers(0, words, per_image)] + 0.05 * rng.normal(size=(per_image, 32))
            seen /= np.linalg.norm(seen, axis=1, keepdims=True)
            images[f"{view}-{scene}.jpg"] = described(seen.astype(np.float32))
    return images


# --- methods -------------------------------------------------------------------------------------------


def test_exhaustive_is_each_pair_once():
    assert select("exhaustive") == list(combinations(sorted(NAMES), 2))


def test_sequential_is_the_next_ones_in_name_order():
    pairs = select("sequential", overlap=2)
    assert ("a.jpg", "c.jpg") in pairs
    assert ("a.jpg", "d.jpg") not in pairs
    assert len(pairs) == 4 + 3
    assert select("sequential", overlap=99) == select("exhaustive")


@pytest.mark.parametrize("quadratic", [False, True])
def test_a_folder_with_a_single_photo_keeps_no_other_from_its_pairs(quadratic):
    names = ["alone/x.jpg", *(f"walk/{i}.jpg" for i in range(6))]
    pairs = select("sequential", names, overlap=3, quadratic=quadratic)
    steps = (1, 2, 4) if quadratic else (1, 2, 3)
    assert pairs == [(f"walk/{i}.jpg", f"walk/{j}.jpg") for i, j in combinations(range(6), 2) if j - i in steps]


@pytest.mark.parametrize(("size", "block", "rows"), [(6, 12, 2), (6, 13, 2), (6, 5, 1), (6, 100, 6)])
def test_scores_are_asked_for_in_blocks_that_fit_into_memory(size, block, rows, monkeypatch):
    asked = []

    def scores(start, stop):
        asked.append((start, stop))
        return np.zeros((stop - start, size), np.float32)

    monkeypatch.setattr(ranking, "BLOCK_SCORES", block)
    assert len(list(ranking.best_partners(scores, size, 2))) == size
    assert asked == [(start, min(start + rows, size)) for start in range(0, size, rows)]


@pytest.mark.parametrize("method", ["exhaustive", "sequential"])
def test_the_order_of_the_images_does_not_matter(method):
    assert select(method, overlap=2) == select(method, NAMES[::-1], overlap=2)


def test_methods_and_files_can_be_joined(tmp_path):
    file = tmp_path / "own pairs.txt"
    file.write_text("e.jpg a.jpg\n")
    joined = select(f"sequential+{file}", overlap=1)
    assert joined == sorted([*select("sequential", overlap=1), ("a.jpg", "e.jpg")])
    assert select("exhaustive+sequential") == select("exhaustive")


def test_a_file_name_may_hold_a_plus(tmp_path):
    file = tmp_path / "a+b.txt"
    file.write_text("b.jpg a.jpg\n")
    assert select(str(file)) == [("a.jpg", "b.jpg")]


def test_an_unknown_method_names_the_choices():
    with pytest.raises(InputError, match=r"'exhaustiv'. Available: FILE, auto, .* Did you mean 'exhaustive'"):
        select("exhaustiv")


@pytest.mark.parametrize("names", [[], ["a.jpg"]])
def test_too_few_images_give_no_pairs(names):
    retriever = VladRetriever(VladOptions())
    features = {name: described(unit_rows(9, 8)) for name in names}
    for method in ("exhaustive", "sequential", "retrieval"):
        assert select(method, names, features, retriever) == []


# --- pair files ----------------------------------------------------------------------------------------


def from_file(tmp_path, text, names=NAMES):
    file = tmp_path / "pairs.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_pairs(file, names)


def test_duplicates_turned_and_self_pairs(tmp_path):
    (tmp_path / "p").write_text("b.jpg\ta.jpg\na.jpg b.jpg\nc.jpg c.jpg\nc.jpg\tb.jpg\n")
    assert select(str(tmp_path / "p")) == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]


ODD = ["a b.jpg", "a", "b.jpg", " lead.jpg", "trail .jpg ", "#1.jpg", "tab\there.jpg", "é 中.jpg", "x/y z.jpg"]
ODD += ["n\x85.jpg"]  # a line break to str.splitlines


@pytest.mark.parametrize("pair", list(combinations(sorted(ODD), 2)))
def test_odd_names_survive_the_file(pair, tmp_path):
    write_pairs(tmp_path / "pairs.txt", [pair])
    assert read_pairs(tmp_path / "pairs.txt", ODD) == [pair]


def test_spaces_in_names_of_a_file_separated_by_spaces(tmp_path):
    assert from_file(tmp_path, "x/y z.jpg é 中.jpg\n", ["x/y z.jpg", "é 中.jpg"]) == [("x/y z.jpg", "é 中.jpg")]


def test_comments_blank_lines_and_windows_files(tmp_path):
    text = b"\xef\xbb\xbf# a.jpg b.jpg\r\n\r\n  a.jpg \t b.jpg  \r\nb.jpg  c.jpg\r\n"
    assert from_file(tmp_path, text) == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]


@pytest.mark.parametrize("line", ["a.jpg\tmissing.jpg", "a.jpg", "a.jpg b.jpg c.jpg", r"a.jpg .\b.jpg"])
def test_the_line_of_an_unknown_name_is_told(line, tmp_path):
    with pytest.raises(InputError, match=r"pairs\.txt, line 3: expected two image names"):
        from_file(tmp_path, f"# comment\na.jpg b.jpg\n{line}\n")


def test_a_file_that_is_no_text_or_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        from_file(tmp_path, b"\xff\xfe\x00")
    with pytest.raises(CacheError, match="cannot be written"):
        write_pairs(tmp_path / "no" / "pairs.txt", [])


# --- retrieval -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 7, 64, 65])
@pytest.mark.parametrize("neighbors", [1, 5, 100])
def test_blocks_equal_the_whole_matrix(n, neighbors, monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_SCORES", 16 * n)
    names = [f"{i:03}" for i in np.random.default_rng(n).permutation(n)]
    descriptors = unit_rows(n, 8, seed=n)
    similarity = descriptors @ descriptors.T - 9 * np.eye(n)
    best = np.argsort(-similarity, axis=1)[:, : min(neighbors, n - 1)]
    expected = {tuple(sorted((names[i], names[j]))) for i in range(n) for j in best[i]}
    assert similar_pairs(names, lambda start, stop: descriptors[start:stop] @ descriptors.T, neighbors) == expected


RETRIEVERS = [VladRetriever(VladOptions(words=16)), AsmkRetriever(AsmkOptions(words=16))]


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_images_of_the_same_scene_are_found(retriever):
    features = collection(scenes=4, views=3)
    pairs = select("retrieval", list(features), features, retriever, neighbors=2)
    assert pairs == [pair for pair in combinations(sorted(features), 2) if pair[0][2:] == pair[1][2:]]


def test_vlad_is_deterministic_and_normalised():
    features = collection()
    first, second = (VladRetriever(VladOptions(words=8)).describe(list(features), features) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (12, 8 * 32)
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def asmk_by_its_formula(names, features, words):
    """The whole matrix of similarities, word by word of a flat codebook, without an inverted file."""
    centres = codebook.train(codebook.sample(names, features), words)
    signs = np.zeros((len(names), words, centres.shape[1]))
    for i, name in enumerate(names):
        descriptors = features[name].descriptors
        nearest = np.argsort(((descriptors[:, None] - centres) ** 2).sum(2), axis=1)[:, : asmk.NEAREST]
        for word in np.unique(nearest):
            sums = (descriptors[(nearest == word).any(1)] - centres[word]).sum(0)
            signs[i, word] = np.where(sums > 0, 1, -1)
    has = signs.any(2)
    rarity = np.log(len(names) / np.maximum(has.sum(0), 1) + 0.05)
    u = np.einsum("iwd,jwd->wij", signs, signs) / centres.shape[1]
    kernel = (rarity[:, None, None] * np.maximum(u, 0) ** 3).sum(0)
    own = np.maximum(has.sum(1), 1)
    return kernel / np.sqrt(np.outer(own, own))


@pytest.mark.parametrize(("words", "votes"), [(8, 5), (8, 1 << 20), (300, 5)])  # 300: many words in one image alone
def test_asmk_is_what_its_formula_says(words, votes, monkeypatch):
    monkeypatch.setattr(asmk, "MOST_VOTES", votes)
    features = {**collection(), "empty.jpg": described(np.zeros((0, 32), np.float32))}
    names, retriever = list(features), AsmkRetriever(AsmkOptions(words=words))
    inverted = retriever.describe(names, features)
    found = np.concatenate([retriever.similarities(inverted, i, min(i + 5, 13)) for i in range(0, 13, 5)])
    np.testing.assert_allclose(found, asmk_by_its_formula(names, features, words), atol=1e-6)
    assert inverted.counts[-1] == 0


@pytest.mark.parametrize("dim", [32, 64, 128, 200, 256])
def test_signs_that_differ_are_counted_for_any_dimension(dim, monkeypatch):
    rng = np.random.default_rng(dim)
    images = {f"{i}.jpg": described(unit_rows(30, dim, i)) for i in range(4)}
    names, retriever = list(images), AsmkRetriever(AsmkOptions(words=3))
    found = retriever.similarities(retriever.describe(names, images), 0, 4)
    np.testing.assert_allclose(found, asmk_by_its_formula(names, images, 3), atol=1e-6)
    values = rng.integers(0, 1 << 63, (3, 5), np.uint64)
    counted = asmk._count_bits(values)
    monkeypatch.delattr(np, "bitwise_count", raising=False)  # as with numpy 1
    np.testing.assert_array_equal(asmk._count_bits(values), counted)
    assert counted[0, 0] == bin(values[0, 0]).count("1")


def test_many_images_get_more_words_in_two_levels_and_their_partners_all_the_same(monkeypatch):
    monkeypatch.setattr(asmk, "SMALL", 10)
    monkeypatch.setattr(asmk, "WORDS", 16)
    monkeypatch.setattr(asmk, "KEYPOINTS", 100)
    monkeypatch.setattr(codebook, "TRAINING_IMAGES", 30)
    features = collection(scenes=20, views=3)
    pairs = select("retrieval", list(features), features, AsmkRetriever(AsmkOptions()), neighbors=2)
    expected = [pair for pair in combinations(sorted(features), 2) if pair[0][2:] == pair[1][2:]]
    assert pairs == expected
    assert [asmk.words_for(n) for n in (10, 11, 256, 257, 1025)] == [16, 64, 64, 256, 1024]


def test_a_codebook_in_two_levels_gives_each_descriptor_the_nearest_word_of_its_group():
    descriptors = unit_rows(500, 16)
    words = codebook.train_two_levels(descriptors, 64)
    found = words.assign(descriptors)
    groups = codebook.assign(descriptors, words.coarse)
    for group, (start, stop) in enumerate(zip(words.starts, words.starts[1:], strict=False)):
        members = groups == group
        np.testing.assert_array_equal(
            found[members], start + codebook.assign(descriptors[members], words.centres[start:stop])
        )
    assert len(words) == words.starts[-1] <= 64
    assert len(codebook.train_two_levels(descriptors[:0], 64).assign(descriptors[:0])) == 0


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_images_without_keypoints_disturb_nobody(retriever):
    features = collection()
    empty = {f"empty{i}.jpg": described(np.zeros((0, 32), np.float32)) for i in range(2)}
    pairs = select("retrieval", [*features, *empty], {**features, **empty}, retriever, neighbors=2)
    assert set(select("retrieval", list(features), features, retriever, neighbors=2)) <= set(pairs)
    assert np.isfinite(similarities(retriever, retriever.describe(list(empty), empty), 0, 2)).all()
    assert select("retrieval", list(empty), empty, retriever) == [("empty0.jpg", "empty1.jpg")]


def test_images_without_features_are_left_out_of_retrieval():
    features = collection()
    pairs = select("retrieval", [*features, "failed.jpg"], features, VladRetriever(VladOptions()), neighbors=99)
    assert pairs == list(combinations(sorted(features), 2))


def test_retrieval_says_what_it_needs():
    for method in ("retrieval", "prematch"):
        with pytest.raises(InputError, match="This way to select pairs needs features: extract features first"):
            select(method)
    with pytest.raises(InputError, match="Retrieval needs features and a retriever"):
        select("retrieval", features={})


# --- files among the parts -----------------------------------------------------------------------------


def test_a_plus_in_the_path_of_a_file_joins_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "a+b"
    folder.mkdir()
    (folder / "good+bad.txt").write_text("0.jpg 1.jpg\n")
    monkeypatch.chdir(folder)
    assert split_methods("sequential+good+bad.txt+retrieval") == ["sequential", "good+bad.txt", "retrieval"]
    assert split_methods("good+bad.txt") == ["good+bad.txt"]
    assert split_methods("good+sequential") == ["good", "sequential"]
    found = absolute_files("good+bad.txt+sequential")
    monkeypatch.chdir(tmp_path)
    options = PairOptions(pairs=found, overlap=1)
    assert options.methods() == [str(folder / "good+bad.txt"), "sequential"]
    assert select_pairs(["0.jpg", "1.jpg", "2.jpg"], options) == [("0.jpg", "1.jpg"), ("1.jpg", "2.jpg")]
    assert absolute_files("exhaustive+nothing") == "exhaustive+nothing"
