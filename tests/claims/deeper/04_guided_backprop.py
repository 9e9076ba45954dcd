"""What the deeper notebook of lesson 04 says of its numbers. Names that are not imported are the lesson's."""

import pytest


def test_random_networks_redraw_their_input():
    for way in ("max-pooling", "stride 2"):
        assert recovered[way, "guided backprop"][0] > 0.4
        assert abs(recovered[way, "gradient"][0]) < 0.05
    assert 0.2 < recovered["max-pooling", "deconvnet"][0] < recovered["max-pooling", "guided backprop"][0]
    assert abs(recovered["stride 2", "deconvnet"][0]) < 0.05
    assert max(abs(other) for _, other in recovered.values()) < 0.1


def test_one_layer_at_a_time_and_signs():
    assert list(independent) == sorted(independent, key=independent.get, reverse=True)
    assert independent["layer4"] > 0.9 and independent["layer1"] < 0.75
    sizes, signs = with_signs["gradient"]
    assert sizes == pytest.approx(0.72, abs=0.02) and abs(signs) < 0.1
    assert min(with_signs["guided backprop"]) > 0.95


def test_random_labels():
    """Loose, since trainings differ from processor to processor."""
    shuffled_labels, other_start = "shuffled labels", "true labels, another start"
    assert like_first["guided", shuffled_labels] > like_first["guided", other_start]
    assert like_first["guided", shuffled_labels] > like_first["guided", "another picture"] + 0.15
    for name in (shuffled_labels, other_start):
        assert like_first["gradient", name] < like_first["gradient", "another picture"] + 0.15


def test_swapping():
    silent = [
        sum(line[column] not in ("right", "warns", "refuses", "RuntimeError") for line in verdicts)
        for column in range(4)
    ]
    assert silent == [6, 7, 6, 0]
    assert [line[3] for line in verdicts].count("right") == 7
    assert change > 0.1


def test_files_and_inputs():
    zeros = [zero_of(min_max, g) for g in ten_guided]
    assert min(zeros) < 120 < 155 < max(zeros)
    assert max(abs(zero_of(mean_std, g) - 127.5) for g in ten_guided) < 1
    assert shares == pytest.approx([1.0, 0.2])
    assert agreement < 0.5
    assert error(opened(right)) == 0 and error(swapped_back) > 10
