"""What the deeper notebook of lesson 05 says of its numbers. Names that are not imported are the lesson's."""

import numpy as np
import pytest
import torch

from xailab.boxes import iou
from xailab.lessons import saliency as lesson
from xailab.localization import ground_truth_box
from xailab.saliency import integrated_gradients, saliency


def test_the_baseline_decides():
    strength = {name: heat[0].abs() for name, heat in maps_from.items()}
    dark, light = bright < 60, bright > 200
    assert strength["black"][dark].mean() < 0.4 * strength["black"].mean() < strength["black"][light].mean()
    assert strength["white"][light].mean() < 0.3 * strength["white"].mean() < strength["white"][dark].mean()


def test_completeness_and_the_control():
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02 < 0.1 < errors[0]
    eight = seen["ordinary"][:8]
    on = [
        float(lesson.share_on(heat, masks[:8]).mean())
        for heat in (
            integrated_gradients(ordinary, eight, labels[:8], steps=20).abs(),
            saliency(ordinary, eight, labels[:8]),
            eight.abs().sum(1),
        )
    ]
    assert on[0] > 0.6 and 0.4 < on[1] < 0.5 and on[2] < 0.25
    assert float(masks[:8].double().mean()) == pytest.approx(on[2], abs=0.05)


def test_grain_and_lattice():
    assert same == 1 and 0.78 < rank_correlation(maps["ordinary"], again) < 0.9
    assert 0.5 < rank_correlation(fine(maps["ordinary"]), fine(again)) < 0.7
    table = means["ordinary"]
    assert float(table.min()) == pytest.approx(0.79, abs=0.015) and float(table.max()) == pytest.approx(1.16, abs=0.015)
    assert (means["robust"] - 1).abs().max() < 0.04


def test_samples():
    assert agreement == sorted(agreement) and agreement[0] < 0.7 and agreement[-1] > 0.9


def test_two_classes():
    for k, more in ((0, False), (1, True)):
        on_cat, on_dog = (lesson.share_on(asked[:, k], mask).mean() for mask in animals)
        assert on_cat > on_dog + 0.08 if more else on_cat < on_dog


def test_score_and_probability():
    assert float(ratio.median()) == pytest.approx(1.6, abs=0.1) and int(sure.sum()) >= 15
    change = {name: trail[-1] - trail[0] for name, trail in trails.items()}
    assert change["score"][cat] > change["probability"][cat] + 2 and change["score"][dog] > 2
    assert trails["score"][-1].argmax() == dog and trails["probability"][-1].argmax() == cat
    assert change["probability"][dog] < -2


def test_rounding():
    assert [rate for rate, rounding in ways if rounding] == [20, 6, 0.3]
    put_back = held[:, ::2].mean(0)
    assert 0.28 < put_back[0] < 0.4 and 0.55 < put_back[1] < 0.7 and put_back[2] > 0.95
    gain = (climbs[-1] - climbs[0])[::2] / (climbs[-1] - climbs[0])[1::2]
    assert min(gain[:2]) > 0.95 and 0.55 < gain[2] < 0.75
    assert 0.4 < kept[:20, 4].mean() < 0.65 and (climbs[20, 4] - climbs[0, 4]) > 0.6 * (climbs[-1, 4] - climbs[0, 4])


def test_tricks():
    moved = {
        name: float((cells[name] - cells["plain"]).square().mean() / cells["plain"].square().mean()) for name in cells
    }
    assert moved["clip"] < 0.05 and moved["blur"] < 0.5
    assert min(moved[name] for name in ("jitter", "turn, zoom", "Fourier", "colours")) > 0.8
    assert grain["blur"] < grain["jitter"] < grain["plain"] < grain["Fourier"] == max(grain.values())
    assert grain["turn, zoom"] < grain["plain"]
    with torch.no_grad():
        usual = robust(seen["robust"])[range(30), labels].median()  # of real pictures
    assert flat.max() < 0.3 and (begun.scores[-1] > usual).all()


def test_segments():
    mean = {name: values.mean() for name, values in cut.items()}
    plain, little, much, firm, cam = mean.values()
    assert min(little, firm, cam) > plain + 0.04 and much < plain - 0.1 and max(little, firm, cam) < 0.75
    assert max(mean.values()) - little < 0.05
    hits = {name: (box_hits(top[name]).mean(), box_hits(segments[name]).mean()) for name in cut}
    assert hits["saliency, robust"][0] == 1 and hits["saliency, robust"][1] < 1
    assert (
        hits["CAM, ordinary"][0]
        < 0.1
        < 0.6
        < np.mean([iou(b, ground_truth_box(t)) >= 0.5 for b, t in zip(cam_boxes, truth, strict=True)])
    )
    best, worst, good, bad = cut["saliency, robust"][order[[-1, 0, -4, 3]]]
    assert min(best, good) > 0.75 and max(worst, bad) < 0.6


def test_the_spoon():
    names = [network.classes[c] for c in top_class.tolist()]
    assert names[1:] == ["espresso", "moped", "daisy"] and "cat" in names[0]
    assert torch.isfinite(soft).all()
