"""Generated images in the binary format of CIFAR-10: a pattern for each class, and noise."""

from pathlib import Path

import numpy as np

NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def write_cifar10(folder: Path, images: int = 12, seed: int = 0) -> None:
    """Writes the six files to a folder, so many images in each, in as nearly equal numbers of each label."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    patterns = generator.normal(size=(10, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    for number, name in enumerate(NAMES):
        labels = (np.arange(images) + number * images) % 10
        noise = generator.normal(size=(images, 3, 32, 32))
        pixels = np.clip(128 + 40 * patterns[labels] + 40 * noise, 0, 255).reshape(images, -1)
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels, pixels]).astype(np.uint8).tobytes())
