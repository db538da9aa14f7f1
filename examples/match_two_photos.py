"""Matches of two photos, in pixels of the files, and how they may be drawn."""

import sys
from pathlib import Path

import cv2
import numpy as np

import lgsfm

folder = "datasets/courtyard/images/"
path0, path1 = sys.argv[1:3] if len(sys.argv) > 2 else (folder + "view00.jpg", folder + "view04.jpg")

settings = lgsfm.Settings.from_flags({"features": "aliked", "max_keypoints": 1024})
extractor = settings.make_extractor("aliked")
matcher = settings.make_matcher("auto", extractor)
features = [extractor.extract(lgsfm.read_photo(path, 1024)) for path in (path0, path1)]
matches = lgsfm.match(matcher, *features)

points0 = features[0].keypoints[matches.indices[:, 0]]
points1 = features[1].keypoints[matches.indices[:, 1]]
print(f"{len(matches)} matches, for example {points0[0]} px <-> {points1[0]} px")

photos = [lgsfm.read_photo(path).rgb[..., ::-1] for path in (path0, path1)]
height = max(photo.shape[0] for photo in photos)
sheet = np.hstack([cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT) for p in photos])
for a, b, score in zip(points0, points1 + np.array([photos[0].shape[1], 0]), matches.scores, strict=True):
    color = (0, int(255 * score), int(255 * (1 - score)))
    cv2.line(sheet, tuple(map(round, a.tolist())), tuple(map(round, b.tolist())), color, 1, cv2.LINE_AA)
Path("out").mkdir(exist_ok=True)
cv2.imwrite("out/matches.png", sheet)
print("out/matches.png")
