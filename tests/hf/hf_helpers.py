"""Small models of transformers whose random weights detect and match, and pictures for them."""

import torch
import torch.nn.functional as F
import transformers

SMALL = {
    "num_hidden_layers": 4,
    "descriptor_dim": 64,
    "keypoint_detector_config": {
        "model_type": "superpoint",
        "encoder_hidden_sizes": [16, 16, 32, 32],
        "decoder_hidden_size": 32,
        "descriptor_decoder_dim": 64,
    },
}


@torch.no_grad()
def make_matching(model, seed=0):
    """Random weights under which equal descriptors match, and keypoints are decided and dropped at various layers."""
    generator = torch.Generator().manual_seed(seed)
    message = 0.3 * 4 / model.config.num_hidden_layers
    for name, value in model.state_dict().items():
        dim = value[0].numel() if value.ndim else 1
        if name.endswith("layer_norm.weight"):
            value.fill_(1)
        elif value.ndim == 4:
            scale = 3 if "conv_score_b" in name else 1
            value.normal_(0, scale * (2 / dim) ** 0.5, generator=generator)
        elif name.startswith("input_projection.w"):
            torch.nn.init.orthogonal_(value, generator=generator)
        elif name.endswith("final_projection.weight"):
            value.copy_(torch.eye(len(value)) * (20 * dim**0.5) ** 0.5)
        elif name.endswith(("matchability.weight", "token.weight")):
            value.normal_(0, 1.5 if "match" in name else 1, generator=generator)
        else:
            value.normal_(0, 0.05 if value.ndim == 1 else message / dim**0.5, generator=generator)
        if name.endswith(("matchability.bias", "token.bias")):
            value.fill_(1.0 if "match" in name else 2.0)
    detector = model.keypoint_detector
    encoded = detector.encoder(textures(1, seed=99)[:, :1]).last_hidden_state
    head = detector.descriptor_decoder
    spread = head.conv_descriptor_b(F.relu(head.conv_descriptor_a(encoded)))
    head.conv_descriptor_b.bias -= spread.mean((0, 2, 3))  # else all descriptors look alike
    return model.eval()


def textures(count, height=96, width=128, seed=0):
    """(count, 3, height, width) grey in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, height // 4, width // 4, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1).expand(-1, 3, -1, -1)


def pairs(count, height=96, width=128, seed=0):
    """(count, 2, 3, height, width): images and, 8 px to the right, the same; each pair with less texture."""
    first = textures(count, height, width, seed).clone()
    for i, image in enumerate(first):
        image[:, :, width - i * width // (2 * count) :] = 0.5
    return torch.stack((first, first.roll(8, -1)), 1)


def theirs(seed=0, **config):
    """A model of transformers, small unless ``config`` says otherwise."""
    return make_matching(transformers.LightGlueForKeypointMatching(transformers.LightGlueConfig(**config)), seed)
