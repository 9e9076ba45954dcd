"""The framework of the exercises and of the explorers; what the lessons put in is tested beside each lesson."""

import ipywidgets as widgets
import pytest
from matplotlib.figure import Figure

from xailab import lessons
from xailab.lessons import Wrong, check, exercise, verdict
from xailab.lessons.explorer import explorer


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
