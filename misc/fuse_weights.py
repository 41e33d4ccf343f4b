"""Command: averages the weights of models that were trained from one start (FusionDistill, step 3).

    python -m misc.fuse_weights --restore_path=runs/jpeg/best \\
        --fuse_with=runs/blur/best,runs/noise/best \\
        --moving_statistics=mean --output_path=runs/fused
    python -m misc.fuse_weights ... --moving_statistics=reestimated \\
        --dataloader=cifar10 --data_path=FOLDER --degradations={jpeg,blur,saltpepper,noise}

Daultani & Larochelle (WACV-W 2024) average the trainable variables and, without saying so, keep
the moving statistics of batch normalisation of the first model: `first`. `mean` averages them too;
`reestimated` measures them anew on training data, with the averaged weights in place.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import keras
import numpy as np
from absl import flags

from misc.training import checkpoints, common_flags, run_folder

MOVING_STATISTICS = ("first", "mean", "reestimated")


def define_flags():
    """Defines the flags of this command that do not depend on the model."""
    common_flags.define_restore_flags()
    common_flags.define_names("fuse_with", [], "Folders or checkpoints of the other models.")
    flags.DEFINE_string("output_path", None, "Folder for the fused model; a run's folder.")
    flags.DEFINE_enum(
        "moving_statistics",
        "first",
        MOVING_STATISTICS,
        "Moving statistics of batch normalisation: of the first model, the mean of all, or "
        "estimated anew on training batches.",
    )
    flags.DEFINE_integer(
        "reestimation_steps",
        200,
        "Training batches of --moving_statistics=reestimated.",
        lower_bound=1,
    )
    common_flags.define_seed_flag("Seed of the order of data and of all random draws.")


def main(settings, selection):
    """Fuses the models; returns the exit status."""
    if not settings.output_path:
        raise ValueError("--output_path is missing: the folder for the fused model.")
    if checkpoints.list_steps(settings.output_path):
        raise ValueError(f"--output_path={settings.output_path} holds a model already.")
    if not settings.fuse_with and settings.moving_statistics != "reestimated":
        raise ValueError("--fuse_with is missing: the other models, beside --restore_path.")
    for path in settings.fuse_with:
        check_network(settings.restore_path, path, getattr(selection.model, "NETWORK_FLAGS", ()))
    keras.config.set_dtype_policy(settings.precision)
    method = selection.restore(settings)
    reestimated = settings.moving_statistics == "reestimated"
    if reestimated and not hasattr(method, "reestimate_statistics"):
        raise ValueError(f"--moving_statistics=reestimated: {selection.model_name} cannot do that.")
    paths = [settings.restore_path, *settings.fuse_with]
    fuse(method, paths[1:], settings.moving_statistics, settings.restore_averages)
    if reestimated:
        batches = selection.create_data(settings).training_batches(settings.seed)
        method.reestimate_statistics(batches, settings.reestimation_steps, settings.seed)
    folder = run_folder.RunFolder(settings.output_path, method, max_to_keep=1)
    arguments = run_folder.read_arguments(settings.restore_path) | {"model": selection.model_name}
    folder.write_arguments(
        arguments | {"fused_from": paths, "moving_statistics": settings.moving_statistics}
    )
    print(f"Fused {len(paths)} models: {folder.save(0)}")
    return 0


def check_network(first, other, names):
    """Raises ValueError if the runs of --restore_path and --fuse_with differ in flags of `names`.

    Those are the flags in arguments.json that say what a network computes.
    """
    ours, theirs = (run_folder.read_arguments(path or "") for path in (first, other))
    differing = [
        f"--{name}: {ours[name]} and {theirs[name]}"
        for name in names
        if name in ours and name in theirs and ours[name] != theirs[name]
    ]
    if differing:
        raise ValueError(
            f"--fuse_with={other} is another network than --restore_path={first}: "
            + "; ".join(differing)
        )


def fuse(method, paths, moving_statistics="first", use_averages=True):
    """Gives a method the mean of its own weights and those of folders or checkpoints.

    Args:
        method: `Method` with the first model's weights.
        paths: the other models.
        moving_statistics: "first" keeps the method's own moving statistics, "mean" averages them;
            for "reestimated", which needs data, they are averaged too, as a start.
        use_averages: whether the averaged weights are taken of checkpoints that have any.

    Raises:
        ValueError: if the weights of a model do not fit those of the first.
        FileNotFoundError: if there is no such checkpoint.
    """
    variables = [
        variable
        for variable in method.variables()
        if np.issubdtype(keras.backend.standardize_dtype(variable.dtype), np.floating)
    ]
    first = [variable.numpy() for variable in variables]
    # In float64, so that equal models give themselves.
    sums = [value.astype(np.float64) for value in first]
    for path in paths:
        checkpoint = run_folder.find_checkpoint(path, flag="fuse_with")
        try:
            method.restore(checkpoint, list(method.networks), use_averages)
        except ValueError as error:
            raise ValueError(f"--fuse_with={path} cannot be used. {error}") from error
        for total, variable in zip(sums, variables, strict=True):
            total += variable.numpy()
    for variable, own, total in zip(variables, first, sums, strict=True):
        averaged = variable.trainable or moving_statistics != "first"
        variable.assign((total / (1 + len(paths))).astype(own.dtype) if averaged else own)


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_dataloader=True)
