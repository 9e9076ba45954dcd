"""How long a lesson takes to read, and its exercises to solve.

Readers whose first language is another one read about 110 words of English a minute. A line of code takes 7 seconds,
a figure 45.
What an exercise takes is written under its title ("about 10 minutes").
"""

import re
from dataclasses import dataclass
from pathlib import Path

import jupytext

WORDS_A_MINUTE, SECONDS_A_LINE, SECONDS_A_FIGURE = 110, 7, 45
MINUTES, FIGURES, LINES = 45, 10, 25  # a core's budget; the lines hold for deeper notebooks, too


@dataclass(frozen=True)
class Size:
    """What a lesson asks of its reader.

    Attributes:
        words: Of prose, exercises left out.
        lines: Of code, exercises left out.
        figures: Calls of `figures.show`, exercises left out.
        longest: Lines of the longest cell of code, exercises left out.
        exercises: Minutes for all exercises, as their titles say.
    """

    words: int
    lines: int
    figures: int
    longest: int
    exercises: int

    @property
    def reading(self) -> int:
        """Minutes to read the lesson."""
        seconds = self.words / WORDS_A_MINUTE * 60 + self.lines * SECONDS_A_LINE + self.figures * SECONDS_A_FIGURE
        return round(seconds / 60)


def size(source: Path) -> Size:
    """Measure a lesson by its source."""
    words = lines = shown = longest = exercises = 0
    inside = False  # the section of exercises
    for cell in jupytext.read(source, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^#{1,2} (.*)", cell.source, flags=re.MULTILINE):
                inside = heading.startswith("Exercise")
            exercises += sum(int(m) for m in re.findall(r"\*Difficulty \d[^*]*?about (\d+) minutes?", cell.source))
            words += 0 if inside else len(prose(cell.source).split())
        elif not inside and not {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            code = [line for line in cell.source.splitlines() if line.strip()]
            lines, longest = lines + len(code), max(longest, len(code))
            shown += cell.source.count("figures.show(")
    return Size(words, lines, shown, longest, exercises)


def over_budget(source: Path) -> list[str]:
    """Say in what a lesson of the new shape, whose text has `{reading}`, exceeds its budget.

    Cells have at most `LINES` lines. A core, which lies in the folder of the sources itself, takes at most `MINUTES`
    and `FIGURES`.
    """
    if "{reading}" not in source.read_text(encoding="utf-8"):
        return []
    lesson = size(source)
    limits = [(lesson.longest, LINES, "lines in a cell")]
    if source.parent.name == "source":
        limits += [(lesson.reading, MINUTES, "minutes to read"), (lesson.figures, FIGURES, "figures")]
    return [f"{source.stem}: {found} {what}, at most {most}" for found, most, what in limits if found > most]


def prose(markdown: str) -> str:
    """Leave only what is read as words: a formula counts as one, an address and the marks of a table as none.

    >>> prose("The [paper](https://arxiv.org/abs/1512.04150) has $a + b$; | 1 | 2 |")
    'The paper has formula;  1  2 '
    """
    text = re.sub(r"<[^>]*>", " ", markdown)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", "formula", text, flags=re.DOTALL)
    return re.sub(r"[|#*`]|-{3,}", "", text)


def fill_in(markdown: str, source: Path) -> str:
    """Put the minutes where a text has `{reading}` and `{exercises}`, or `{minutes NN_name}` for another lesson."""

    def other(found: re.Match) -> str:
        lesson = size(folder / f"{found[1]}.py")
        return f"{lesson.reading} + {lesson.exercises}"

    folder = next(parent for parent in source.parents if parent.name == "source")
    if "{reading}" in markdown or "{exercises}" in markdown:
        own = size(source)
        markdown = markdown.replace("{reading}", str(own.reading)).replace("{exercises}", str(own.exercises))
    return re.sub(r"\{minutes ([\w/]+)\}", other, markdown)
