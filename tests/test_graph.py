"""Which steps of a graph are not affine: known answers, and against what the numbers say."""

import pytest
import torch
import torch.nn.functional as F
from networks import Swish
from torch import nn

from xailab.graph import NORMS, POOLINGS, nonlinear_steps

W = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
AFFINE = {
    "F.linear": lambda p: F.linear(p, W, torch.ones(4)),
    "matmul": lambda p: p @ W.T + 1,
    "einsum": lambda p: torch.einsum("nk, ck -> nc", p, W),
    "addmm": lambda p: torch.addmm(torch.ones(4), p, W.T),
    "bmm": lambda p: torch.bmm(W.expand(len(p), 4, 6), p[:, :, None])[:, :, 0],
    "1 x 1 convolution": lambda p: F.conv2d(p[:, :, None, None], W[:, :, None, None]).flatten(1),
    "1 x 1 of one dimension": lambda p: F.conv1d(p.unsqueeze(2), W[:, :, None]).squeeze(2),
    "sum of products": lambda p: (p[:, None] * W).sum(2),
    "two layers": lambda p: F.linear(F.linear(p, W), torch.ones(3, 4)) / 7 - 2,
    "batch norm in eval mode": lambda p: F.batch_norm(p, torch.ones(6), torch.full((6,), 2.0)) @ W.T,
    "cat and split": lambda p: torch.cat(p.split(3, dim=1)[::-1], 1) @ W.T,
    "pad, roll, stack": lambda p: torch.stack(F.pad(p, (1, 1)).roll(1, 1).unbind(1)).T,
    "itself": lambda p: p.clone(),
}
NOT_AFFINE = {
    "relu": (F.relu, "relu"),
    "leaky_relu in place": (lambda p: F.leaky_relu_(p * 1), "leaky_relu"),
    "square": (lambda p: p * p, "product"),
    "power": (lambda p: p**2, "pow"),
    "ratio": (lambda p: 1 / (1 + p), "reciprocal"),
    "division": (lambda p: torch.ones(6) / (p + 3), "division"),
    "normalised": (lambda p: F.normalize(p), "product"),
    "layer norm": (lambda p: F.layer_norm(p, (6,)), "native_layer_norm"),
    "batch norm of the batch": (lambda p: F.batch_norm(p, None, None, training=True), "native_batch_norm"),
    "softmax": (lambda p: p.softmax(1), "softmax"),
    "where": (lambda p: torch.where(p > 0, p, torch.zeros(())), "where"),
    "self-similarity": (lambda p: p @ p.T, "product"),
    "convolution with itself": (lambda p: F.conv1d(p[:1, None], p[1:, None]), "product"),
}


@pytest.mark.parametrize("function", AFFINE.values(), ids=AFFINE)
def test_affine(function):
    torch.manual_seed(0)
    p, q = torch.randn(2, 3, 6, requires_grad=True).double().unbind()
    p, q = p.float().detach().requires_grad_(), q.float().detach()
    assert not nonlinear_steps(function(p), p)
    middle = function((p + q) / 2)
    assert torch.allclose(middle, (function(p) + function(q)) / 2, atol=1e-5)  # so the known answer is right


@pytest.mark.parametrize("function, name", NOT_AFFINE.values(), ids=NOT_AFFINE)
def test_not_affine(function, name):
    torch.manual_seed(0)
    p, q = torch.randn(3, 6, requires_grad=True), torch.randn(3, 6)
    assert name in nonlinear_steps(function(p), p)
    assert not torch.allclose(function((p + q) / 2), (function(p) + function(q)) / 2, atol=1e-3)


def test_weights_with_a_gradient_do_not_count():
    p, w = torch.randn(3, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    assert not nonlinear_steps(F.linear(p * w.sum(), w.sigmoid()), p)
    assert nonlinear_steps(F.linear(p, w), w) == set()


def test_what_is_allowed_and_what_is_known():
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    pooled = F.max_pool2d(F.group_norm(x, 3), 2)
    assert nonlinear_steps(pooled, x) == {"max_pool2_dwith_indices", "native_group_norm"}
    rectified = pooled.relu()
    assert nonlinear_steps(rectified, x, POOLINGS | NORMS) == {"relu"}
    assert nonlinear_steps(rectified, x, POOLINGS | NORMS, [rectified.grad_fn]) == set()
    assert nonlinear_steps(x.detach(), x) == set()


def test_functions_of_ones_own():
    x = torch.randn(3, requires_grad=True)
    assert nonlinear_steps(Swish.apply(x), x) == {"swish"}


def test_a_deep_graph():
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(5_000):
        y = y + 1
    assert nonlinear_steps(y, x) == set()
    assert nonlinear_steps(nn.Sequential(*[nn.Tanh()] * 3)(y), x) == {"tanh"}
