"""What a run will take: seconds of each stage, disk, memory. Nothing here measures or reads anything.

Speeds come from `lgsfm.rates` or, where nothing was measured, from `reference_seconds`: what two CPU cores took,
scaled by how fast this machine multiplies matrices.

**Mapping.** The incremental mapper adjusts everything anew each time the model has grown by a tenth, and adds images in
between at a cost that grows with what they share with others. Its time followed n^1.5 from 12 to 100 frames of a
video (0.7, 2.0, 6.7, 17 s for n = 12, 25, 50, 100) and is in proportion to the keypoints; the global mapper's followed
n^1.3 (0.5, 0.9, 2.2, 5.9 s). Beyond a few hundred images this is an extrapolation. It fits what is published: global
mapping is faster by orders of magnitude where collections are large (L. Pan et al.: "Global Structure-from-Motion
Revisited", ECCV 2024). The hierarchical mapper is taken for incremental ones of at most 500 images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .pairing import AUTO_EXHAUSTIVE, PairOptions

__all__ = [
    "STAGES",
    "Estimate",
    "Rates",
    "Setup",
    "Work",
    "count_pairs",
    "database_bytes",
    "duration",
    "estimate",
    "feature_bytes",
    "guess_seconds",
    "keypoints_in",
    "likely_matches",
    "likely_methods",
    "match_bytes",
    "memory_bytes",
    "memory_parts",
    "model_bytes",
    "network_bytes",
    "reference_seconds",
    "size",
]

STAGES = ("extract", "match", "verify", "map")
GUESSED, SCALED, MEASURED = "guessed", "measured at another size", "measured"

REFERENCE_GFLOPS = 108 * 2**0.8  # `lgsfm.machine.Machine.gflops` of the reference machine
FLOOR_S = {"extract": 0.02, "match": 0.01}  # a GPU waits for the decoder and for its host, however fast it is
ALL_KEYPOINTS = 8192  # where all are kept
MATCHES_SHARE = 0.4  # of the keypoints that match in a pair of photos of one place; 0.28 to 0.77 in nine collections
PARTNERS = 20  # photos that show much the same as one of a large collection; the other pairs hold
CHANCE_SHARE = 0.08  # of the keypoints matched; 0.05 to 0.1 where places are mixed
RETRIEVED_SHARE = 0.6  # of the similar images that are no pair yet from the other side; 0.53 to 0.58 in a video
NEIGHBOURS_SHARE = 0.5  # of the neighbours by name that retrieval has not found; a quarter in a video

# ---- seconds on the reference machine
EXTRACT_S_PER_MEGAPIXEL = {
    "aliked": 0.57,
    "aliked-n32": 0.65,
    "aliked-t16": 0.3,
    "sift": 0.22,
    "superpoint": 1.5,  # from its operations
}
READ_S = 0.05  # a photo of some megapixels
LIGHTGLUE_GFLOPS = 205
ADAPTIVE_SHARE = 0.5  # of LightGlue's work that a typical pair needs when it may stop early

# ---- keypoints
KEYPOINTS_PER_TEXTURED_MEGAPIXEL = {"aliked": 4500, "sift": 15_000}  # of sets 3,600 to 5,300, 8,500 to 27,000
KEYPOINTS_STEP = 256  # a guess from some photos is no finer, so that speeds of like collections are kept together

# ---- bytes
DESCRIPTOR_DIM = {"aliked": 128, "sift": 128, "superpoint": 256}
ENTRY_BYTES = {"features": 3200, "matches": 2300}  # what HDF5 needs for the groups and attributes of an entry
EMPTY_DATABASE_BYTES = 160_000
PAIR_BYTES = {"matches": 300, "geometry": 700}  # of the database: half a page each, matrices and poses
MODEL_BYTES_PER_KEYPOINT = 37
IMAGE_BYTES_PER_PIXEL = {"aliked": 400, "sift": 230, "superpoint": 700}  # activations, or the scale space
NETWORK_BYTES = {"aliked": 110e6, "sift": 25e6, "superpoint": 150e6, "lightglue": 160e6, "nearest": 60e6}
TORCH_BYTES = 310e6  # Python, torch, pycolmap, OpenCV
READING_BYTES = 80e6  # photos that are decoded ahead
PREPARED_IMAGES = 64  # that the matching stage keeps
PREPARED_BYTES_PER_KEYPOINT = {"lightglue": 1280, "nearest": 512}  # tokens and rotary encoding, descriptors
NEW_SHARE = 0.5  # of the matching stage's memory that the feature stage has not left behind
PAIR_ENTRY_BYTES = 600  # of the lists of pairs and what they are asked for, in our process
MAPPER_BYTES = 90e6
MAPPER_BYTES_PER_KEYPOINT = 1400  # correspondences, tracks, bundle adjustment; 1,200 to 1,600 in three collections


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The choices that decide the cost of one photo or pair."""

    extractor: str
    matcher: str
    mapper: str = "incremental"
    variant: str = ""  # of the extractor
    pixels: int  # of a photo as the extractor sees it
    keypoints: int  # at most so many per photo; 0 keeps all
    is_adaptive: bool = True  # whether the matcher may stop early
    expected: int = 0  # keypoints that its photos are likely to have, see `keypoints_in`; 0: as many as may be

    @property
    def most_keypoints(self) -> int:
        """Keypoints that a photo may have: what memory has to hold."""
        return self.keypoints or ALL_KEYPOINTS

    @property
    def likely_keypoints(self) -> int:
        """Keypoints that a photo is likely to have: what files and seconds follow."""
        return min(self.most_keypoints, self.expected or self.most_keypoints)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to do; the whole collection decides disk, memory and mapping, the rest only what is not done."""

    num_images: int
    num_pairs: int
    new_images: int  # to extract
    new_pairs: int  # to match
    more_pairs: float = 0  # that second looks may cost at most, in pairs of the first look
    more_s: float = 0  # that they may cost at most, where their budget is a time
    is_database_new: bool = True  # whether the pairs are to be verified

    @classmethod
    def all_of(cls, num_images: int, num_pairs: int) -> Work:
        """All is to be done."""
        return cls(num_images=num_images, num_pairs=num_pairs, new_images=num_images, new_pairs=num_pairs)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Speeds, and where each comes from: `MEASURED` on this machine, `SCALED` from another size there, or `GUESSED`."""

    seconds: Mapping[str, float]  # per photo (extract, map) or per pair (match, verify), see `STAGES`
    mapped_images: int  # of the collection in which a photo takes the mapper so long
    sources: Mapping[str, str]

    def origin(self, stages: Iterable[str] = STAGES) -> str:
        """Where the speeds of some stages come from, for people."""
        guessed = [stage for stage in stages if self.sources[stage] == GUESSED]
        if not guessed:
            return "as measured on this machine"
        if {"extract", "match"} & set(guessed):
            return "a rough guess; `lgsfm bench IMAGES` measures it"
        what = "is a rough guess" if len(guessed) == 1 else "are rough guesses"
        return f"as measured on this machine, but {' and '.join(guessed)} {what}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take."""

    seconds: Mapping[str, float]  # per stage, see `STAGES`
    disk_bytes: int  # of the finished output folder
    beside_bytes: int  # that lie beside it for a while: a second database, models of another attempt
    memory: Mapping[str, int]  # stage -> peak of the process that does it
    more_s: float = 0.0  # at most, of second looks and of the models after them

    @property
    def memory_bytes(self) -> int:
        """Peak of the largest process."""
        return max(self.memory.values())

    @property
    def total_s(self) -> float:
        """All stages."""
        return sum(self.seconds.values())


def estimate(work: Work, setup: Setup, rates: Rates) -> Estimate:
    """What a run will take at these speeds."""
    mapping_s = rates.seconds["map"] * work.num_images
    if work.num_images != rates.mapped_images:
        mapping_s *= _map_growth(setup.mapper, work.num_images) / _map_growth(setup.mapper, rates.mapped_images)
    seconds = {
        "extract": rates.seconds["extract"] * work.new_images,
        "match": rates.seconds["match"] * work.new_pairs,
        "verify": rates.seconds["verify"] * work.num_pairs * work.is_database_new,
        "map": mapping_s,
    }
    keypoints = setup.likely_keypoints
    matches = likely_matches(work.num_images, work.num_pairs, keypoints)
    database = database_bytes(work.num_images, keypoints, work.num_pairs, matches, matches)
    models = model_bytes(work.num_images, keypoints)
    disk = (
        feature_bytes(work.num_images, keypoints, DESCRIPTOR_DIM.get(setup.extractor, 128))
        + match_bytes(work.num_pairs, matches)
        + database
        + models
    )
    more_s = (rates.seconds["match"] + rates.seconds["verify"]) * work.more_pairs + work.more_s
    return Estimate(
        seconds=seconds,
        disk_bytes=disk,
        beside_bytes=database + models,
        memory=memory_parts(work, setup),
        more_s=more_s + mapping_s if more_s else 0.0,
    )


def keypoints_in(extractor: str, textured_pixels: float) -> int:
    """Keypoints that a photo is likely to have with so many pixels that are not plain; 0 where that is not known."""
    each = KEYPOINTS_PER_TEXTURED_MEGAPIXEL.get(extractor, 0)
    return KEYPOINTS_STEP * max(1, round(each * textured_pixels / 1e6 / KEYPOINTS_STEP)) if each else 0


def likely_matches(num_images: int, num_pairs: int, keypoints: int) -> int:
    """Matches of a pair on average: the more pairs a photo has, the fewer of them show the same."""
    partners = 2 * num_pairs / max(num_images, 1)
    same = min(1.0, PARTNERS / partners) if partners else 1.0
    return round(keypoints * (MATCHES_SHARE * same + CHANCE_SHARE * (1 - same)))


def likely_methods(num_images: int, options: PairOptions) -> list[str]:
    """How pairs are selected; for "auto" what it chooses of so many numbered photos without GPS."""
    automatic = ["exhaustive"] if num_images <= AUTO_EXHAUSTIVE else ["retrieval", "sequential"]
    return [name for method in options.methods() for name in (automatic if method == "auto" else [method])]


def count_pairs(num_images: int, options: PairOptions) -> int:
    """About how many pairs are selected of so many images; a file of pairs counts as nothing.

    Two images that are similar to each other are one pair, and so is a neighbour by name that is similar; the shares of
    those were counted in real collections.
    """
    every = num_images * (num_images - 1) // 2
    methods = likely_methods(num_images, options)
    if "exhaustive" in methods or "prematch" in methods:  # at most, of the latter
        return every
    count = 0.0
    for _ in {"retrieval", "spatial", "covisibility"} & set(methods):
        count += RETRIEVED_SHARE * num_images * min(options.neighbors, num_images - 1)
    if "sequential" in methods:
        overlap = min(options.overlap, num_images - 1)
        neighbours = num_images * overlap - overlap * (overlap + 1) // 2
        count += neighbours * (NEIGHBOURS_SHARE if count else 1)
    return min(every, round(count))


# --------------------------------------------------------------------------------- time
def reference_seconds(stage: str, setup: Setup, num_images: int = 100) -> float:
    """Seconds per photo (extract, map) or pair (match, verify) on the reference machine; mapping of ``num_images``."""
    keypoints = setup.likely_keypoints
    if stage == "extract":
        known = EXTRACT_S_PER_MEGAPIXEL
        each = known.get(f"{setup.extractor}-{setup.variant}", known.get(setup.extractor, known["superpoint"]))
        return READ_S + each * setup.pixels / 1e6
    if stage == "match":
        return _match_s(setup.matcher, keypoints, setup.is_adaptive)
    if stage == "verify":
        return 0.012 * keypoints / 2048
    return 0.08 * keypoints / 2048 * _map_growth(setup.mapper, num_images)


def _match_s(matcher: str, keypoints: int, is_adaptive: bool) -> float:
    """LightGlue: 9 layers over the tokens of both images, each 2.2 MFLOP and attention to 2 x ``keypoints`` others."""
    if matcher == "nearest":
        return 0.002 + 2.7e-9 * keypoints**2
    gflop = 1e-9 * 2 * keypoints * 9 * (2.2e6 + 2048 * keypoints)
    return gflop / LIGHTGLUE_GFLOPS * (ADAPTIVE_SHARE if is_adaptive else 1)


def _map_growth(mapper: str, num_images: int) -> float:
    """How the seconds of mapping per photo grow with the collection."""
    if mapper == "global":
        return 0.7 * num_images**0.3
    return min(num_images, 500 if mapper == "hierarchical" else num_images) ** 0.5


def guess_seconds(stage: str, setup: Setup, num_images: int, gflops: float, is_gpu: bool) -> float:
    """Seconds per photo or pair on a machine of which nothing is known but how fast it multiplies matrices."""
    seconds = reference_seconds(stage, setup, num_images) * REFERENCE_GFLOPS / gflops
    return max(seconds, FLOOR_S.get(stage, 0.0)) if is_gpu else seconds


# --------------------------------------------------------------------------------- disk and memory
def feature_bytes(num_images: int, keypoints: int, dim: int) -> int:
    """The feature file: float32 positions and scores, float16 descriptors, see `lgsfm.store`."""
    return num_images * (keypoints * (8 + 2 * dim + 4) + ENTRY_BYTES["features"])


def match_bytes(num_pairs: int, matches: int) -> int:
    """The match file: two int32 and a float32 per match."""
    return num_pairs * (12 * matches + ENTRY_BYTES["matches"])


def database_bytes(num_images: int, keypoints: int, num_pairs: int, matches: int, inliers: int) -> int:
    """COLMAP's database: float32 positions; two uint32 per match and again per inlier."""
    pair = 8 * (matches + inliers) + PAIR_BYTES["matches"] * bool(matches) + PAIR_BYTES["geometry"] * bool(inliers)
    return EMPTY_DATABASE_BYTES + 8 * num_images * keypoints + num_pairs * pair


def model_bytes(num_images: int, keypoints: int) -> int:
    """COLMAP's model: 24 bytes for each keypoint, and the points with their tracks."""
    return MODEL_BYTES_PER_KEYPOINT * num_images * keypoints


def memory_bytes(num_images: int, setup: Setup) -> int:
    """Peak memory of the largest process of a run over so many photos, but for what each pair adds."""
    return max(memory_parts(Work.all_of(num_images, 0), setup).values())


def memory_parts(work: Work, setup: Setup) -> dict[str, int]:
    """Peak memory by stage: of our process, with the networks on the CPU, and of that of the mapper.

    Half of what the matching stage needs finds room in what the feature stage has left behind. The sum was -17 to
    +27 % off the peaks of seven runs (0.6 to 1.3 GB). On a GPU, the part of the networks is the GPU's.
    """
    base = TORCH_BYTES + READING_BYTES
    extraction, matching = network_bytes(work.num_images, setup)
    ours = base + extraction + NEW_SHARE * matching + PAIR_ENTRY_BYTES * work.num_pairs
    mapper = MAPPER_BYTES + MAPPER_BYTES_PER_KEYPOINT * work.num_images * setup.likely_keypoints
    return {"extract": round(base + extraction), "match": round(ours), "map": round(mapper)}


def network_bytes(num_images: int, setup: Setup) -> tuple[float, float]:
    """What extraction and matching need where the networks work, for so many photos."""
    keypoints, prepared = setup.most_keypoints, min(num_images, PREPARED_IMAGES)
    extraction = (
        NETWORK_BYTES.get(setup.extractor, 150e6) + IMAGE_BYTES_PER_PIXEL.get(setup.extractor, 700) * setup.pixels
    )
    pair = 3 * 4 * keypoints**2 if setup.matcher != "nearest" else 6 * (1 << 24)  # scores of all with all; blocks
    matching = (
        NETWORK_BYTES.get(setup.matcher, 160e6)
        + pair
        + prepared * keypoints * PREPARED_BYTES_PER_KEYPOINT.get(setup.matcher, 1280)
    )
    return extraction, matching


# --------------------------------------------------------------------------------- words
def duration(seconds: float) -> str:
    """For people: "0.4 s", "40 s", "12 min", "3.5 h", "9 days"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def size(count: float) -> str:
    """Bytes for people: "12 MB", "1.3 GB"."""
    if count < 999.5e6:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 99.95e9 else f"{count / 1e9:.0f} GB"
