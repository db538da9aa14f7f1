"""The code of transformers' LightGlue page over lgsfm: the imports and the model's name are all that changes."""

from pathlib import Path

import torch
from PIL import Image

from lgsfm.hf import AutoImageProcessor, AutoModelForKeypointMatching, pipeline

folder = "datasets/courtyard/images/"
paths = [folder + "view00.jpg", folder + "view04.jpg"]
name = "lgsfm/lightglue_aliked"  # or "ETH-CVG/lightglue_superpoint", whose weights are not for commercial use

# All in one call
matcher = pipeline(task="keypoint-matching", model=name)
matches = matcher(paths, threshold=0.9)
print(f"{len(matches)} matches, the surest: {matches[0]}")

# Step by step, with the aspect ratio of the images kept
processor = AutoImageProcessor.from_pretrained(name, size={"longest_edge": 800})
model = AutoModelForKeypointMatching.from_pretrained(name)
images = [Image.open(path) for path in paths]
inputs = processor(images, return_tensors="pt")
with torch.inference_mode():
    outputs = model(**inputs)
image_sizes = [[(image.height, image.width) for image in images]]
results = processor.post_process_keypoint_matching(outputs, image_sizes, threshold=0.2)
for keypoint0, keypoint1, score in list(zip(*results[0].values(), strict=True))[:3]:
    print(f"{keypoint0.numpy()} px <-> {keypoint1.numpy()} px, score {score:.3f}")

Path("out").mkdir(exist_ok=True)
processor.visualize_keypoint_matching(images, results)[0].save("out/hf_matches.png")
print("out/hf_matches.png")
