import pytest
import torch
from networks import GapNet, assert_unchanged, snapshot
from torch import nn

from xailab.targets import check_scores, class_gradients, resolve, score_images

LOGITS = torch.tensor([[0.0, 3.0, 1.0], [5.0, 2.0, 1.0]])


@pytest.mark.parametrize(
    "target, expected",
    [
        (None, [1, 0]),
        (2, [2, 2]),
        ([0, 2], [0, 2]),
        (torch.tensor([1, 1]), [1, 1]),
        ([[0, 1], [2, 1]], [[0, 1], [2, 1]]),
    ],
)
def test_every_form(target, expected):
    assert resolve(target, LOGITS).tolist() == expected


@pytest.mark.parametrize(
    "target, error, message",
    [
        (3, ValueError, "from 0 to 2"),
        (-1, ValueError, "from 0 to 2"),
        ([0, 1, 2], ValueError, "2 classes"),
        ([[[0]], [[1]]], ValueError, r"shape \(2, k\)"),
        (torch.tensor([0.0, 1.0]), TypeError, "class number"),
        (True, TypeError, "class number"),
    ],
)
def test_says_what_is_wrong(target, error, message, unchecked):
    with pytest.raises(error, match=message):
        resolve(target, LOGITS)


def test_scores_are_checked(unchecked):
    model = nn.Identity()
    assert check_scores(model, LOGITS) is LOGITS
    with pytest.raises(TypeError, match="Identity returns dict: wrap it in a module"):
        check_scores(model, {"out": LOGITS})
    for wrong in (LOGITS[0], LOGITS[None]):
        with pytest.raises(ValueError, match=r"expected scores of shape \(n, classes\) from Identity, got"):
            check_scores(model, wrong)
    for value in (torch.nan, torch.inf, -torch.inf):
        scores = LOGITS.clone()
        scores[1, 2] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            check_scores(model, scores)


def quadratic(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """x, and scores c x^2 of the classes c = 1, 2, ...: the derivative for x is 2 c x."""
    x = torch.tensor([[1.0], [3.0]], requires_grad=True)
    return x, x**2 * torch.arange(1.0, classes + 1)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_class_gradients(mode):
    x, scores = quadratic()
    with mode():
        found = list(class_gradients(scores, torch.tensor([[0, 2], [1, 1]]), [x], keep_graph=True))
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert [each[0].tolist() for each in found] == [[[2], [12]], [[6], [12]]]
    ((gradient,),) = class_gradients(scores, torch.tensor([2, 0]), [x])
    assert gradient.tolist() == [[6], [6]] and x.grad is None


def test_class_gradients_of_several_inputs():
    """None for one that the scores do not depend on."""
    x, scores = quadratic()
    stranger = torch.zeros(2, 1, requires_grad=True)
    ((gradient, nothing),) = class_gradients(scores, torch.tensor([0, 0]), [x, stranger])
    assert gradient.tolist() == [[2], [6]] and nothing is None and stranger.grad is None


def test_the_graph_is_freed_with_the_last_class():
    chosen = torch.tensor([[0, 1], [1, 2]])
    x, scores = quadratic()
    list(class_gradients(scores, chosen, [x], keep_graph=True))
    list(class_gradients(scores, chosen, [x]))
    with pytest.raises(RuntimeError, match="second time"):
        list(class_gradients(scores, chosen, [x]))


def test_targets_from_a_prediction_under_inference_mode():
    with torch.inference_mode():
        top = torch.tensor([2, 0])
    x, scores = quadratic()
    ((gradient,),) = class_gradients(scores, resolve(top, scores), [x])
    assert gradient.tolist() == [[6], [6]]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_score_images(mode):
    model = GapNet().train()
    before = snapshot(model)
    with mode():
        images = torch.randn(2, 3, 16, 16)
        copies, scores = score_images(model, images)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert copies.is_leaf and copies.requires_grad and not images.requires_grad and torch.equal(copies, images)
    ((gradient,),) = class_gradients(scores, torch.tensor([0, 1]), [copies])
    assert gradient.abs().sum() > 0 and copies.grad is None
    with torch.no_grad():
        assert torch.equal(scores, model.eval()(images.clone()))
    assert_unchanged(model.train(), before)


@pytest.mark.parametrize("target", ["cat", {"a": 1}, [[1], [2, 3]]])
def test_what_is_no_class_number_is_named(target, unchecked):
    with pytest.raises(TypeError, match="a target is a class number"):
        resolve(target, torch.zeros(2, 4))


@pytest.mark.parametrize("target", [[], [[], []]])
def test_no_class_at_all_is_refused(target):
    with pytest.raises(ValueError, match="expected one class"):
        resolve(target, torch.zeros(2, 4))
