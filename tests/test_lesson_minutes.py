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


def test_what_exceeds_the_budget_is_named(tmp_path):
    long = SOURCE + "\n# %%\n" + "figures.show(one, 'A picture.')\n" * 26 + "\n# %% [markdown]\n# " + "word " * 4000
    core, deeper = written(tmp_path, "01_a.py", long), written(tmp_path, "deeper/01_a.py", long)
    assert lesson_minutes.over_budget(written(tmp_path, "02_b.py")) == []
    assert lesson_minutes.over_budget(written(tmp_path, "03_c.py", long.replace("{reading}", "60"))) == []  # old shape
    lines, minutes, figures = lesson_minutes.over_budget(core)
    assert lines == "01_a: 26 lines in a cell, at most 25" and figures == "01_a: 27 figures, at most 10"
    assert minutes.endswith("minutes to read, at most 45")
    assert lesson_minutes.over_budget(deeper) == [lines]


def test_lessons_keep_their_budget():
    sources = sorted((ROOT / "notebooks/source").rglob("*.py"))
    assert [words for source in sources for words in lesson_minutes.over_budget(source)] == []
