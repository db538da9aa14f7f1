"""A folder of photos becomes a COLMAP model; run it again and it goes on where it stopped."""

import sys

import lgsfm

images = sys.argv[1] if len(sys.argv) > 1 else "datasets/courtyard/images"
output = sys.argv[2] if len(sys.argv) > 2 else "out/courtyard"

summary = lgsfm.reconstruct(images, output, max_keypoints=1024, max_edge_px=800)
print(f"{summary.num_reg_images} of {summary.num_images} images in {summary.output}/{summary.best_model}")
for name in summary.unregistered:
    print("not registered:", name)
