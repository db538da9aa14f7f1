"""Where transformers is wrong: each check runs on both, ours passes it, theirs fails it."""

import numpy as np
import pytest
import torch
import transformers
from hf_helpers import SMALL, pairs, textures, theirs
from PIL import Image
from transformers.models.lightglue.image_processing_pil_lightglue import LightGlueImageProcessorPil

from lgsfm.hf import LightGlueForKeypointMatching, LightGlueImageProcessor, pipeline

SEED = 11
EARLY = {"depth_confidence": 0.5, "width_confidence": 0.5}
SIZE = {"height": 96, "width": 128}


def both(folder, seed=SEED, **config):
    model = theirs(seed, **SMALL | EARLY | config)
    model.save_pretrained(folder)
    return model, LightGlueForKeypointMatching.from_pretrained(folder)


def matches_of(output, pair):
    """{(x0, y0, x1, y1): score} in relative coordinates, by the arrays of the output alone."""
    found = {}
    for i, j in enumerate(output.matches[pair, 0].tolist()):
        if j >= 0 and output.mask[pair, 0, i]:
            ends = torch.cat((output.keypoints[pair, 0, i], output.keypoints[pair, 1, j]))
            found[tuple(ends.tolist())] = float(output.matching_scores[pair, 0, i])
    return found


@torch.no_grad()
def batch_equals_loop(model, pixels):
    batch = model(pixels)
    for i in range(len(pixels)):
        alone = matches_of(model(pixels[i : i + 1]), 0)
        if matches_of(batch, i) != pytest.approx(alone, abs=1e-4):
            return False
    return True


def test_batches_keep_the_order_of_the_caller(tmp_path):
    model, ours = both(tmp_path)
    pixels = pairs(5, seed=SEED)
    output = ours(pixels)
    assert len(set(output.mask.sum(-1).flatten().tolist())) > 5  # keypoints per image
    assert output.prune.flatten(1).amax(1).tolist() == [2, 2, 2, 2, 1]  # the last pair finishes first
    assert batch_equals_loop(ours, pixels)
    assert batch_equals_loop(ours, pixels.flip(0))
    assert not batch_equals_loop(model, pixels)


def test_some_pairs_may_stop_early_and_others_run_all_layers(tmp_path):
    model, ours = both(tmp_path, seed=1, depth_confidence=0.6)
    pixels = pairs(5, seed=1)
    assert ours(pixels).prune.flatten(1).amax(1).tolist() == [4, 4, 1, 1, 1]
    assert batch_equals_loop(ours, pixels)
    with torch.no_grad(), pytest.raises(IndexError):
        model(pixels)


@pytest.mark.parametrize(
    ("confidences", "error"),
    [
        ({"depth_confidence": -1.0, "width_confidence": 0.99}, UnboundLocalError),
        ({"width_confidence": -1.0}, RuntimeError),
    ],
)
def test_either_adaptivity_works_alone(confidences, error, tmp_path):
    model, ours = both(tmp_path, **confidences)
    pixels = pairs(2, seed=SEED)
    assert (ours(pixels).matches > -1).sum() > 20
    assert batch_equals_loop(ours, pixels)
    with torch.no_grad(), pytest.raises(error):
        model(pixels)


def test_an_integer_switches_adaptivity_off():
    from lgsfm.hf import LightGlueConfig

    assert LightGlueConfig(depth_confidence=-1).depth_confidence == -1
    with pytest.raises(Exception, match="expected float, got int"):
        transformers.LightGlueConfig(depth_confidence=-1)


def test_shapes_do_not_depend_on_adaptivity(tmp_path):
    model, ours = both(tmp_path, depth_confidence=-1.0, width_confidence=-1.0)
    pixels = pairs(3, seed=SEED)

    def usable(model, processor):
        with torch.no_grad():
            output = model(pixels)
        assert output.matches.shape == output.mask.shape
        assert len(processor.post_process_keypoint_matching(output, [[(96, 128)] * 2] * 3)) == 3

    usable(ours, LightGlueImageProcessor())
    with pytest.raises(AssertionError):
        usable(model, LightGlueImageProcessorPil())


@torch.no_grad()
def both_sides_agree(model, pixels):
    """If keypoint i is matched with j, then j with i."""
    output = model(pixels)
    for matches, mask in zip(output.matches, output.mask, strict=True):
        for side in (0, 1):
            own = ((matches[side] >= 0) & (mask[side] > 0)).nonzero()[:, 0]
            if (matches[1 - side][matches[side][own]] != own).any():
                return False
    return True


def test_both_sides_of_a_match_agree(tmp_path):
    """Theirs marks dropped keypoints with the index -1, and so writes what is padding over the last keypoint."""
    detector = SMALL["keypoint_detector_config"] | {"max_keypoints": 100}
    model, ours = both(tmp_path, 1, depth_confidence=0.95, keypoint_detector_config=detector)
    pixels = pairs(1)
    assert len(ours(pixels).prune.unique()) > 1
    assert both_sides_agree(ours, pixels)
    assert not both_sides_agree(model, pixels)


def test_attentions_are_there_when_asked_for(tmp_path):
    model, ours = both(tmp_path)
    pixels = pairs(2, seed=SEED)
    assert all(len(attention) == 2 for attention in ours(pixels, output_attentions=True).attentions)
    with torch.no_grad():
        assert set(model(pixels, output_attentions=True).attentions) == {None}


def test_colour_is_seen_as_grey(tmp_path):
    """Of RGB pixel values theirs sees the red channel alone."""
    model, ours = both(tmp_path)
    pixels = pairs(1, seed=SEED)
    green = pixels * torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    with torch.no_grad():
        blind = model(green), model(torch.zeros_like(green))
    assert torch.equal(blind[0].keypoints, blind[1].keypoints)
    seen = ours(green), ours(pixels * 0.587)
    torch.testing.assert_close(seen[0].keypoints, seen[1].keypoints)
    assert torch.equal(seen[0].matches, seen[1].matches)


# ---- positions


def picture(height=200, width=150):
    """A grey texture in RGB."""
    return Image.fromarray((textures(1, height, width, seed=5)[0] * 255).byte().permute(1, 2, 0).numpy())


def test_sizes_are_height_and_width(tmp_path):
    """All matches of a portrait with itself lie inside of it, and reach down to its lower end."""
    theirs(SEED, **SMALL).save_pretrained(tmp_path)
    LightGlueImageProcessorPil(size=SIZE).save_pretrained(tmp_path)
    image = picture(height=256, width=128)

    def farthest(matcher):
        points = [match["keypoint_image_0"] for match in matcher([image, image])]
        return max(point["x"] for point in points), max(point["y"] for point in points)

    x, y = farthest(pipeline("keypoint-matching", model=tmp_path))
    assert 100 < x < 128
    assert 200 < y < 256
    x, y = farthest(transformers.pipeline("keypoint-matching", model=str(tmp_path)))
    assert x > 200
    assert y < 128


def outputs_at(position, size):
    """The output of a model that saw one keypoint at ``position`` of two images of ``size`` (height, width)."""
    from lgsfm.hf import LightGlueKeypointMatchingOutput

    relative = torch.tensor([position[0] / size[1], position[1] / size[0]])
    output = LightGlueKeypointMatchingOutput(
        matches=torch.zeros(1, 2, 1, dtype=torch.long),
        matching_scores=torch.ones(1, 2, 1),
        keypoints=relative.expand(1, 2, 1, 2),
        mask=torch.ones(1, 2, 1, dtype=torch.int32),
    )
    output.image_sizes = torch.tensor(size).expand(1, 2, 2)
    return output


@pytest.mark.parametrize("full", [(480, 640), (1000, 1500), (240, 320), (1080, 1920)])
def test_keypoints_keep_their_fractions(full):
    """A dot is drawn in an image; where it is in the resized one leads back to where it was drawn."""
    height, width = full
    exact = np.array([0.3712 * width, 0.6127 * height])
    y, x = np.mgrid[:height, :width]
    dot = np.exp(-((x - exact[0]) ** 2 + (y - exact[1]) ** 2) / (2 * (height / 40) ** 2)) * 255
    image = np.repeat(dot[..., None], 3, 2).astype(np.float32)
    pixels = LightGlueImageProcessor()([image, image], return_tensors="pt").pixel_values[0, 0, 0].double().numpy()
    v, u = np.mgrid[:480, :640]
    seen = [(u * pixels).sum() / pixels.sum(), (v * pixels).sum() / pixels.sum()]

    def error(processor):
        (result,) = processor.post_process_keypoint_matching(outputs_at(seen, (480, 640)), [[full, full]])
        return np.abs(result["keypoints0"][0].numpy() - exact).max()

    assert error(LightGlueImageProcessor()) < 0.01
    assert error(LightGlueImageProcessorPil()) > 0.1


def test_the_aspect_ratio_can_be_kept(tmp_path):
    """A wide and a high image share a tensor; the padding has no keypoints and does not move any."""
    _, ours = both(tmp_path)
    wide, high = picture(72, 144), picture(144, 72)
    processor = LightGlueImageProcessor(size={"longest_edge": 128})
    inputs = processor([[wide, high], [wide, wide]], return_tensors="pt")
    assert inputs.pixel_values.shape == (2, 2, 3, 128, 128)
    assert inputs.image_sizes.tolist() == [[[64, 128], [128, 64]], [[64, 128]] * 2]
    output = ours(**inputs)
    cropped = inputs.pixel_values[1:, :, :, :64]
    alone = ours(cropped)  # the same images without padding
    assert matches_of(alone, 0) == pytest.approx(matches_of(output, 1), abs=1e-4)
    sizes = [[(72, 144), (144, 72)], [(72, 144)] * 2]
    found = processor.post_process_keypoint_matching(output, sizes)
    assert all((f["keypoints0"] < torch.tensor([144, 72])).all() for f in found)
    assert (found[0]["keypoints1"] < torch.tensor([72, 144])).all()
    assert len(found[1]["keypoints0"]) > 10
    assert torch.equal(found[1]["keypoints0"], found[1]["keypoints1"])
    with pytest.raises(ValueError, match="Size must contain"):
        LightGlueImageProcessorPil(size={"longest_edge": 128})([wide, high], return_tensors="pt")


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_any_image_can_be_drawn(mode):
    images = [picture().convert(mode), picture().convert(mode)]
    result = [{"keypoints0": torch.ones(1, 2), "keypoints1": torch.ones(1, 2), "matching_scores": torch.ones(1)}]
    (drawn,) = LightGlueImageProcessor().visualize_keypoint_matching(images, result)
    assert drawn.size == (300, 200)
    with pytest.raises(ValueError, match="could not broadcast"):
        LightGlueImageProcessorPil().visualize_keypoint_matching(images, result)


def test_grey_and_colour_make_a_pair():
    grey, colour = picture().convert("L"), picture()
    inputs = LightGlueImageProcessor()([grey, colour], return_tensors="pt")
    torch.testing.assert_close(inputs.pixel_values[0, 0], inputs.pixel_values[0, 1], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="Unable to convert output"):
        LightGlueImageProcessorPil()([grey, colour], return_tensors="pt")
