"""The data module: independent of workers and processes, every evaluated image once, bad images named."""

from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer

from wsol.data.images import BadImage
from wsol.data.loading import Collate, LoadedSample
from wsol.data.module import LocalizationData, workers_for
from wsol.data.samplers import NOTHING, EvalSampler, TrainSampler, images_used
from wsol.data.source import Boxes, FileSplit, Source, Split, hold_out
from wsol.data.transforms import ResizeSquare, SmallCrop, TenCrop
from wsol.errors import InputError
from wsol.types import Batch

SIZE = 16
CLASSES = 3


class Files(Source):
    """A folder of noise: 11 images to train with, 7 to test."""

    classes = ("a", "b", "c")
    splits = ("train", "test")

    def __init__(self, root):
        self.root = root
        rng = np.random.default_rng(0)
        for i in range(11):
            image = rng.integers(0, 256, (20 + i, 24, 3), np.uint8)
            Image.fromarray(image).save(root / f"{i}.png")

    def _split(self, name):
        count = 11 if name == "train" else 7
        boxes = Boxes.pack([[[0, 0, 5, 5]]] * count, inclusive=False)
        paths = [f"{i}.png" for i in range(count)]
        return FileSplit(name, paths, np.arange(count) % CLASSES, self.root, paths, boxes)


@pytest.fixture
def source(tmp_path):
    return Files(tmp_path)


def data(source, **options):
    options = {"batch_size": 4, "num_workers": 0, "pin_memory": False} | options
    eval_transform = options.pop("eval_transform", ResizeSquare(SIZE))
    return LocalizationData(source, SmallCrop(SIZE), eval_transform, **options)


def two_epochs(module):
    loader = module.train_dataloader()
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches.append(list(loader))
    return batches


def test_an_evaluation_batch_has_images_labels_positions_and_sizes(source):
    batches = list(data(source).eval_dataloader("test"))
    assert [len(batch.labels) for batch in batches] == [4, 3]
    batch = batches[1]
    assert batch.images.shape == (3, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.positions.tolist() == [4, 5, 6]
    assert batch.labels.tolist() == [1, 2, 0]
    assert batch.sizes.tolist() == [[24, 24], [24, 25], [24, 26]]
    assert batch.skipped.tolist() == []
    expected = ResizeSquare(SIZE)(source.split("test").image(5))
    np.testing.assert_array_equal(batch.images[1].numpy(), expected)


def test_ten_crops_are_ten_views_of_each_image(source):
    batch = next(iter(data(source, eval_transform=TenCrop(SIZE, 18)).eval_dataloader("test")))
    assert batch.images.shape == (4, 10, 3, SIZE, SIZE)


def test_workers_change_nothing_and_the_global_state_is_left_alone(source):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    alone, shared = two_epochs(data(source)), two_epochs(data(source, num_workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    for first, second in zip(chain(*alone), chain(*shared), strict=True):
        assert first.pseudo is second.pseudo is None
        for a, b in zip(first[:-1], second[:-1], strict=True):
            assert torch.equal(a, b)


def test_epochs_and_seeds_differ(source):
    first, second = two_epochs(data(source))
    other = two_epochs(data(source, seed=1))[0]
    orders = [torch.cat([batch.positions for batch in epoch]).tolist() for epoch in (first, second, other)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


class Recorder(LightningModule):
    """Trains nothing; notes what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple] = []

    def training_step(self, batch: Batch, batch_idx):
        self.seen.append((self.current_epoch, batch.positions.tolist(), int(batch.images.sum())))
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: Batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(source, folder, epochs, **options):
    module = Recorder()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, data(source), **options)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return module.seen


@pytest.mark.filterwarnings("ignore")
def test_lightning_sets_the_epoch_and_resuming_goes_on(source, tmp_path):
    whole = fit(source, tmp_path, 3)
    assert len({tuple(index) for _, index, _ in whole}) == len(whole) == 9
    begun = fit(source, tmp_path, 1)
    assert begun + fit(source, tmp_path, 3, ckpt_path=tmp_path / "1.ckpt", weights_only=True) == whole


@pytest.mark.parametrize("count", [1, 2, 5, 7, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_evaluated_image_once_in_as_many_batches(count, world, batch_size):
    ranks = [[i for i, _ in EvalSampler(count, batch_size, rank, world)] for rank in range(world)]
    assert sorted(i for rank in ranks for i in rank if i != NOTHING) == list(range(count))
    assert len({-(-len(rank) // batch_size) for rank in ranks}) == 1
    for rank in ranks:
        assert NOTHING not in rank[:-1]
        assert rank[-1] != NOTHING or len(rank) % batch_size == 1 % batch_size  # alone in its batch


@pytest.mark.parametrize("count", [1, 5, 12])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_is_dealt_out_evenly(count, world):
    ranks = [list(TrainSampler(count, 0, rank, world)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    assert {i for rank in ranks for i, _ in rank} == set(range(count))


def test_a_process_without_images_gets_an_empty_batch(source):
    module = data(source)
    module._place = lambda: (8, 9)
    (batch,) = module.eval_dataloader("test")
    assert batch.images.shape == (0, 3, SIZE, SIZE)
    assert batch.sizes.shape == (0, 2)
    assert batch.pseudo is None
    assert all(len(part) == 0 for part in batch[:-1])


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_image_stops_with_its_name_alone(source, workers):
    path = source.root / "5.png"
    path.write_bytes(path.read_bytes()[:99])
    module = data(source, num_workers=workers)
    for loader in (module.eval_dataloader("test"), module.train_dataloader()):
        with pytest.raises(BadImage, match=r"^\S*5\.png: truncated") as caught:
            list(loader)
        assert "Traceback" not in str(caught.value)


def test_bad_images_are_skipped_and_listed(source):
    for i in (4, 5, 6):
        (source.root / f"{i}.png").write_bytes(b"")
    module = data(source, on_bad_image="skip")
    first, second = module.eval_dataloader("test")
    assert (first.positions.tolist(), first.skipped.tolist()) == ([0, 1, 2, 3], [])
    assert (second.positions.tolist(), second.skipped.tolist()) == ([], [4, 5, 6])
    train = list(module.train_dataloader())
    assert sorted(i for batch in train for i in batch.positions.tolist()) == [0, 1, 2, 3, 7, 8, 9, 10]
    assert sorted(i for batch in train for i in batch.skipped.tolist()) == [4, 5, 6]


def test_nothing_to_learn_from_stops_even_when_skipping(source):
    for i in range(11):
        (source.root / f"{i}.png").unlink()
    with pytest.raises(BadImage, match="no such file"):
        list(data(source, on_bad_image="skip").train_dataloader())


def test_holding_out(source):
    module = data(source, val_per_class=2)
    train, val = module.split("train"), module.split("val")
    assert module.splits == ("train", "test", "val")
    assert np.bincount(val.labels).tolist() == [2, 2, 2]
    assert val.name == "val"
    assert sorted([*train.ids, *val.ids]) == sorted(source.split("train").ids)
    again = hold_out(source.split("train"), 2, seed=0)[1]
    assert list(again.ids) == list(val.ids)
    assert list(hold_out(source.split("train"), 2, seed=1)[1].ids) != list(val.ids)
    assert [len(batch.labels) for batch in module.val_dataloader()] == [4, 2]
    assert data(source).val_dataloader() == []


def test_single_image_is_left_out_of_training_only(source):
    train = data(source, batch_size=5).train_dataloader()
    assert [len(batch.labels) for batch in train] == [5, 5]
    assert [len(batch.labels) for batch in data(source, batch_size=5, drop_last=False).train_dataloader()] == [5, 5, 1]
    assert [len(batch.labels) for batch in data(source, batch_size=4, drop_last=True).train_dataloader()] == [4, 4]


@pytest.mark.parametrize("drop_last", [True, False, "auto"])
@pytest.mark.parametrize("count", [7, 8, 9, 11, 12])
def test_processes_share_the_batches_of_one_process(count, drop_last):
    def batches(world):
        used = images_used(drop_last, count, 4, world)
        ranks = [list(TrainSampler(count, 3, rank, world, used)) for rank in range(world)]
        share = 4 // world
        steps = -(-len(ranks[0]) // share)
        return [{key for rank in ranks for key in rank[i * share : (i + 1) * share]} for i in range(steps)]

    alone, shared = batches(1), batches(2)
    if drop_last == "auto" and count % 4 in (1, 2):  # one image for each process is no batch
        alone = alone[: count // 4]
    complete = count // 4
    assert len(alone) == len(shared)
    assert alone[:complete] == shared[:complete]
    assert all(one <= other for one, other in zip(alone, shared, strict=True)), "padding repeats images, it adds none"


def test_a_batch_that_cannot_be_shared_is_refused(source):
    assert data(source, batch_size=6).share_of_process(3) == 2
    with pytest.raises(InputError, match=r"loader.batch_size=6 .* 4 processes.*accumulate_grad_batches"):
        data(source, batch_size=6).share_of_process(4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_bad_image": "ignore"}, "Choices: skip, stop"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_batch_size": -1}, "eval_batch_size"),
        ({"seed": -1}, "seed"),
        ({"val_per_class": 4}, "too few to hold out"),
        ({"num_workers": "many"}, "num_workers"),
        ({"drop_last": True, "batch_size": 20}, "lower batch_size"),
        ({"drop_last": "maybe"}, "drop_last"),
    ],
)
def test_impossible_arguments(source, options, text):
    with pytest.raises(InputError, match=text):
        data(source, **options).train_dataloader()


def test_val_split_and_holding_out_contradict(source):
    source.splits = ("train", "val", "test")
    with pytest.raises(InputError, match="val_per_class"):
        data(source, val_per_class=1)
    with pytest.raises(InputError, match="did you mean 'test'"):
        data(source).split("tests")


def test_automatic_workers_share_the_cores():
    assert 0 <= workers_for("auto", 1) <= 16
    assert workers_for("auto", 10_000) == 0


class TestSplit:
    """What `Split` refuses."""

    @pytest.mark.parametrize(
        ("ids", "labels", "text"),
        [
            ([], [], "no images"),
            (["a", "a"], [0, 1], "'a' appears twice"),
            (["a", "b"], [0, -1], "'b' has a negative label"),
            (["a", "b"], [0], "expected 2 labels"),
        ],
    )
    def test_wrong_lists(self, ids, labels, text):
        with pytest.raises(InputError, match=text):
            FileSplit("train", ids, labels, ".", ids)

    def test_fingerprint_sees_everything(self):
        def of(ids=("a", "b"), labels=(0, 1), box=(0, 0, 1, 1), inclusive=False):
            boxes = Boxes.pack([[box], [box]], inclusive)
            return FileSplit("train", ids, labels, ".", ids, boxes).fingerprint()

        prints = {of(), of(ids="ac"), of(labels=(1, 1)), of(box=(0, 0, 1, 2)), of(inclusive=True)}
        assert len(prints) == 5
        assert of() == of()

    def test_image_without_box_has_no_truth(self):
        split = FileSplit("test", "ab", [0, 1], ".", "ab", Boxes.pack([[], [[0, 0, 1, 1]]], True))
        assert split.truth(0) is None
        np.testing.assert_array_equal(split.truth(1).half_open, [[0, 0, 2, 2]])
        assert split.mask(0) is None

    def test_sizes_are_listed_or_read(self, source):
        split = source.split("train")
        assert [split.size(i) for i in (0, 7)] == [(24, 20), (24, 27)]
        listed = FileSplit("test", "abc", [0] * 3, source.root, "abc", sizes=[(5, 6), None, (7, 8)])
        assert listed.subset([2, 0]).size(0) == (7, 8)
        with pytest.raises(InputError, match="b: no such file"):
            listed.size(1)

    def test_size_of_what_is_no_file_is_that_of_its_pixels(self):
        class Grey(Split):
            def _read_image(self, row):
                return np.zeros((row + 1, 9, 3), np.uint8)

        assert Grey("test", "abc", [0] * 3).subset([2, 0]).size(0) == (9, 3)

    def test_a_blacklist_has_a_mark_for_each_image(self):
        split = FileSplit("test", "abc", [0] * 3, ".", "abc", blacklist=[True, False, False])
        assert split.subset([1, 0]).blacklist.tolist() == [False, True]
        assert FileSplit("test", "abc", [0] * 3, ".", "abc").subset([1]).blacklist is None
        with pytest.raises(InputError, match="expected 3 blacklist marks"):
            FileSplit("test", "abc", [0] * 3, ".", "abc", blacklist=[True])


def test_what_leaves_out_unreadable_images_is_told_unless_it_is_set() -> None:
    loaded = [LoadedSample(0, None, error="a.jpg: the file is empty; replace the file")]
    for skip, told in ((False, True), (True, False)):
        found = Collate((3, 8, 8), skip, may_be_empty=False)(loaded)
        assert isinstance(found, BadImage)
        assert ("loader.on_bad_image=skip" in str(found)) == told
