"""What each part of Patch SVDD's training does, and lambda: the table that lesson 09 shows.

    python recipes/patch_svdd_ablation.py

All trainings take equally many steps. What each has measured is written as soon as it is there, and a row that is there
is not computed again.
"""

import argparse
import json
import warnings
from pathlib import Path

from patch_svdd import measured, pictures

from xailab.patch_svdd import COURSE, Collapse, PatchSVDD, Step

TABLE = Path(__file__).parents[1] / "xailab" / "lessons" / "patch_svdd" / "ablation.json"
BOTH = "neighbours and position"
LAMBDAS = (0.01, 0.1, 0.3, 1.0)
WINDOW = 20  # steps that are averaged


def row(category: str, objective: str, lambda_: float | None, args: argparse.Namespace) -> dict:
    """Train one detector, and measure."""
    normal, test = (pictures(category, split, args.pictures, args.size) for split in ("train", "test"))
    detector, found = PatchSVDD(seed=args.seed), {"spread": None, "position": None}
    if objective != "untrained":
        options = {"steps": args.steps, "batch": args.pairs, "lr": args.lr, "objective": objective}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Collapse)  # which the table shows
            detector.fit(normal, **options, lambda_=lambda_ or 1.0)
        first, last = (means(part) for part in (detector.history[:WINDOW], detector.history[-WINDOW:]))
        found = {
            "spread": [first.spread_64, last.spread_64],
            "position": [last.position_64, last.position_32] if objective == BOTH else None,
        }
    auroc = measured(detector.fill_memory_bank(normal), test)
    image, pixel = ({kind: values[i] for kind, values in auroc.items()} for i in (0, 1))
    return {"category": category, "objective": objective, "lambda": lambda_, "image": image, "pixel": pixel, **found}


def means(steps: list[Step]) -> Step:
    """What steps measured, on average."""
    return Step(*(sum(values) / len(steps) for values in zip(*steps, strict=True)))


def main() -> None:
    """Compute the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--categories", nargs="+", default=["capsule", "fabric"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=60, help="to learn from, and to measure with")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=COURSE.batch)
    parser.add_argument("--lr", type=float, default=COURSE.lr)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table = {"recipe": "python recipes/patch_svdd_ablation.py", **vars(args), "rows": []}
    if TABLE.exists():
        before = json.loads(TABLE.read_text(encoding="utf-8"))
        if {k: v for k, v in before.items() if k != "rows"} == {k: v for k, v in table.items() if k != "rows"}:
            table = before
    wanted = [("untrained", None), ("centre", None), ("neighbours", None), *((BOTH, each) for each in LAMBDAS)]
    for category in args.categories:
        for objective, lambda_ in wanted:
            if not any(
                (r["category"], r["objective"], r["lambda"]) == (category, objective, lambda_) for r in table["rows"]
            ):
                table["rows"].append(row(category, objective, lambda_, args))
                TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(table["rows"][-1]))


if __name__ == "__main__":
    main()
