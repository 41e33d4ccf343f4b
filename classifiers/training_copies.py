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
    """

    layers: tuple = ()
    images: str = "shared"
    flip: bool = True
    padding: int = 4
    cutout: int = 0
    cutout_on: str = "both"
    fill: tuple = (0.0, 0.0, 0.0)

    def __call__(self, images, labels, seed, index=None):
        """Returns the copies.

        Args:
            images: float32 RGB `[B, H, W, 3]` in 0-255, H and W known.
            labels: int32 `[B]`.
            seed: integer tensor of shape [2].
            index: integers `[B]` that tell the images of a data set apart, or `None`.

        Returns:
            {"image": clean copies `[N, H, W, 3]`, "degraded": `[N, H, W, 3]`, "label": `[N]`} and,
            if it was given, "index": `[N]`; N = B times the number of degradations for shared
            images, else N = B.

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
        degraded = self._degrade(images, seed)
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
        return made if index is None else made | {"index": index}

    @property
    def draws_nothing(self):
        """Whether the clean copies are the images themselves."""
        covered = self.cutout and (self.cutout_on == "both" or not self.layers)
        return not (self.flip or self.padding or covered)

    def _degrade(self, images, seed):
        if not self.layers:
            return images
        parts = [
            layer(block, seed=random.fold_in(seed, 3 + number))
            for number, (layer, block) in enumerate(
                zip(self.layers, ops.split(images, len(self.layers)), strict=True)
            )
        ]
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
    return TrainingCopies(
        layers=tuple(layers),
        images=flags.copies_images,
        flip=flags.augment_flip,
        padding=flags.augment_padding,
        cutout=flags.augment_cutout,
        cutout_on=flags.augment_cutout_on,
        fill=tuple(normalisation.create(flags)[0]),
    )


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
