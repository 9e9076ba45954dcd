"""Lesson 01: its published numbers against the counter, its pictures, its explorers and its checks."""

import json
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from xailab import figures
from xailab.flops import Cost, conv_cost, count, separable_cost
from xailab.lessons import flops as lesson
from xailab.lessons import verdict
from xailab.models.mobilenet import MobileNetV1


class TestPublished:
    """What the lesson prints beside the paper's numbers, to the paper's digits."""

    @pytest.mark.parametrize("row", [*lesson.TABLE_6, *lesson.TABLE_7, lesson.SMALL])
    def test_tables_6_7_and_9(self, row):
        alpha, size, _, macs, weights = row
        table = lesson.mobilenet(alpha, size)
        assert table.macs / 1e6 == pytest.approx(macs, abs=1)  # the paper's rounding is not consistent
        assert table.weights / 1e6 == pytest.approx(weights, abs=0.05)

    def test_table_3(self):
        costs = [
            conv_cost(512, 512, 3, 14),
            separable_cost(512, 512, 3, 14),
            separable_cost(384, 384, 3, 14),
            separable_cost(384, 384, 3, 10),
        ]
        for (_, macs, weights), cost in zip(lesson.TABLE_3, costs, strict=True):
            assert cost.macs / 1e6 == pytest.approx(macs, abs=0.5)
            assert cost.params / 1e6 == pytest.approx(weights, abs=0.005)

    def test_table_2_has_one_error(self):
        shares = lesson.shares(lesson.mobilenet())
        wrong = {
            (kind, i)
            for kind, published in lesson.TABLE_2.items()
            for i in (0, 1)
            if round(shares[kind][i], 2) != published[i]
        }
        assert wrong == {("convolution", 0)}
        assert sum(macs for macs, _ in lesson.TABLE_2.values()) == pytest.approx(99.29)

    @pytest.mark.parametrize("key", lesson.TENSORFLOW)
    def test_tensorflow(self, key):
        """Its alpha 0.75 leaves out the first convolution; its 0.25-192 is unexplained; the rest agrees."""
        table, (published, _) = lesson.mobilenet(*key), lesson.TENSORFLOW[key]
        if key == (0.25, 192):
            assert round(table.macs / 1e6, 1) == 30.2
        elif key[0] == 0.75:
            assert (table.macs - table.rows[0].macs) / 1e6 == pytest.approx(published, abs=0.5)
        else:
            assert table.macs / 1e6 == pytest.approx(published, abs=0.6)

    def test_what_tensorflow_left_out_fits_to_two_digits(self):
        tables = [lesson.mobilenet(0.75, size) for size in lesson.RESOLUTIONS]
        assert [round((t.macs - t.rows[0].macs) / 1e6, 2) for t in tables] == [317.27, 233.30, 162.25, 104.12]

    def test_the_other_networks(self):
        """SqueezeNet's 1700 are FLOPs and VGG's 15300 its convolutions."""
        import torchvision

        with torch.device("meta"):
            vgg, squeezenet = torchvision.models.vgg16(), torchvision.models.squeezenet1_0()
        vgg, squeezenet = count(vgg, (1, 3, 224, 224)), count(squeezenet, (1, 3, 224, 224))
        assert round(squeezenet.macs / 1e6) == 819
        assert round(vgg.macs / 1e6) == 15_470
        assert round(sum(r.macs for r in vgg.rows if r.kind != "linear") / 1e6) == 15_347

    def test_the_gain_is_the_inverse_of_the_sum(self):
        assert lesson.gain(7, 3) == pytest.approx(5040 / 1280)
        assert lesson.gain(10**9, 3) == pytest.approx(9, abs=1e-6)


ROWS = [
    {"architecture": a, "alpha": w, "resolution": r, "macs": m, "params": 1000, "accuracy": p}
    for a, w, r, m, p in (
        ("separable", 0.5, 64, 10**6, 0.7),
        ("separable", 0.5, 128, 4 * 10**6, 0.8),
        ("separable", 1.0, 64, 5 * 10**6, 0.75),
        ("full", 0.5, 64, 9 * 10**6, 0.78),
        ("full", 0.5, 128, 36 * 10**6, 0.9),
    )
]


def machine():
    rows = [count(layer, (1, 8, 16, 16)).rows[0] for layer in (nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8))]
    layers = [(f"layer {i}", row, 1e-6) for i, row in enumerate(rows)]
    times = {"convolution": 1.0, "depthwise": 2.0, "pointwise": 3.0, "linear": 0.1}
    return lesson.draw_roofline(lesson.Machine(1e11, 2e10), layers, times, lesson.mobilenet())


class TestPictures:
    @pytest.mark.parametrize(
        "draw",
        [
            lesson.draw_steps,
            lesson.draw_step,
            lesson.draw_gain,
            lesson.draw_cost,
            lesson.draw_dashboard,
            lesson.draw_tradeoff,
            lesson.draw_tools,
            lambda: lesson.draw_shares(lesson.mobilenet()),
            lambda: lesson.draw_measured(ROWS),
            machine,
        ],
    )
    def test_complete(self, draw):
        """Each picture draws without a warning, has titles and labels, and no text below 10 points."""
        figure = draw()
        assert isinstance(figure, Figure)
        assert len(figures.png(figure)) < 100_000
        for axes in figure.axes:
            if axes.axison:
                assert axes.get_xlabel()
            assert axes.get_title() or figure.get_suptitle()
            sizes = [text.get_fontsize() for text in (*axes.texts, *axes.get_xticklabels(), axes.title)]
            assert min(sizes) >= 10

    @pytest.mark.parametrize(
        ("layer", "step", "said"),
        [
            ("standard", 112, "112 × 45 = 5,040 of 5,040"),
            ("depthwise", 80, "80 × 9 = 720 of 720"),
            ("depthwise", 112, "80 × 9 = 720 of 720"),  # the slider is shared with the longer layers
            ("pointwise", 112, "112 × 5 = 560 of 560"),
            ("pointwise", 1, "1 × 5 = 5 of 560"),
        ],
    )
    def test_steps_count_to_the_end(self, layer, step, said):
        assert said in lesson.draw_step(layer, step).axes[0].get_title()

    def test_the_formula_has_the_numbers(self):
        said = lesson.draw_cost(3, 5, 7, 6, 1, 0, 1).get_suptitle()
        assert "3·3·5·7·4·4 = 5,040 MACs = 10,080 FLOPs" in said
        assert "3·3·5·4·4 + 5·7·4·4 = 1,280 MACs = 2,560 FLOPs" in said

    def test_pareto(self):
        assert [row["macs"] // 10**6 for row in lesson.pareto(ROWS)] == [1, 4, 36]


class TestExplorers:
    def test_steps(self):
        box = lesson.step_explorer()
        before = box.picture.value
        box.controls["layer"].value = "pointwise"
        assert box.picture.value != before
        before = box.picture.value
        box.controls["step"].value = 100
        assert box.picture.value != before
        assert box.message.value == ""

    def test_cost(self):
        box = lesson.cost_explorer()
        for name, value in {
            "out_channels": 7,
            "kernel": 5,
            "size": 20,
            "stride": 2,
            "padding": 2,
            "in_channels": 8,
        }.items():
            before = box.picture.value
            box.controls[name].value = value
            assert box.message.value == "" and box.picture.value != before, name

    def test_cost_of_an_impossible_layer_is_explained(self):
        box = lesson.cost_explorer()
        box.controls["groups"].value = 8
        box.controls["out_channels"].value = 7
        assert "must divide" in box.message.value
        box.controls["out_channels"].value = 64
        assert box.message.value == ""
        box.controls["padding"].value = 0
        box.controls["size"].value = 2
        assert "does not fit" in box.message.value

    def test_dashboard_snaps_to_the_sixteen(self):
        box = lesson.dashboard()
        for alpha in lesson.ALPHAS:
            before = box.picture.value
            box.controls["alpha"].value = alpha
            box.controls["resolution"].value = 128 if alpha == 1.0 else 160
            assert box.message.value == "" and box.picture.value != before
        assert list(box.controls["alpha"].options) == [0.25, 0.5, 0.75, 1.0]
        assert list(box.controls["resolution"].options) == [128, 160, 192, 224]


class TestMeasured:
    def test_loader(self, tmp_path, monkeypatch):
        monkeypatch.setattr(lesson.charts, "MEASURED", tmp_path / "mobilenets.json")
        with pytest.raises(FileNotFoundError, match=r"mobilenets.json is missing; make it with: python recipes/"):
            lesson.measured_mobilenets()
        lesson.charts.MEASURED.write_text(json.dumps({"command": "c", "images": {}, "rows": ROWS}))
        assert lesson.measured_mobilenets()["rows"] == ROWS

    def test_what_the_lesson_says_of_them(self):
        """The sentences beside the figure; other results must change the prose."""
        rows = {(r["architecture"], r["alpha"], r["resolution"]): r for r in lesson.measured_mobilenets()["rows"]}
        price = {
            size: 100 * (rows["full", 0.25, size]["accuracy"] - rows["separable", 0.25, size]["accuracy"])
            for size in (64, 32)
        }
        assert round(price[64]) == 4 and round(price[32]) == 23
        thin, wide = rows["separable", 0.25, 64], rows["separable", 0.5, 32]
        assert thin["macs"] == pytest.approx(wide["macs"], rel=0.15)
        assert round(100 * (thin["accuracy"] - wide["accuracy"])) == 10
        best = lesson.pareto(list(rows.values()))
        assert all((row["architecture"] == "full") == (row["macs"] > 4e6) for row in best)
        assert min(row["macs"] for row in best if row["architecture"] == "full") == rows["full", 0.25, 32]["macs"]

    def test_shipped_rows_were_counted(self):
        """The shipped MACs and parameters are those of the networks that they name."""
        rows = lesson.measured_mobilenets()["rows"]
        for row in rows:
            with torch.device("meta"):
                network = MobileNetV1(row["alpha"], 10, separable=row["architecture"] == "separable")
            table = count(network, (1, 3, row["resolution"], row["resolution"]))
            assert (row["macs"], row["params"]) == (table.macs, table.params), row
            assert 0.1 < row["accuracy"] <= 1
        assert {row["architecture"] for row in rows} == {"separable", "full"}

    def test_time(self):
        """The shortest run counts, and a layer of 50 times the work takes longer."""
        naps = iter([0.02, 0.001, 0.02, *[0.03] * 99])
        import time

        assert 0.001 <= lesson.best_time(lambda: time.sleep(next(naps)), seconds=0.1) < 0.019
        small, large = nn.Conv2d(4, 4, 3), nn.Conv2d(64, 64, 3)
        assert lesson.layer_time(small, 1, 4, 8, 8) < lesson.layer_time(large, 1, 64, 64, 64)

    def test_time_by_kind(self):
        network = MobileNetV1(0.25, 10).eval()
        times = lesson.time_by_kind(network, 32, seconds=0.001)
        assert set(times) == {"convolution", "depthwise", "pointwise", "linear"}
        assert all(0 < seconds < 1 for seconds in times.values())


def test_beside():
    table = lesson.beside(("name", "M MACs", "published"), ("a", 1234.5678, 1235), ("b", 0.5, 1))
    assert table.rows == (("a", "1,234.6", "1,235"), ("b", "0.5", "1"))


# --------------------------------------------------------------------------------------------- the exercises


def output(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def macs(k, m, n, size, stride, padding, groups):
    return k * k * (m // groups) * n * output(size, k, stride, padding) ** 2


MACS = [
    (macs, True, "one formula"),
    (lambda k, m, n, d, s, p, g: float(macs(k, m, n, d, s, p, g)), True, "one formula"),
    (lambda k, m, n, d, s, p, g: 2 * macs(k, m, n, d, s, p, g), False, "these are FLOPs"),
    (lambda k, m, n, d, s, p, g: k * k * m * n * d * d // g, False, "size of the input"),
    (lambda k, m, n, d, s, p, g: k * k * m * n * output(d, k, s, p) ** 2, False, "the groups are missing"),
    (lambda k, m, n, d, s, p, g: macs(k, m, n, d, s, p, g) // k, False, "K once"),
    (lambda k, m, n, d, s, p, g: macs(k, m, n, d, s, 0, g), False, "padding is missing"),
    (lambda k, m, n, d, s, p, g: macs(k, m, n, d, 1, p, g), False, "stride is missing"),
    (lambda k, m, n, d, s, p, g: macs(k, m, n, d, 1, 0, g), False, "padding"),
    (lambda k, m, n, d, s, p, g: k * k * m * n // g, False, "these are the weights"),
    (lambda k, m, n, d, s, p, g: k * k * m * n // g * output(d, k, s, p), False, "height or width once"),
    (lambda *_: 3, False, "Write D_G first"),
    (lambda *_: 7560, False, "Write D_G first"),  # right for the first layer alone
    (lambda k, m, n, d, s, p, g: macs(3, m, n, d, s, p, g), False, "K=5"),
    (lambda k, m, n, d, s, p, g: np.int64(macs(k, m, n, d, s, p, g)), True, "one formula"),
    (lambda k, m, n, d, s, p, g: torch.tensor(macs(k, m, n, d, s, p, g)), True, "one formula"),
    (lambda k, m, n, d, s, p, g: k * k * m // g * n * ((d + 2 * p - k) / s + 1) ** 2, False, "rounded down, with //"),
    (lambda k, m, n, d, s, p, g: k * k * m // g * n * (-((k - d - 2 * p) // s) + 1) ** 2, False, "no filter is half"),
    (lambda *_: math.inf, False, "no whole number"),
    (lambda *_: math.nan, False, "no whole number"),
    (lambda *_: "many", False, "return one number"),
]


def channels(gain, kernel):
    left = 1 / gain - 1 / kernel**2
    return math.ceil(1 / left - 1e-9) if left > 1e-12 else math.inf


def searched(gain, kernel, cap):
    """One number after another, up to a cap."""
    n = 1
    while gain < kernel**2 and n < cap:
        if n * kernel**2 >= (gain - 1e-9) * (n + kernel**2):
            return n
        n += 1
    return math.inf


CHANNELS = [
    (channels, True, "no number of channels"),
    (lambda g, k: 1 / (1 / g - 1 / k**2) if g < k * k else math.inf, False, "Channels are whole"),
    (lambda g, k: math.floor(1 / (1 / g - 1 / k**2) + 1e-9) if g < k * k else math.inf, False, "too little: round up"),
    (lambda g, k: math.floor(1 / (1 / g - 1 / k**2) + 1e-9) + 1 if g < k * k else math.inf, False, "not passed"),
    (lambda g, k: math.ceil(1 / (1 / g - 1 / k**2 + 1e-15) - 1e-9), False, "return math.inf"),
    (lambda g, k: 1, False, "Solve"),
    (lambda g, k: searched(g, k, math.inf), True, "no number of channels"),
    (lambda g, k: math.ceil(round(g * k**2 / (k**2 - g), 6)) if g < k**2 else math.inf, True, "no number of channels"),
    (lambda g, k: float(channels(g, k)), True, "no number of channels"),
    (lambda g, k: np.ceil(round(g * k**2 / (k**2 - g), 6)) if g < k**2 else np.inf, True, "no number of channels"),
    (lambda g, k: searched(g, k, 100), False, "a search over N has no end that fits all gains"),
    (lambda g, k: searched(g, k, 2_000), False, "a search over N has no end that fits all gains"),
    (lambda g, k: searched(g, k, 100_000), False, "a search over N has no end that fits all gains"),
    (lambda g, k: searched(g, k, 1_000_000), False, "a search over N has no end that fits all gains"),
    (lambda g, k: channels(g, 3), False, "with K=2"),
    (lambda g, k: channels(8.8, k), False, "with K=2"),
    (lambda g, k: math.inf, False, "do reach 2"),
    (lambda g, k: math.nan, False, "Solve"),
    (lambda g, k: math.ceil(1 / (1 / g - 1 / k**2) - 1e-9) if g != k**2 else math.inf, False, "return math.inf"),
]

COUNTED = [
    (lambda t: t.macs - t.rows[0].macs, True, "first convolution was left out"),
    (lambda t: t.macs, False, "which row is as large"),
    (lambda t: t.macs - t.rows[-1].macs, False, "the gap does"),
    (lambda t: (t.macs - t.rows[0].macs) / 1e6, False, "not millions"),
    (lambda t: t.rows[0].macs, False, "what is left without it"),
    (lambda t: 2 * (t.macs - t.rows[0].macs), False, "These are FLOPs"),
    (lambda t: 317_000_000, False, "Print the gap"),
    (lambda t: 1e6 * {325: 317, 239: 233, 167: 162, 107: 104}.get(t.macs // 10**6, 0), False, "Print the gap"),
    (lambda t: t.macs - 8_128_512, False, "got"),  # the gap of 224 pixels, for all sizes
    (lambda t: sum(row.macs for row in t.rows[1:]), True, "first convolution was left out"),
    (lambda t: torch.tensor(t.macs - t.rows[0].macs), True, "first convolution was left out"),
    (lambda t: [row.macs for row in t.rows[1:]], False, "return one number"),
]


def separable(conv, *, groups=True, stride="depthwise", padding=True, expand=False):
    m, n = conv.in_channels, conv.out_channels
    middle = n if expand else m
    first = nn.Conv2d(m, middle, conv.kernel_size, conv.stride if stride != "pointwise" else 1,
                      conv.padding if padding else 0, groups=m if groups else 1)  # fmt: skip
    return nn.Sequential(first, nn.Conv2d(middle, n, 1, 1 if stride == "depthwise" else conv.stride))


def fixed(conv, kernel=None, stride=None, padding=None):
    """With one of the layer's numbers always the same."""
    m, given = conv.in_channels, (conv.kernel_size, conv.stride, conv.padding)
    used = [number if own is None else own for own, number in zip((kernel, stride, padding), given, strict=True)]
    return nn.Sequential(nn.Conv2d(m, m, *used, groups=m), nn.Conv2d(m, conv.out_channels, 1))


def named_separable(conv):
    depthwise, pointwise = separable(conv)
    return nn.Sequential(OrderedDict(spread=depthwise.double().float(), mix=pointwise))


SEPARABLE = [
    (separable, True, "the same shapes"),
    (lambda c: c, False, "The first needs groups=M"),
    (lambda c: separable(c, groups=False), False, "The first needs groups=M"),
    (lambda c: nn.Sequential(*reversed(separable(c))), False, "the depthwise one keeps the 5 channels"),
    (
        lambda c: nn.Sequential(
            nn.Conv2d(c.in_channels, c.out_channels, 1),
            nn.Conv2d(c.out_channels, c.out_channels, c.kernel_size, c.stride, c.padding, groups=c.out_channels),
        ),
        False,
        "got pointwise and depthwise",
    ),
    (lambda c: separable(c, stride="both"), False, "belong to the depthwise layer alone"),
    (lambda c: separable(c, stride="pointwise"), False, "works on the small map"),
    (lambda c: separable(c, padding=False), False, "output of (1, 16, 6, 6)"),
    (lambda c: fixed(c, kernel=3), False, "keeps the kernel of 5 × 5"),
    (lambda c: fixed(c, stride=1), False, "keeps the stride"),
    (lambda c: fixed(c, padding=1), False, "are the given layer's"),
    (lambda c: tuple(separable(c)), False, "expected an nn.Sequential"),
    (lambda c: separable(nn.Conv2d(5, 7, 3)), False, "do not fit together"),  # right for the first layer alone
    (named_separable, True, "the same shapes"),
]


@pytest.mark.parametrize(
    ("number", "answer", "passed", "part"),
    [
        (number, *case)
        for number, cases in {"01.1": MACS, "01.2": CHANNELS, "01.3": COUNTED, "01.4": SEPARABLE}.items()
        for case in cases
    ],
)
def test_checks(number, answer, passed, part):
    result = verdict(number, answer)
    assert result.passed is passed, result.message
    assert part in result.message


@pytest.mark.parametrize("number", ["01.1", "01.2", "01.3", "01.4"])
def test_skeletons_are_open(number):
    result = verdict(number, lambda *_: ...)
    assert not result.passed
    assert "not written yet" in result.message


def test_cost_is_what_the_exercises_count():
    assert Cost(macs(3, 512, 512, 14, 1, 1, 512), 9 * 512) == conv_cost(512, 512, 3, 14, groups=512)
