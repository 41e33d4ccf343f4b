"""The peer of `benchmarks.jpeg`: kornia's differentiable JPEG, in an interpreter of its own.

    python -m benchmarks.jpeg_kornia BATCH_SIZE ROUNDS

Prints JSON: the least CPU milliseconds per batch of 224x224, one thread, forward and with gradient.
"""

import json
import sys
import time

import kornia
import torch


def main(count, rounds):
    """Measures and prints."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, 3, 224, 224), generator=generator)
    quality = torch.randint(5, 96, (count,), generator=generator).float()

    def forward():
        with torch.no_grad():
            kornia.enhance.jpeg_codec_differentiable(images, quality)

    def gradient():
        leaf = images.clone().requires_grad_()
        (kornia.enhance.jpeg_codec_differentiable(leaf, quality) ** 2).sum().backward()

    best = {}
    for name, function in {"forward": forward, "forward and gradient": gradient}.items():
        times = []
        function()
        for _ in range(rounds):
            start = time.process_time()
            function()
            times.append((time.process_time() - start) * 1e3)
        best[name] = min(times)
    print(json.dumps(best))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
