"""The stages one by one, with plain dictionaries as stores: nothing is written but the database and the model."""

from pathlib import Path

import lgsfm
from lgsfm.camera_groups import CameraOptions, group_cameras
from lgsfm.pairing import PairOptions

images, work = Path("datasets/courtyard/images"), Path("out/stages")
work.mkdir(parents=True, exist_ok=True)
settings = lgsfm.Settings.from_flags({"features": "sift", "max_edge_px": 800})
extractor = settings.make_extractor("sift")
matcher = settings.make_matcher("nearest", extractor)

names = lgsfm.list_images(images)
features, matches = {}, {}
lgsfm.extract_features(images, names, extractor, features)
pairs = lgsfm.select_pairs(names, PairOptions(pairs="exhaustive"))
lgsfm.match_features(features, pairs, matcher, matches)
cameras = group_cameras(images, names, CameraOptions(camera_mode="single", camera_model="PINHOLE"))
log = work / "colmap.log"
lgsfm.build_database(work / "database.db", features, matches, pairs, cameras, camera_model="PINHOLE", log_path=log)
for model in lgsfm.map_database(work / "database.db", images, work / "sparse", log_path=log):
    print(f"model {model.path}: {model.num_reg_images} of {len(names)} images, {model.num_points3D} points")
