import json
import pickle
from itertools import chain

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import RandomSampler

from aequa_lightning.data import CollaborativeData, DigitsData, Dirichlet, QuantityImbalance, Split
from aequa_lightning.errors import InputError


class Numbered(CollaborativeData):
    """Samples that say where they come from: input row r is r in both features, 3 classes of uneven size."""

    num_classes = 3
    input_shape = (2,)
    loads = 0

    def load(self):
        self.loads += 1
        targets = torch.tensor([0] * 50 + [1] * 100 + [2] * 150)
        inputs = torch.arange(300.0)[:, None].repeat(1, 2)
        return Split(inputs, targets), Split(inputs[:30] + 1000, targets[:30])


class Unscaled(Numbered):
    mean, std = (0.0, 0.0), (1.0, 1.0)


def rows(dataset):
    return dataset.tensors[0][:, 0].tolist()


def test_data_validation_comes_out_of_training_and_the_rest_is_divided():
    data = Unscaled(participants=4, validation_share=0.1, partition=Dirichlet(1.0))
    data.setup("fit")
    held = [rows(data.participant(number)) for number in range(4)]
    assert sorted(chain(rows(data.validation()), *held)) == list(range(300))
    assert torch.bincount(data.validation().tensors[1]).tolist() == [5, 10, 15]
    assert rows(data.test()) == list(range(1000, 1030))
    assert rows(data.pooled()) == list(chain(*held))
    # Inputs and targets stay together.
    inputs, targets = data.pooled().tensors
    assert torch.equal(targets, (inputs[:, 0] >= 50).long() + (inputs[:, 0] >= 150).long())


def test_data_partition_is_the_rule_applied_to_what_validation_leaves():
    data = Unscaled(participants=3, partition=QuantityImbalance(0.3, 2), partition_seed=5)
    left = np.array(sorted(set(range(300)) - set(map(int, rows(data.validation())))))
    labels = (left >= 50).astype(int) + (left >= 150)
    for number, part in enumerate(QuantityImbalance(0.3, 2).split(labels, 3, 5)):
        assert rows(data.participant(number)) == left[part].tolist()
    assert data.class_counts().tolist() == [[12, 24, 36], [12, 24, 36], [16, 32, 48]]


def test_data_partition_seed_decides_and_nothing_else():
    torch.manual_seed(0)
    first = Unscaled(partition=Dirichlet(0.5), partition_seed=3)
    expected = rows(first.pooled())
    torch.manual_seed(1)
    assert rows(Unscaled(partition=Dirichlet(0.5), partition_seed=3).pooled()) == expected
    assert rows(Unscaled(partition=Dirichlet(0.5), partition_seed=4).pooled()) != expected


def test_data_setup_loads_once_and_participants_are_views():
    data = Numbered(participants=2)
    for stage in ("fit", "test", None):
        data.setup(stage)
    assert data.loads == 1
    pooled, second = data.pooled().tensors[0], data.participant(1).tensors[0]
    assert second.data_ptr() == pooled[len(data.participant(0)) :].data_ptr()
    with pytest.raises(IndexError, match="participant 2 of 2"):
        data.participant(2)
    with pytest.raises(IndexError):
        data.participant(-1)


def test_data_statistics_are_measured_on_the_training_part():
    data = Numbered(participants=2)
    assert data.mean is None
    data.setup()
    assert data.mean == pytest.approx((149.5, 149.5))
    assert data.std == pytest.approx((np.arange(300).std(),) * 2)
    everything = torch.cat([data.pooled().tensors[0], data.validation().tensors[0]])
    assert everything.mean().abs() < 1e-5
    assert everything.std(correction=0) == pytest.approx(1)
    assert rows(data.test())[0] == pytest.approx((1000 - 149.5) / np.arange(300).std(), rel=1e-5)


def test_data_digits():
    data = DigitsData()
    assert (data.num_classes, data.input_shape) == (10, (1, 8, 8))
    assert data.names[0] == "participant-00"
    assert data.names[-1] == "participant-09"
    sizes = len(data.pooled()), len(data.validation()), len(data.test())
    assert sum(sizes) == 1797
    assert sizes[2] == 359
    inputs, targets = data.test().tensors
    assert inputs.dtype == torch.float32
    assert inputs.shape[1:] == data.input_shape
    assert targets.dtype == torch.int64
    # The test part does not move with the partition's seed.
    assert torch.equal(DigitsData(partition_seed=9).test().tensors[0], inputs)


def test_data_names_are_as_long_as_needed():
    assert Numbered(participants=101).names[7] == "participant-007"


def test_data_describe_is_plain():
    data = Unscaled(participants=3, partition=QuantityImbalance(0.3, 2), label_noise=[0, 0, 0.5])
    described = data.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == "Unscaled"
    assert described["partition"] == {"name": "QuantityImbalance", "share": 0.3, "owners": 2}
    assert described["sizes"] == [72, 72, 96]
    assert (described["validation_size"], described["test_size"]) == (60, 30)


@pytest.mark.parametrize("ready", [False, True])
def test_data_pickling(ready):
    data = DigitsData(participants=3, partition=Dirichlet(1.0), augment=True)
    if ready:
        data.setup()
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.pooled().tensors[0], data.pooled().tensors[0])


def test_data_loaders():
    data = Unscaled(participants=2, batch_size=16)
    batches = list(data.train_dataloader())
    assert {len(batch[0]) for batch in batches[:-1]} == {16}
    assert sorted(torch.cat([batch[0][:, 0] for batch in batches]).tolist()) == sorted(rows(data.pooled()))
    assert isinstance(data.train_dataloader().sampler, RandomSampler)
    for loader, dataset in [
        (data.val_dataloader(), data.validation()),
        (data.test_dataloader(), data.test()),
        (data.predict_dataloader(), data.test()),
    ]:
        assert torch.cat([batch[0][:, 0] for batch in loader]).tolist() == rows(dataset)


def test_data_train_samples_takes_a_stratified_part():
    data = Unscaled(participants=2, train_samples=90, validation_share=0.2)
    used = rows(data.pooled()) + rows(data.validation())
    assert len(set(used)) == len(used) == 90
    labels = torch.cat([data.pooled().tensors[1], data.validation().tensors[1]])
    assert torch.bincount(labels).tolist() == [15, 30, 45]
    assert len(data.test()) == 30


def test_data_test_samples_takes_a_stratified_part():
    whole, part = DigitsData(participants=2), DigitsData(participants=2, test_samples=100)
    counts = torch.bincount(part.test().tensors[1])
    assert counts.sum() == 100
    assert torch.equal(counts, (torch.bincount(whole.test().tensors[1]) * 100 / 359).round().long())
    assert set(map(tuple, part.test().tensors[0].flatten(1).tolist())) <= set(
        map(tuple, whole.test().tensors[0].flatten(1).tolist())
    )


def test_data_noise_worsens_participants_and_nothing_else():
    clean = DigitsData(participants=3)
    noisy = DigitsData(participants=3, feature_noise=0.5, label_noise=[0.0, 0.2, 0.0])
    assert torch.equal(noisy.validation().tensors[0], clean.validation().tensors[0])
    assert torch.equal(noisy.test().tensors[0], clean.test().tensors[0])
    for number, (level, share) in enumerate([(0, 0), (0.25, 0.2), (0.5, 0)]):
        (x, y), (x_clean, y_clean) = noisy.participant(number).tensors, clean.participant(number).tensors
        assert (x - x_clean).std().item() == pytest.approx(level, rel=0.02)
        assert (y != y_clean).sum().item() == round(share * len(y))


def test_data_noise_of_one_participant_does_not_depend_on_the_others():
    one = DigitsData(participants=3, feature_noise=[0, 0, 0.5])
    all_three = DigitsData(participants=3, feature_noise=[0.5, 0.5, 0.5])
    assert torch.equal(one.participant(2).tensors[0], all_three.participant(2).tensors[0])
    clean = DigitsData(participants=3)
    first, second = (
        all_three.participant(number).tensors[0] - clean.participant(number).tensors[0] for number in range(2)
    )
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()[: first.numel()]]))[0, 1]) < 0.03


class Recorder(lightning.LightningModule):
    """Remembers what a plain Trainer feeds it."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.seen = {"train": [], "validation": []}

    def training_step(self, batch):
        self.seen["train"].append(batch[0])
        return self.layer(batch[0].flatten(1)).square().mean()

    def validation_step(self, batch):
        self.seen["validation"].append(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_data_plain_trainer_augments_training_batches_only(tmp_path):
    data, module = DigitsData(participants=2, augment=True, batch_size=2000), Recorder()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data)
    assert torch.equal(module.seen["validation"][0], data.validation().tensors[0])
    # Sums of pixels per image, sorted, because the loader shuffles: some shifts cut ink off, none adds any.
    seen = (module.seen["train"][0] - data.pooled().tensors[0].min()).sum(dim=(1, 2, 3))
    assert len(seen) == len(data.pooled())
    assert not torch.equal(seen.sort().values, data.pooled().tensors[0].sum(dim=(1, 2, 3)).sort().values)


def test_data_augmentation_follows_the_kind_of_images():
    assert DigitsData().augmentation is None
    crop = DigitsData(augment=True).augmentation
    assert (crop.padding, crop.flip) == (1, False)
    with pytest.raises(InputError, match=r"data.augment shifts images.*shape \(2,\)"):
        Numbered(participants=2, augment=True).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"participants": 0}, "data.participants is 0"),
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"min_samples": 0}, "data.min_samples is 0"),
        ({"validation_share": 0.0}, "data.validation_share is 0.0"),
        ({"validation_share": 1.0}, "data.validation_share is 1.0"),
        ({"partition_seed": -1}, "data.partition_seed is -1"),
        ({"train_samples": 0}, "data.train_samples is 0"),
        ({"test_samples": 0}, "data.test_samples is 0"),
        ({"feature_noise": -0.5}, "data.feature_noise is -0.5"),
        ({"label_noise": [0.1]}, "data.label_noise has 1 levels for 10 participants"),
        ({"label_noise": 1.5}, "data.label_noise is 1.5"),
    ],
)
def test_data_settings_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        Numbered(**options)


def test_data_more_participants_than_the_data_allow():
    with pytest.raises(
        InputError, match=r"of 30 \(participant-\d+\) would hold \d of 240 samples.*data.min_samples \(10\)"
    ):
        Numbered(participants=30).setup()
    with pytest.raises(InputError, match=r"data.train_samples is 301, but there are 300"):
        Numbered(train_samples=301).setup()
    with pytest.raises(InputError, match=r"data.test_samples is 31, but there are 30"):
        Numbered(test_samples=31).setup()
