"""What lesson 01 says of its numbers and pictures. Names that are not imported are the lesson's."""

import pytest

from xailab.flops import conv_cost, separable_cost


def test_by_hand_and_the_gain():
    assert (standard, depthwise, pointwise) == (5040, 720, 560)

    def gain(channels, size=14):
        return conv_cost(512, channels, 3, size).macs / separable_cost(512, channels, 3, size).macs

    assert round(gain(64), 1) == 7.9 and all(8 < gain(n) < 9 for n in (128, 256, 1024))
    assert gain(512, 7) == gain(512, 56)  # the size of the picture cancels


def test_where_the_work_is():
    share = {kind: cost.macs / table.macs for kind, cost in table.by_kind().items()}
    assert share["pointwise"] == max(share.values()) and share["pointwise"] > 0.5
    parts = {}
    for row in table.rows:
        parts.setdefault(row.module.split(".")[0], []).append(row)
    macs = [sum(row.macs for row in rows) for name, rows in parts.items() if name.startswith("block")]
    assert max(macs) < 4 * min(macs)  # "spread over the depth"
    weights = [sum(row.weights for row in rows) for rows in parts.values()]
    assert sum(weights[-8:]) > 0.8 * sum(weights)  # "pile up at the end"


def test_the_convolution_is_the_map():
    assert conv_cost(1280, 1000, 1, 7).macs == 49 * table.rows[-1].macs
    assert float((maps[:, [cat, espresso]] - cam).abs().max()) < 1e-4
    upper = [float(each[:3].relu().sum() / (each[:3].relu().sum() + each[4:].relu().sum())) for each in cam[0]]
    assert upper[0] > 0.8 > 0.2 > upper[1]  # "glows on the cat's face, the other on the coffee"


def test_counters():
    assert mine.macs.total() == macs_by_hooks(network, cat_picture) == table.macs
    assert macs_by_hooks(vit, empty) / counter.macs.total() == pytest.approx(0.64, abs=0.01)


def test_sizes():
    mean = dict(zip(sizes, (sum(row) / len(row) for row in trust), strict=True))
    cost = dict(zip(sizes, millions, strict=True))
    assert cost[448] / cost[224] == pytest.approx(4, rel=0.01) and cost[160] / cost[224] == pytest.approx(0.5, abs=0.02)
    assert max(trust[-1]) < 0.25 and mean[160] > mean[224]  # "next to nothing", "without harm here"


def test_networks():
    six = {name: each for name, each in networks.items() if name != "efficientnet_lite0"}
    assert max(six, key=lambda name: six[name][0]) == "vgg16"
    ranks = sorted(six, key=lambda name: -six[name][1])
    assert ranks.index("vgg16") == 3 and round(six["vgg16"][1], 1) == 71.6


def test_intensity():
    rows = {name: row for name, row, _ in measured}
    for size in (112, 14):
        assert rows[f"depthwise {size}"].intensity == pytest.approx(2.2, abs=0.1)
    assert rows["standard 14"].intensity > 30 * rows["depthwise 14"].intensity
