"""Command: how robust any classifiers are to degraded images, as one page.

    python -m misc.robustness_report --models=MINE.onnx,OTHER.keras,runs/clean/best \\
        --input_preset=torchvision --data_path=VAL --output_path=report
    python -m misc.robustness_report --models=resnet50:resnet50.pth --data_path=VAL \\
        --output_path=report --final_jpeg=85
    python -m misc.robustness_report --models=runs/clean/best --dataloader=cifar10 \\
        --data_path=CIFAR10 --output_path=report

The data are those of a dataloader, by default folders of classes in --data_path. All models see
the same degraded images. index.html shows everything and is one file; results.json, results.csv
(by degradation and level) and images.csv (by image) hold the figures. The same command goes on
with what was stopped.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import shlex
import sys

from absl import flags

from classifiers import robustness_report
from misc.images import files, locks
from misc.training import command_line, common_flags

DATALOADER = "class_folders"


def define_flags(dataloader):
    """Defines the flags of the report and of its data."""
    robustness_report.define_flags()
    common_flags.define_device_flags()
    common_flags.define_seed_flag("Seed of all draws, and of the bootstrap.")
    flags.DEFINE_string(
        "dataloader", DATALOADER, "Source of data: a module in classifiers/dataloaders."
    )
    dataloader.define_flags()


def main(settings, dataloader):
    """Measures and writes the report; returns the exit status."""
    for name in ("models", "output_path"):
        if not settings.get(name):
            raise ValueError(command_line.describe_missing(name))
    if "data_test_path" in settings and not settings.data_test_path:
        # All images are for testing.
        settings |= {"data_test_path": settings.data_path, "data_path": None}
    data = dataloader.create_data(settings)
    with locks.hold(settings.output_path):
        files.sweep([settings.output_path])
        command = shlex.join(["python", "-m", "misc.robustness_report", *sys.argv[1:]])
        robustness_report.create_report(settings, data, command).run(settings.overwrite)
    return 0


if __name__ == "__main__":
    name = entry_point.parse_some("dataloader").dataloader or DATALOADER
    loader = entry_point.load_dataloader(name, "classifiers")
    define_flags(loader)
    entry_point.run(lambda settings: main(settings, loader), with_model=False)
