"""Tiny networks that several tests share, and a picture of everything that a method must leave as it was."""

import gc

import torch
import torch.nn.functional as F
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


class OneConv(nn.Module):
    """The hand case of captum's tests (BasicModel_ConvNet_One_Conv): 1 x 4 x 4 in, two filters of ones, 2 x 2 cells."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv1, self.relu1, self.fc1 = nn.Conv2d(1, 2, 3), nn.ReLU(inplace), nn.Linear(8, 4)
        with torch.no_grad():
            self.conv1.weight.fill_(1)
            self.conv1.bias.copy_(torch.tensor([-50.0, -75.0]))
            self.fc1.weight.copy_(torch.tensor([1.0] * 5 + [-1.0] * 3))
            self.fc1.bias.zero_()

    def forward(self, x):
        return self.fc1(self.relu1(self.conv1(x)).flatten(1)).relu()


class Rectified(nn.Module):
    """Calls ``relu`` in a residual sum, twice behind one convolution, and on a view (``flatten``), as it is given."""

    def __init__(self, relu, classes: int = 5) -> None:
        super().__init__()
        self.relu = relu
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 25, classes)

    def forward(self, x):
        first = self.relu(self.conv1(x))
        second = self.relu(self.conv2(first)) + first
        third = self.relu(self.conv2(second - 0.3))
        return self.fc(self.relu((third - 0.1).flatten(1)))


class RuledReLU(torch.autograd.Function):
    """A ReLU with the backward rule written out: what our interception of calls is compared with."""

    @staticmethod
    def forward(ctx, z, rule, top):
        ctx.rule = rule
        ctx.save_for_backward((z > 0) & (z < top))
        return z.clamp(0, top)

    @staticmethod
    def backward(ctx, arriving):
        (passed,) = ctx.saved_tensors
        masks = {"gradient": passed, "guided": passed & (arriving > 0), "deconvnet": arriving > 0}
        return arriving * masks[ctx.rule], None, None


class Swish(torch.autograd.Function):
    """With its derivative written by hand, as in EfficientNet's first port."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, arriving):
        (x,) = ctx.saved_tensors
        return arriving * x.sigmoid() * (1 + x * (1 - x.sigmoid()))


def ruled_gradient(monkeypatch, model: nn.Module, images: torch.Tensor, target: int, rule: str) -> torch.Tensor:
    """d score / d image with every ReLU of torch's replaced by ``RuledReLU``."""

    def relu(input, inplace=False):
        output = RuledReLU.apply(input, rule, torch.inf)
        return input.copy_(output) if inplace else output

    def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
        assert min_val == 0
        return RuledReLU.apply(input, rule, max_val)

    with monkeypatch.context() as patch:
        for owner, name in ((F, "relu"), (torch, "relu"), (torch.Tensor, "relu")):
            patch.setattr(owner, name, relu)
        for owner in (torch, torch.Tensor):
            patch.setattr(owner, "relu_", lambda z: relu(z, inplace=True))
        patch.setattr(F, "hardtanh", hardtanh)
        images = images.detach().clone().requires_grad_()
        return torch.autograd.grad(model(images)[:, target].sum(), images)[0]


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


def live_tensors() -> int:
    """How many tensors Python holds, without collecting any first: reference cycles count as leaks."""
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
