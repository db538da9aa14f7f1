"""Matches and relative pose of two photos, in pixels of the files, and a picture of them."""

import sys
from pathlib import Path

import lgsfm
from lgsfm.drawing import draw_matches, save_picture

folder = "datasets/courtyard/images/"
paths = sys.argv[1:3] if len(sys.argv) > 2 else (folder + "view00.jpg", folder + "view04.jpg")

pair = lgsfm.match_pair(*paths, features="aliked", max_keypoints=1024)
print(f"{len(pair)} matches, for example {pair.points0[0]} px <-> {pair.points1[0]} px")

pose = lgsfm.estimate_relative_pose(*paths, matches=pair)
print(f"{pose.num_inliers} inliers, {pose.configuration}, turned by {pose.rotation_angle_deg:.2f} degrees")
print("cam1_from_cam0:", pose.quaternion_wxyz.round(5), pose.translation.round(5))
print("focal lengths:", [f"{camera.focal_px:.0f} px ({camera.source})" for camera in pose.cameras])

photos = [lgsfm.read_photo(path, 1000, orientation=1).rgb for path in paths]
picture = draw_matches(tuple(photos), pair.features, pair.indices, pair.scores, pose.inliers, title=" | ".join(paths))
save_picture(Path("out/matches.png"), picture)
print("out/matches.png")
