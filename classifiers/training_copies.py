"""The clean and the degraded copies of a batch that classifiers are trained on."""

import dataclasses

from keras import ops

import degradations
from classifiers import augment, levels, normalisation
from degradations import random

DEGRADE_ON = ("device", "host")
IMAGES = ("shared", "independent")
CUTOUT_ON = ("both", "degraded")


@dataclasses.dataclass(frozen=True)
class TrainingCopies:
    """Flips, degrades, crops and covers a batch, in this order (Daultani & Larochelle, 2024).

    Every degradation gets a block of the batch, in the order of `layers`. The draws depend on the
    seed alone: on the host and on the device the same copies come out.

    Attributes:
        layers: degradations; none: the second copy is the clean one.
        images: "shared": each degradation gets all images of the batch; "independent": the batch,
            which then holds more of them, is cut into blocks of different images.
        flip: whether images are mirrored at random.
        padding: pixels by which images are shifted at most.
        cutout: side of Cutout's square in pixels, 0 for none.
        cutout_on: "both" copies or the "degraded" one alone.
        fill: what Cutout covers with, one value per channel in 0-255.
        with_bytes: whether the lengths of the images' bit streams are told, which codecs know.
    """

    layers: tuple = ()
    images: str = "shared"
    flip: bool = True
    padding: int = 4
    cutout: int = 0
    cutout_on: str = "both"
    fill: tuple = (0.0, 0.0, 0.0)
    with_bytes: bool = False

    def __call__(self, images, labels, seed, index=None):
        """Returns the copies.

        Args:
            images: float32 RGB `[B, H, W, 3]` in 0-255, H and W known.
            labels: int32 `[B]`.
            seed: integer tensor of shape [2].
            index: integers `[B]` that tell the images of a data set apart, or `None`.

        Returns:
            {"image": clean copies `[N, H, W, 3]`, "degraded": `[N, H, W, 3]`, "label": `[N]`} and,
            if it was given, "index": `[N]`, and, `with_bytes`, "bytes": int32 `[N]`, 0 for images
            that went through no codec; N = B times the number of degradations for shared images,
            else N = B.

        Raises:
            ValueError: if independent images can't be shared out equally.
        """
        blocks = len(self.layers) or 1
        if self.images == "shared":
            images = ops.tile(images, [blocks, 1, 1, 1])
            labels = ops.tile(labels, [blocks])
            index = None if index is None else ops.tile(index, [blocks])
        elif images.shape[0] is None or images.shape[0] % blocks:
            raise ValueError(
                f"Independent images need a batch that is a multiple of the {blocks} degradations. "
                f"Received: {images.shape[0]}"
            )
        if self.flip:
            images = augment.flip(images, random.fold_in(seed, 0))
        degraded, sizes = self._degrade(images, seed)
        if degraded is images:
            copies = augment.crop_pair([images], self.padding, random.fold_in(seed, 1))
            copies = augment.cutout(copies, self.cutout, self.fill, random.fold_in(seed, 2)) * 2
        else:
            copies = augment.crop_pair([images, degraded], self.padding, random.fold_in(seed, 1))
            cover = slice(1, 2) if self.cutout_on == "degraded" else slice(0, 2)
            copies[cover] = augment.cutout(
                copies[cover], self.cutout, self.fill, random.fold_in(seed, 2)
            )
        made = {"image": copies[0], "degraded": copies[1], "label": labels}
        others = {"index": index, "bytes": sizes}
        return made | {name: value for name, value in others.items() if value is not None}

    @property
    def draws_nothing(self):
        """Whether the clean copies are the images themselves."""
        covered = self.cutout and (self.cutout_on == "both" or not self.layers)
        return not (self.flip or self.padding or covered)

    @property
    def has_codec(self):
        """Whether a degradation knows the lengths of bit streams."""
        return any(layer.codec_name for layer in self.layers)

    def _degrade(self, images, seed):
        """Returns the degraded images, and their bytes or `None`."""
        if not self.layers:
            return images, None
        degraded, sizes = [], []
        blocks = zip(self.layers, ops.split(images, len(self.layers)), strict=True)
        for number, (layer, block) in enumerate(blocks):
            drawn = random.fold_in(seed, 3 + number)
            if self.with_bytes:
                block, size = layer.call_with_bytes(block, seed=drawn)
                sizes.append(size)
            else:
                block = layer(block, seed=drawn)
            degraded.append(block)
        return _join(degraded), _join(sizes) if sizes else None


def _join(parts):
    return ops.concatenate(parts) if len(parts) > 1 else parts[0]


def create(flags, training=True):
    """Returns the `TrainingCopies` that the flags of `classifiers.flags` describe.

    Evaluations, which are not `training`, degrade images themselves, on the host where need be.

    Raises:
        ValueError: if a degradation can't be read, or cannot run where --degrade_on says.
    """
    layers = levels.training_layers(flags.degradations, flags.degradation_size)
    if training and flags.degrade_on == "device":
        for text, layer in zip(degradations.expand(flags.degradations), layers, strict=True):
            if layer.host_only:
                raise ValueError(f"--degradations={text} runs on the host: give --degrade_on=host.")
    copies = TrainingCopies(
        layers=tuple(layers),
        images=flags.copies_images,
        flip=flags.augment_flip,
        padding=flags.augment_padding,
        cutout=flags.augment_cutout,
        cutout_on=flags.augment_cutout_on,
        fill=tuple(normalisation.create(flags)[0]),
    )
    # On the host the lengths come with the images.
    with_bytes = flags.degrade_on == "host" and copies.has_codec
    return dataclasses.replace(copies, with_bytes=with_bytes)


def clean(copies):
    """Returns the clean copies of a batch.

    Raises:
        ValueError: if they are not there, because degraded images were stored.
    """
    if "image" not in copies:
        raise ValueError(
            "--data_degraded_path: this needs the clean images, too. Let the run degrade them "
            "itself (--degradations, without --data_degraded_path)."
        )
    return copies["image"]


def images_per_step(batch_size, images, texts):
    """Returns how many different images a training step reads.

    Args:
        batch_size: images for each degradation.
        images: one of `IMAGES`, see `TrainingCopies`.
        texts: list of degradations, see `degradations.expand`.
    """
    if images != "independent":
        return batch_size
    return batch_size * max(len(degradations.expand(texts)), 1)
