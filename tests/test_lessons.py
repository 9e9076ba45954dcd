"""The framework of the exercises and of the explorers; what the lessons put in is tested beside each lesson."""

import sys

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from xailab import images, lessons
from xailab.lessons import Wrong, check, exercise, verdict
from xailab.lessons.explorer import explorer
from xailab.lessons.traces import watched


@pytest.fixture(autouse=True)
def square(monkeypatch):
    """A small exercise, 99.1, that is gone after the test."""
    monkeypatch.setattr(lessons, "_checks", {})

    @exercise("99.1")
    def _(attempt):
        if attempt(3).real != 9:
            raise Wrong("for 3 the square is 9")
        return "well done"


def raises_inside(x):
    return x / 0


def calls_a_library(x):
    return int("nine")


def unwritten(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "passed", "part"),
    [
        (lambda x: x * x, True, "well done"),
        (lambda x: 2 * x, False, "for 3 the square is 9"),
        (lambda x: None, False, "not written yet"),
        (lambda x: ..., False, "not written yet"),
        (unwritten, False, "not written yet"),
        (None, False, "not written yet"),
        (raises_inside, False, "stopped at `return x / 0` with ZeroDivisionError"),
        (calls_a_library, False, 'stopped at `return int("nine")` with ValueError'),
        (lambda: 9, False, "your function stopped with TypeError"),
        (lambda x: "nine", False, "has it the form that the exercise asks for?"),
        ("nine", False, "has it the form that the exercise asks for?"),
    ],
)
def test_verdict(answer, passed, part):
    result = verdict("99.1", answer)
    assert result.passed is passed
    assert part in result.message
    assert "\n" not in result.message


def test_check_prints_the_verdict(capsys):
    check("99.1", lambda x: x * x)
    check("99.1", lambda x: x)
    assert capsys.readouterr().out == "✓ 99.1 passed: well done\n✗ 99.1 open: for 3 the square is 9\n"


def test_check_of_a_value():
    @exercise("99.2")
    def _(answer):
        if answer != 42:
            raise Wrong("another number")
        return "yes"

    assert verdict("99.2", 42).passed
    assert verdict("99.2", 41).message == "another number"
    assert "not written yet" in verdict("99.2", None).message


@pytest.mark.parametrize("number", ["99.7", "77.1", "nonsense"])
def test_an_unknown_exercise_names_those_there_are(number):
    with pytest.raises(ValueError, match=r"there are 99\.1" if number == "99.7" else "there are 00, 01"):
        verdict(number, lambda x: x)


def test_a_number_is_given_once():
    with pytest.raises(ValueError, match=r"99\.1 already has a check"):
        exercise("99.1")(lambda attempt: "again")


def title_of_width(title="b", width=0.5, dark=True):
    if width > 0.9:
        raise ValueError("at most <0.9>")
    figure = Figure(figsize=(1, 1), facecolor="black" if dark else "white")
    figure.text(width, 0.5, title, color="grey")
    return figure


def test_explorer_redraws_when_a_control_moves():
    box = explorer(title_of_width, title=["a", "b"], width=(0.0, 1.0, 0.1), dark=True)
    assert isinstance(box, widgets.VBox)
    kinds = {name: type(control) for name, control in box.controls.items()}
    assert kinds == {"title": widgets.Dropdown, "width": widgets.FloatSlider, "dark": widgets.Checkbox}
    assert (box.controls["title"].value, box.controls["width"].value) == ("b", 0.5)  # draw's own defaults
    seen = {bytes(box.picture.value)}
    for name, value in [("title", "a"), ("width", 0.1), ("dark", False)]:
        box.controls[name].value = value
        seen.add(bytes(box.picture.value))
    assert len(seen) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in seen)


def test_explorer_keeps_the_picture_and_says_what_went_wrong():
    box = explorer(title_of_width, width=(0.0, 1.0, 0.1))
    before = box.picture.value
    box.controls["width"].value = 1.0
    assert (box.picture.value, box.message.value) == (before, "<b>ValueError</b>: at most &lt;0.9&gt;")
    box.controls["width"].value = 0.2
    assert box.message.value == ""
    assert box.picture.value != before


def test_explorer_shows_whole_labels_and_waits_until_a_slider_is_let_go():
    choice = widgets.ToggleButtons(options=["a", "b"], description="which title")
    box = explorer(title_of_width, width=(0.0, 1.0, 0.1), title=choice)
    assert box.controls["title"] is choice
    assert [control.description for control in box.controls.values()] == ["width", "which title"]
    assert all(control.style.description_width == "initial" for control in box.controls.values())
    assert box.controls["width"].continuous_update is False


def test_explorer_refuses_what_is_no_control():
    with pytest.raises(TypeError, match="width: expected a widget with a value"):
        explorer(title_of_width, width=widgets.HBox())


class Answers:
    """Functions that give the right answer of the exercise below, 99.3, and leave a trace."""

    @staticmethod
    def trained(network, x, names, given):
        return network.train()(x).detach()

    @staticmethod
    def weights(network, x, names, given):
        found = network(x).detach()
        with torch.no_grad():
            network[0].weight.add_(1)
        return found

    @staticmethod
    def statistics(network, x, names, given):
        found = network(x).detach()
        network[1].running_mean += 1
        return found

    @staticmethod
    def gradients(network, x, names, given):
        found = network(x)
        found.sum().backward()
        return found.detach()

    @staticmethod
    def frozen(network, x, names, given):
        return network.requires_grad_(False)(x)

    @staticmethod
    def hooked(network, x, names, given):
        network[0].register_forward_hook(lambda module, below, above: None)
        return network(x).detach()

    @staticmethod
    def hooked_weights(network, x, names, given):
        network[0].weight.register_hook(lambda gradient: gradient)
        return network(x).detach()

    @staticmethod
    def patched(network, x, names, given):
        network.forward = lambda x: x
        return nn.Sequential.forward(network, x).detach()

    @staticmethod
    def swapped(network, x, names, given):
        found = network(x).detach()
        network[0] = nn.Identity()
        return found

    @staticmethod
    def tensor(network, x, names, given):
        found = network(x).detach()
        x += 1
        return found

    @staticmethod
    def listed(network, x, names, given):
        names.append("c")
        return network(x).detach()

    @staticmethod
    def within(network, x, names, given):
        given["array"][0] = 7
        return network(x).detach()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda network, x, names, given: network(x).detach(), None),
        (lambda network, x, names, given: network(x.requires_grad_()).detach(), None),  # no value changed
        (Answers.trained, "left the network in another mode"),
        (Answers.weights, "changed the network's weights"),
        (Answers.statistics, "running statistics"),
        (Answers.gradients, ".grad was left"),
        (Answers.frozen, "requires_grad of the network's weights was switched off"),
        (Answers.hooked, "a hook was left on the network:"),
        (Answers.hooked_weights, "a hook was left on the network's weights"),
        (Answers.patched, "something of its own on the network"),
        (Answers.swapped, "changed the network's layers"),
        (Answers.tensor, "it changed `x`, which belongs to whoever calls the function: work on x.clone()."),
        (Answers.listed, "it changed `names`, which belongs to whoever calls the function: work on list(names)."),
        (Answers.within, "it changed `given`"),
    ],
)
def test_a_right_answer_that_leaves_a_trace_is_refused_and_the_check_keeps_its_own(answer, said):
    network, x = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, momentum=0)).eval(), torch.ones(2, 2)
    names, given = ["a", "b"], {"array": np.zeros(2)}
    state = {name: value.clone() for name, value in network.state_dict().items()}

    @exercise("99.3")
    def _(attempt):
        attempt(network, x, names, given)
        return "well done"

    found = verdict("99.3", answer)
    assert found.passed is (said is None), found.message
    assert said is None or said in found.message
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not network.training and not network[0]._forward_hooks and network[0].weight.grad is None
    assert torch.equal(x, torch.ones(2, 2)) and not x.requires_grad
    assert names == ["a", "b"] and given["array"].sum() == 0


def test_a_wrong_answer_is_told_its_mistake_first():
    @exercise("99.4")
    def _(attempt):
        if attempt(torch.ones(2)).sum() != 4:
            raise Wrong("twice as much")
        return "well done"

    assert verdict("99.4", lambda x: x.mul_(3)).message == "twice as much"
    assert "it changed `x`" in verdict("99.4", lambda x: x.mul_(2)).message


def by_rows(a):
    return [float(row @ row) for row in a]


@pytest.mark.parametrize(
    ("answer", "torch_functions", "loops"),
    [
        (lambda a: a @ a.T, {"matmul", "__matmul__"}, False),
        (lambda a: torch.relu(a).sum(), {"relu"}, False),
        (lambda a: [row * 2 for row in a], set(), True),
        (lambda a: list(map(torch.sin, a)), {"sin"}, True),
        (lambda a: sum(a[i, 0] for i in range(len(a))), set(), True),
        (by_rows, {"matmul", "__matmul__"}, True),
        (lambda a: np.linalg.norm(a.numpy(), axis=1), {"numpy"}, False),
    ],
)
def test_watching_an_answer_tells_loops_from_whole_tensors(answer, torch_functions, loops):
    few, many = (watched(answer, torch.ones(size, 2)) for size in (3, 9))
    assert (few.steps != many.steps) is loops
    assert not torch_functions or few.torch & torch_functions
    assert watched(answer, torch.ones(3, 2)).steps == few.steps
    assert sys.gettrace() is not few._trace


def test_watching_sees_which_package_was_used():
    assert watched(lambda: images.heatmap(torch.zeros(2, 2))).uses("xailab")
    assert not watched(lambda: torch.zeros(2, 2).relu()).uses("xailab")
    with pytest.raises(ZeroDivisionError):
        watched(lambda: 1 / 0)
    assert sys.gettrace() is None or "Watch" not in str(sys.gettrace())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_check_does_not_mind_what_an_earlier_cell_switched_off(mode):
    def by_its_slope(x):
        x = torch.tensor(float(x), requires_grad=True)
        return float(torch.autograd.grad(x**3, x)[0]) / 3

    with mode():
        found = verdict("99.1", by_its_slope)
    assert found.passed, found.message
