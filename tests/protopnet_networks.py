"""Small networks and images for the tests of ProtoPNet."""

import torch

from xailab.protopnet import ProtoPNet, SmallFeatures, project
from xailab.protopnet.initialisation import initialise_prototypes

SIZE = 32


def network(classes=2, per_class=3, *, channels=1, seed=0, projected=False, spread=20, **options):
    """A network with random weights, latent cells that differ, and prototypes near different ones of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = SmallFeatures(channels, (4, 4, 6, 6, 8))
        grey = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
        model = ProtoPNet(features, per_class, classes, **{"dimensions": 5, "seed": seed, **grey, **options})
        with torch.no_grad():
            for _ in range(8):  # batch-norm statistics other than the first ones, and no unit that is always 0
                model.train().embed(data(8, classes, channels, seed=2)[0])
            model.add_on[-2].weight.mul_(spread)
            initialise_prototypes(model, *data(12, classes, channels), torch.Generator().manual_seed(seed))
            model.prototypes.add_(0.05 * torch.randn(model.prototypes.shape))
    if projected:
        project(model, *data(12, classes, channels))
    return model


def data(n=12, classes=2, channels=1, seed=1):
    """Random images, and labels that take the classes in turn."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, SIZE, SIZE, generator=generator), torch.arange(n) % classes
