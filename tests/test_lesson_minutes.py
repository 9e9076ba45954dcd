"""The minutes of a lesson, and the budgets of the lessons in the new shape."""

import doctest
from pathlib import Path

import lesson_minutes

ROOT = Path(__file__).resolve().parents[1]
SOURCE = """# %% [markdown]
# # 01 · A title
#
# About {reading} minutes, and {exercises}.

# %%
one = 1

figures.show(figure, "A picture.")

# %% [markdown]
# ## Exercises
#
# Words that are not counted.

# %% [markdown]
# ### 01.1 One
# *Difficulty 2 of 5, about 12 minutes.* Return one.

# %% tags=["exercise"]
def mine(): ...

# %% [markdown]
# ## Summary
#
# [A paper](https://arxiv.org/abs/1512.04150).
"""


def written(folder: Path, name: str, text: str = SOURCE) -> Path:
    path = folder / "source" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_size_by_hand(tmp_path):
    size = lesson_minutes.size(written(tmp_path, "01_a.py"))
    title, sentence, end = 4, 5, 3  # "01 · A title", "About {reading} minutes, and {exercises}.", "Summary A paper."
    assert (size.words, size.lines, size.figures) == (title + sentence + end, 2, 1)
    assert (size.longest, size.exercises) == (2, 12)
    assert size.reading == round((12 / 110 * 60 + 2 * 7 + 45) / 60)


def test_minutes_are_filled_in(tmp_path):
    source = written(tmp_path, "01_a.py")
    deeper = written(tmp_path, "deeper/01_a.py")
    assert lesson_minutes.fill_in("{reading} and {exercises}", source) == "1 and 12"
    assert lesson_minutes.fill_in("{minutes 01_a}, {minutes deeper/01_a}", deeper) == "1 + 12, 1 + 12"
    assert lesson_minutes.fill_in(r"$\frac{a}{b}$", source) == r"$\frac{a}{b}$"


def test_examples():
    assert doctest.testmod(lesson_minutes).failed == 0


def test_a_lesson_keeps_its_budget():
    """A core takes at most 45 minutes and 10 figures; no cell, in a deeper notebook either, has more than 25 lines."""
    for source in sorted((ROOT / "notebooks/source").rglob("*.py")):
        if "{reading}" not in source.read_text(encoding="utf-8"):
            continue
        size = lesson_minutes.size(source)
        assert size.longest <= 25, source
        if source.parent.name == "source":
            assert size.reading <= 45 and size.figures <= 10, (source, size)
