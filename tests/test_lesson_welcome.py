"""Lesson 00: the check of the machine, the explorer, and the first exercise."""

import numpy as np
import pytest

from xailab.datasets import scenes
from xailab.lessons import verdict, welcome


def test_machine_check_names_every_problem():
    required = ["torch>=2.6", "opencv-python-headless>=4", "nbval>=0.11; extra == 'dev'", "PyYAML>=6"]
    assert (
        welcome.problems(required, {"torch": "2.14.1+cu130", "opencv-python-headless": "5.0", "pyyaml": "6.0"}, (3, 11))
        == []
    )
    found = welcome.problems(required, {"torch": "2.5.0", "pyyaml": "6.0"}, (3, 10))
    assert len(found) == 3
    assert "Python is 3.10" in found[0] and "torch is 2.5.0, needed is >=2.6" in found[1]
    assert "opencv-python-headless is missing" in found[2] and "make lab" in found[2]
    assert len(welcome.problems(["requests>=2; extra == 'data'", "ipykernel; extra == 'course'"], {}, (3, 11))) == 2


def test_machine_check_is_content_here(capsys):
    welcome.check_machine()
    assert "✗" not in capsys.readouterr().out


def test_tint_colours_only_the_object():
    scene = scenes.scene(0, kind="pair", size=64)
    tinted = welcome.tint(scene.image, scene.masks)
    coloured = (tinted.max(2).astype(int) - tinted.min(2)) > 2
    assert coloured[scene.masks.any(0)].mean() > 0.99 and not coloured[~scene.masks.any(0)].any()


def test_explorer_follows_every_control():
    box = welcome.scene_explorer()
    seen = {box.picture.value}
    for name, value in (("kind", "pair"), ("index", 5), ("show_masks", False)):
        box.controls[name].value = value
        assert box.message.value == ""
        seen.add(box.picture.value)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda p: p[:, ::-1], None),
        (lambda p: p[::-1], "upside down"),
        (lambda p: p[:, :, ::-1], "red and blue"),
        (lambda p: p.transpose(1, 0, 2), "keeps its shape"),
        (lambda p: np.zeros_like(p), "columns in reverse"),
        (lambda p: None, "not written yet"),
    ],
)
def test_check(answer, part):
    found = verdict("00.1", answer)
    assert found.passed == (part is None) and (part is None or part in found.message), found.message
