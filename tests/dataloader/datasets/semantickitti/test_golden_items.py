"""The items that the published data set makes of a made-up tree, without augmentation, must be met exactly."""

from __future__ import annotations

import numpy as np
import pytest

from dataloader.augment.options import AugmentOptions
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.data_set import Part
from dataloader.datasets.semantickitti.source import SemanticKITTI
from network.teachers.resnet34 import ImageBranch
from utils.scan.batch import collate

LOW, HIGH = (-50, -50, -4), (50, 50, 2)
NORMALIZER = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ITEMS: list[tuple[str, Part, int]] = [("val_0", "valid", 0), ("val_1", "valid", 1), ("test_0", "test", 0)]


@pytest.mark.parametrize("name, split, index", ITEMS)
def test_item_with_image(name, split, index, golden_sequences, golden_items, label_map):
    source = SemanticKITTI(golden_sequences, split, label_map, load_image=True)
    sample = SegmentationDataset(source, LOW, HIGH, AugmentOptions(bottom_crop=(320, 80)))[index]
    batch = collate([sample], with_images=True)
    wanted = {key.removeprefix(name + "_"): value for key, value in golden_items.items() if key.startswith(name)}

    assert np.array_equal(batch.points.numpy(), wanted["point_feat"])
    assert np.array_equal(batch.labels.numpy(), wanted["point_label"][:, 0])
    assert np.array_equal(sample.scan.index, wanted["ref_index"])
    seen = batch.visible.numpy()
    assert np.array_equal(seen, wanted["point2img_index"])
    assert np.array_equal(batch.pixels.numpy()[seen], wanted["img_indices"])
    assert np.array_equal(batch.labels.numpy()[seen], wanted["img_label"][:, 0])
    assert batch.images is not None
    images = ImageBranch(1, (2,), NORMALIZER).normalize(batch.images)
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), wanted["img"])


@pytest.mark.parametrize("name, split, index", ITEMS)
def test_evaluation_item(name, split, index, golden_sequences, golden_items, label_map):
    source = SemanticKITTI(golden_sequences, split, label_map)
    sample = SegmentationDataset(source, LOW, HIGH)[index]
    assert sample.whole is not None
    assert np.array_equal(sample.whole.inside.numpy(), golden_items[f"{name}_mask"])
    assert np.array_equal(sample.whole.labels.numpy(), golden_items[f"{name}_ref_label"][:, 0])
    assert len(sample.whole.xyz) == golden_items[f"{name}_origin_len"]
    assert len(sample.scan) == golden_items[f"{name}_point_num"]
    assert np.array_equal(sample.scan.xyz, golden_items[f"{name}_point_feat"][:, :3])
