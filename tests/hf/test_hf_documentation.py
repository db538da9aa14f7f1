"""The code blocks of transformers' LightGlue page run as they stand.

What is changed: the module of the imports, addresses (to files), the hub's name of the model (to a folder, or to the
weights of ALIKED where those are here).
"""

import pytest
from conftest import ROOT
from hf_helpers import theirs
from PIL import Image

from lgsfm import weights

IMAGES = ROOT / "datasets" / "courtyard" / "images"
PATHS = str(IMAGES / "view00.jpg"), str(IMAGES / "view04.jpg")


@pytest.fixture(scope="module")
def superpoint(tmp_path_factory):
    """A folder as ETH-CVG/lightglue_superpoint, with random weights."""
    from lgsfm.hf import LightGlueImageProcessor

    folder = tmp_path_factory.mktemp("lightglue_superpoint")
    detector = {"model_type": "superpoint", "max_keypoints": 100}
    theirs(0, keypoint_detector_config=detector, filter_threshold=0.001).save_pretrained(folder)
    LightGlueImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture(params=["superpoint", "aliked"])
def name(request):
    if request.param == "superpoint":
        return request.getfixturevalue("superpoint")
    if not (weights.find("aliked-n16") and weights.find("lightglue-aliked")):
        pytest.skip("the ALIKED and LightGlue weights are not here: lgsfm weights fetch")
    return "lgsfm/lightglue_aliked"


def test_pipeline_block(name):
    from lgsfm.hf import pipeline

    keypoint_matcher = pipeline(task="keypoint-matching", model=name, dtype="auto")

    url_0 = PATHS[0]
    url_1 = PATHS[1]

    results = keypoint_matcher([url_0, url_1], threshold=0.9)

    if name == "lgsfm/lightglue_aliked":
        assert len(results) > 200
        assert results[0].keys() == {"keypoint_image_0", "keypoint_image_1", "score"}
        assert results[0]["keypoint_image_0"].keys() == {"x", "y"}
        assert 0.9 < results[-1]["score"] <= results[0]["score"] <= 1


@pytest.mark.parametrize("auto", ["AutoModelForKeypointMatching", "AutoModel"])
def test_automodel_block(auto, name, capsys):
    import torch

    import lgsfm.hf
    from lgsfm.hf import AutoImageProcessor

    image1 = Image.open(PATHS[0])
    image2 = Image.open(PATHS[1])

    images = [image1, image2]

    processor = AutoImageProcessor.from_pretrained(name)
    model = getattr(lgsfm.hf, auto).from_pretrained(name)

    inputs = processor(images, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)

    # Post-process to get keypoints and matches
    image_sizes = [[(image.height, image.width) for image in images]]
    processed_outputs = processor.post_process_keypoint_matching(outputs, image_sizes, threshold=0.2)

    for i, output in enumerate(processed_outputs):
        print("For the image pair", i)
        for keypoint0, keypoint1, matching_score in zip(
            output["keypoints0"], output["keypoints1"], output["matching_scores"], strict=True
        ):
            print(
                f"Keypoint at coordinate {keypoint0.numpy()} in the first image matches with keypoint at coordinate "
                f"{keypoint1.numpy()} in the second image with a score of {matching_score}."
            )

    # Easy visualization using the built-in plotting method
    visualized_images = processor.visualize_keypoint_matching(images, processed_outputs)

    assert capsys.readouterr().out.startswith("For the image pair 0")
    assert [image.size for image in visualized_images] == [(1600, 600)]


def test_configuration_block():
    from lgsfm.hf import LightGlueConfig, LightGlueForKeypointMatching

    # Initializing a LightGlue style configuration
    configuration = LightGlueConfig()

    # Initializing a model from the LightGlue style configuration
    model = LightGlueForKeypointMatching(configuration)

    # Accessing the model configuration
    configuration = model.config

    assert configuration == LightGlueConfig()
