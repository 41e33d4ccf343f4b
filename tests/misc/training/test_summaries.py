import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util

from misc.training.summaries import Writer, cut


def write(folder, first, last):
    writer = Writer(folder)
    writer.text("arguments", "--seed=1", first)
    for step in range(first, last + 1):
        writer.scalars(step, {"loss": step})
    writer.flush()


@pytest.mark.parametrize("module", [event_accumulator, plugin_event_accumulator])
def test_points_that_are_written_once_more_are_shown_once(module, tmp_path):
    def shown(tag):
        every = {module.TENSORS: 0}
        events = module.EventAccumulator(str(tmp_path), size_guidance=every).Reload()
        return [event.step for event in events.Tensors(tag)]

    damaged = tmp_path / "events.out.tfevents.0.other"
    damaged.write_bytes(b"none of ours" * 9)
    write(tmp_path, 1, 6)
    cut(tmp_path, 4)
    write(tmp_path, 5, 7)
    last = max(tmp_path.iterdir())
    last.write_bytes(last.read_bytes()[:-9])  # killed while it wrote
    cut(tmp_path, 4)
    assert len(list(tmp_path.iterdir())) == 2
    write(tmp_path, 5, 8)
    cut(tmp_path, 8)
    assert shown("loss") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert shown("arguments") == [1, 5]
    cut(tmp_path, -1)
    assert list(tmp_path.iterdir()) == [damaged]


def test_arrays_are_shown_as_histograms(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(3, {"loss": 2.0, "parameters": np.array([[0.0, 1.0], [1.0, 4.0]])}, "train/")
    writer.flush()
    events = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert events.SummaryMetadata("train/loss").plugin_data.plugin_name == "scalars"
    (event,) = events.Tensors("train/parameters")
    bins = tensor_util.make_ndarray(event.tensor_proto)  # left, right, count
    assert (bins[0, 0], bins[-1, 1], bins[:, 2].sum()) == (0, 4, 4)
