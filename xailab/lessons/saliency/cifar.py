"""The network of the section "On real data" that is trained on CIFAR-10."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from xailab.datasets import downloaded
from xailab.images import Preprocess
from xailab.models import zoo
from xailab.models.classifier import Classifier, labelled


def trained_on_cifar10(pictures: int = 4000, epochs: int = 4) -> tuple[Classifier, Tensor, Tensor]:
    """Train a small network on some photographs of CIFAR-10, in about a minute.

    The standard deviation of the pixels is about 0.25. Tutorials give 0.20, which is the mean over the pictures of each
    picture's own standard deviation.

    Returns:
        The network with its preprocessing and classes, and 500 unseen photographs with their labels.

    >>> network, unseen, labels = trained_on_cifar10()  # doctest: +SKIP
    """
    preprocess = Preprocess(resize=64, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    train, test = (downloaded.cifar10(split, preprocess=preprocess) for split in ("train", "test"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = zoo.build("SmallResNet", num_classes=10)
        loader = DataLoader(Subset(train, range(min(pictures, len(train)))), 64, shuffle=True)
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * len(loader))
        for _ in range(epochs):
            for batch, labels in loader:
                loss = F.cross_entropy(network(batch), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    unseen, labels = next(iter(DataLoader(test, 500)))
    return labelled(network.eval().requires_grad_(False), preprocess, tuple(test.classes)), unseen, labels
