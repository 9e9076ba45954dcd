"""Tiny networks that several tests share, and a picture of everything that a method must leave as it was."""

import torch
from torch import nn


class GapNet(nn.Module):
    """Convolutions, batch norm, ReLU, global average pooling, dropout, one linear layer."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 12, 3, padding=1, stride=2), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(12, classes)

    def forward(self, x):
        return self.fc(self.drop(self.pool(self.features(x)).flatten(1)))


def trained_looking(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics as training leaves them, so that random networks are no degenerate case."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def snapshot(model: nn.Module) -> dict:
    """Everything that a method must leave as it was: values, gradients, flags, hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(module, h)) for h in hooks] for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


def assert_unchanged(model: nn.Module, before: dict) -> None:
    """Compare a network with its snapshot."""
    after = snapshot(model)
    for kind in ("requires_grad", "training", "hooks", "attributes"):
        assert after[kind] == before[kind], f"{kind} changed"
    for kind in ("values", "gradients"):
        assert after[kind].keys() == before[kind].keys()
        for name, old in before[kind].items():
            new = after[kind][name]
            same = (new is None) == (old is None) and (old is None or torch.equal(new, old))
            assert same, f"{kind} of {name} changed"
