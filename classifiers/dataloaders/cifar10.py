"""CIFAR-10: 32x32 photos of 10 classes, 50,000 to train and 10,000 to test.

python train.py --model=classifier --dataloader=cifar10 --data_path=FOLDER
"""

import functools

from classifiers.dataloaders import _cifar

MODEL = "classifier"

define_flags = functools.partial(_cifar.define_flags, _cifar.CIFAR10)
create_data = functools.partial(_cifar.create_data, _cifar.CIFAR10)
