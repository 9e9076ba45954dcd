"""The lessons' sections "On real data": a line each where there is none, and what they show where there is some."""

import ast
import os
import re
from pathlib import Path

import numpy as np
import pytest
import real_section
import small_copies
from real_section import SOURCES

from xailab import figures
from xailab.datasets import catalogue, scenes
from xailab.images import Preprocess
from xailab.lessons import real
from xailab.models import zoo


def run(source: Path) -> list[tuple[str, list[str]]]:
    """What each cell of a section prints, and the texts of its pictures, which are drawn."""
    texts, cells = [], []

    def show(figure, alt):
        figures.png(figure)
        texts.append(alt)

    for said in real_section.run(source, show):
        cells.append((said, texts.copy()))
        texts.clear()
    return cells


@pytest.fixture(params=SOURCES, ids=[path.stem for path in SOURCES])
def source(request):
    return request.param


def test_where_nothing_is_here_one_line_says_how_to_get_it(source):
    cells = run(source)
    assert cells
    for said, texts in cells:
        assert not texts
        assert said.count("\n") == 1 and "python data_download.py" in said, said
        names = said.partition("data_download.py ")[2].replace("--accept-licence", "").split()
        assert set(names) <= set(catalogue.entries())
        assert len(said) <= 160


def test_the_list_names_the_lessons_that_use_something():
    used = dict.fromkeys([path.stem[:2] for path in SOURCES], "")
    for path in SOURCES:
        used[path.stem[:2]] += ast.unparse(ast.parse("\n".join(real_section.code(path))))
    for entry in catalogue.entries().values():
        if entry.name.startswith("mvtec-ad"):
            continue  # any category will do
        bare = entry.name.removeprefix(real.WEIGHTS)
        expected = sorted(lesson for lesson, text in used.items() if f"'{bare}'" in text or f"'{entry.name}'" in text)
        assert list(entry.lessons) == expected, entry.name


SAYS = {  # what the real network and the real sample must bring about
    "deeper/01": r"squeezenet1_0 says: Egyptian cat, espresso",
    "02": r"“Egyptian cat” +8\d% on the half of the cat",
    "03": r"Guided Grad-CAM “Egyptian cat” +9\d% on the half of the cat",
    "deeper/04": r"gradient +correlation +0\.[0-4]",
    "deeper/05": r"probability of espresso: \S+ \S+ (0\.99\d|1\.000), 0\.8",
    "08": r"image AUROC (0\.9\d\d|1\.000), pixel AUROC 0\.9[89]",
    "09": r"image AUROC 0\.[89]\d\d, pixel AUROC 0\.9[5-9]",
}


@pytest.mark.real
def test_on_the_real_network_and_the_real_hazelnuts(source, monkeypatch, real_data):
    monkeypatch.setenv("XAILAB_DATA", str(real_data))
    cells = run(source)
    said = "".join(said for said, _ in cells)
    place = "deeper/" if source.parent.name == "deeper" else ""
    assert re.search(SAYS.get(place + source.stem[:2], ""), said), said
    missing = " ".join(re.findall(r"data_download\.py (.+)", said))
    assert "squeezenet" not in missing and "hazelnut" not in missing
    for said, texts in cells:
        assert bool(texts) != ("data_download.py" in said), "a cell draws nothing"
        assert all(len(text.split()) >= 6 for text in texts)


NETWORKS = ("resnet18", "squeezenet1_0")


def untrained(patch, names: tuple[str, ...]) -> None:
    """Let the zoo find networks that have random weights."""
    load = zoo.load
    patch.setattr(zoo, "weights_file", lambda name: Path(name) if name in names else None)
    patch.setattr(zoo, "load", lambda name: load(name, weights=None) if name in names else load(name))


def drawn(side: int, count: int) -> tuple[np.ndarray, list[int]]:
    """Scenes of the first three classes, and their labels."""
    labels = [i % 3 for i in range(count)]
    return np.stack([scenes.scene(i, label=k, size=side).image for i, k in enumerate(labels)]), labels


def stl10(root: Path, patch) -> None:
    images, labels = drawn(96, 9)
    both = dict.fromkeys(("train", "test"), (images, [label + 1 for label in labels]))
    small_copies.stl10(root, patch, both, list(scenes.CLASSES[:3]))


COPIES = {
    "02": [lambda root, patch: small_copies.oxford_pets(root, 11), stl10],
    "03": [lambda root, patch: small_copies.oxford_pets(root, 11)],
    "05": [
        lambda root, patch: small_copies.oxford_pets(root, 4),
        lambda root, patch: small_copies.cifar10(root, patch, *drawn(32, 40), list(scenes.CLASSES)),
    ],
    "07": [
        lambda root, patch: small_copies.brain_mri(root, 40, 12),
        lambda root, patch: small_copies.cub_200(root, 5, 10),
    ],
    "08": [lambda root, patch: small_copies.hazelnut(root, 20, 6)],
    "09": [lambda root, patch: small_copies.hazelnut(root, 10, 6)],
}


@pytest.mark.filterwarnings("ignore::xailab.grad_cam.NoPositiveEvidence")  # a random network may have none
@pytest.mark.filterwarnings("ignore::xailab.targets.ZeroGradient")  # without biases it sees nothing in the mean colour
def test_on_small_copies_of_the_data_sets(source, tmp_path, monkeypatch):
    """Every cell of a section runs; what it shows is of random networks, or of ones that have hardly learnt."""
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    number = source.stem[:2]
    untrained(monkeypatch, ("vgg16",) if number == "06" else NETWORKS)  # one cell of lesson 06 takes no other
    for copy in COPIES.get(number, []):
        copy(tmp_path, monkeypatch)
    for said, texts in run(source):
        assert "data_download.py" not in said
        assert texts, "a cell draws nothing"


def test_pets_as_a_network_sees_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    small_copies.oxford_pets(tmp_path, 6)
    preprocess = Preprocess(resize=64, crop=64)
    batch, pictures, masks = real.pets(preprocess, 4)
    assert batch.shape == (4, 3, 64, 64) and pictures.shape == (4, 64, 64, 3) and masks.shape == (4, 64, 64)
    scene = scenes.scene(0, label=0, split="test", size=240)
    frame = preprocess.frame(scene.image)
    assert np.abs(pictures[0].astype(int) - frame).mean() < 4  # JPEG
    assert (
        masks[0] == (preprocess.frame(scene.masks[0][..., None].repeat(3, 2) * np.uint8(255))[..., 0] > 127)
    ).mean() > 0.98


def test_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    assert not real.here("weights/squeezenet1_0", "mvtec-ad/hazelnut")
    said = capsys.readouterr().out
    assert said.endswith("python data_download.py weights/squeezenet1_0 mvtec-ad/hazelnut --accept-licence\n")
    assert "about 621.5 MB" in said or "about 621.6 MB" in said
    (tmp_path / "mvtec_ad" / "hazelnut" / "train").mkdir(parents=True)
    (tmp_path / "mvtec_ad" / "screw").mkdir()
    (tmp_path / "mvtec_ad" / "mine" / "train").mkdir(parents=True)
    assert real.here("mvtec-ad/hazelnut") and real.here("mvtec-ad/mine")
    assert not real.here("mvtec-ad/screw"), "an empty folder is no data"
    assert "mvtec-ad/screw" in capsys.readouterr().out
    assert not real.here("mvtec-ad/yours") and "No mvtec-ad/yours is here" in capsys.readouterr().out
    assert not real.here("weights/squeezenet1_0", "mvtec-ad/hazelnut")
    assert capsys.readouterr().out.endswith("python data_download.py weights/squeezenet1_0\n")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "squeezenet1_0.safetensors").touch()
    assert real.here("weights/squeezenet1_0", "mvtec-ad/hazelnut") and not capsys.readouterr().out


def test_the_first_weights_that_are_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    assert real.weights("vgg16", "squeezenet1_0") is None
    assert capsys.readouterr().out.endswith("data_download.py weights/squeezenet1_0\n")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "squeezenet1_0_imagenet.safetensors").touch()
    assert real.weights("vgg16", "squeezenet1_0") == "squeezenet1_0"
    (tmp_path / "weights" / "vgg16.safetensors").touch()
    assert real.weights("vgg16", "squeezenet1_0") == "vgg16" and not capsys.readouterr().out


def test_nothing_that_was_downloaded_is_seen_by_tests():
    assert os.environ["XAILAB_DATA"] == os.environ["TORCH_HOME"] == os.devnull
