"""A new extractor in one file: ORB. A package makes it available to `lgsfm --features orb` with

[project.entry-points."lgsfm.extractors"]
orb = "my_extractor:OrbExtractor"
"""

import cv2
import numpy as np

import lgsfm
from lgsfm.extractors import ExtractorOptions
from lgsfm.matchers.nearest import NearestMatcher, NearestOptions


class OrbExtractor:
    kind, matcher, is_rotation_invariant, options_class = "orb", "nearest", True, ExtractorOptions

    def __init__(self, options, device, fetch):
        self.options, self.identity = options, {"extractor": "orb", "version": 1, "options": options.to_dict()}

    def extract(self, photo):
        points, bits = cv2.ORB_create(self.options.max_keypoints).detectAndCompute(photo.rgb, None)
        bits = np.unpackbits(np.zeros((0, 32), np.uint8) if bits is None else bits, axis=1)
        descriptors = (bits * 2.0 - 1).astype(np.float32) / np.sqrt(256)  # Hamming distance as a dot product
        return lgsfm.Features(
            keypoints=photo.to_stored(np.array([p.pt for p in points], np.float32).reshape(-1, 2)),
            descriptors=descriptors,
            scores=np.array([p.response for p in points], np.float32),
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )


if __name__ == "__main__":
    extractor = OrbExtractor(ExtractorOptions(), "cpu", None)
    matcher = NearestMatcher(NearestOptions(), "cpu", None, "orb")
    photos = [lgsfm.read_photo(f"datasets/courtyard/images/view{i}.jpg", 1024) for i in ("04", "05")]
    print(len(lgsfm.match(matcher, *map(extractor.extract, photos))), "matches of ORB features")
