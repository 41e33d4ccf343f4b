"""Trained models outside training: `load("runs/eusr").upscale(pixels, 4)`, frozen, in tiles."""


def load(source):
    """Returns the `trained.Trained` model of weights, a run or a frozen file, ready for pixels.

    Args:
        source: name of weights that come with the project, such as "eusr_small"; or a path: folder
            of a run, checkpoint FOLDER/model.ckpt-STEP, weight file NAME.h5, frozen file (.pb,
            .onnx, .tflite) or SavedModel folder; see `loading.restore_trained` for what is trusted.

    Raises:
        ValueError: when what is there is no trained model, or is damaged.
        FileNotFoundError: when nothing is there.
    """
    from misc.export import trained  # loads TensorFlow, which parts of this folder do without

    return trained.Trained(source)
