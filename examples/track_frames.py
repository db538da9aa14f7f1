"""A front end for video: each frame is matched with the one before it and with a keyframe; features are made once."""

import sys
from pathlib import Path

import lgsfm
from lgsfm.errors import PoseError

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "datasets/courtyard/images")
frames = sorted(folder.iterdir())[:6]

settings = lgsfm.PairSettings.from_flags({"features": "aliked", "max_edge_px": 640, "max_keypoints": 512})
tracker = lgsfm.FrameMatcher(lgsfm.PairMatcher(settings))
keyframe = frames[0]
for frame in frames:
    last = tracker.next(frame)
    if last is None:
        continue
    pair = tracker.with_keyframe()
    try:
        pose = lgsfm.estimate_relative_pose(keyframe, frame, matches=pair)
        moved = f"turned by {pose.rotation_angle_deg:5.2f} degrees since {keyframe.name}, {pose.num_inliers} inliers"
    except PoseError as exc:
        moved = str(exc)
    print(f"{frame.name}: {len(last)} matches with the last frame, {len(pair)} with the keyframe; {moved}")
    if len(pair) < 160:
        tracker.set_keyframe()
        keyframe = frame
        print(f"{frame.name} is the new keyframe")
