import pytest
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator

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
