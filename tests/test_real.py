"""The lessons' sections "On real data": a line each where there is none, and what they show where there is some."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import real_section
import small_copies
from real_section import SOURCES
from safetensors.torch import save_file

from xailab import figures
from xailab.datasets import catalogue, scenes
from xailab.images import Preprocess
from xailab.lessons import real
from xailab.models import zoo


def run(source: Path) -> tuple[list[str], list[str]]:
    """What each cell of a section prints, and the texts of the pictures, which are drawn."""
    texts = []
    return real_section.run(source, lambda figure, alt: texts.append((figures.png(figure), alt)[1])), texts


@pytest.fixture(params=SOURCES, ids=[path.stem for path in SOURCES])
def source(request):
    return request.param


def test_where_nothing_is_here_one_line_says_how_to_get_it(source):
    said, texts = run(source)
    assert not texts
    for lines in said:
        assert lines.count("\n") == 1 and "python data_download.py" in lines, lines
        names = lines.partition("data_download.py ")[2].replace("--accept-licence", "").split()
        assert set(names) <= set(catalogue.entries())
        assert len(lines) <= 160


def test_the_list_names_the_lessons_that_use_something():
    used = {path.stem[:2]: "\n".join(real_section.code(path)) for path in SOURCES}
    for entry in catalogue.entries().values():
        if entry.name.startswith("mvtec-ad"):
            continue  # any category will do
        bare = entry.name.removeprefix(real.WEIGHTS)
        expected = [lesson for lesson, text in used.items() if f'"{bare}"' in text or f'"{entry.name}"' in text]
        assert list(entry.lessons) == expected, entry.name


SAYS = {  # what the real network and the real sample must bring about
    "00": r"cat +Egyptian cat 0\.[67]",
    "01": r"squeezenet1_0 .* 0\.82 billion MACs .* cat: Egyptian cat, 0\.[67]",
    "02": r"left half: 0\.[89]\d for the cat, 0\.[0-3]\d for the cup",
    "03": r"Guided Grad-CAM “Egyptian cat” +9\d% on the half of the cat",
    "04": r"gradient +correlation +0\.[0-4]",
    "05": r"probability of espresso: \S+ \S+ (0\.99\d|1\.000), 0\.8",
    "06": "",
    "07": "",  # none of its data is here
    "08": r"image AUROC (0\.9\d\d|1\.000), pixel AUROC 0\.9[89]",
    "09": r"image AUROC 0\.[89]\d\d, pixel AUROC 0\.9[5-9]",
}


@pytest.mark.real
def test_on_the_real_network_and_the_real_hazelnuts(source, monkeypatch, real_data):
    monkeypatch.setenv("XAILAB_DATA", str(real_data))
    said, texts = run(source)
    assert re.search(SAYS[source.stem[:2]], "".join(said)), said
    missing = " ".join(re.findall(r"data_download\.py (.+)", "".join(said)))
    assert "squeezenet" not in missing and "hazelnut" not in missing
    assert len(texts) >= len(said) - len(re.findall(r"data_download\.py", "".join(said))), "a cell draws nothing"
    assert all(len(text.split()) >= 6 for text in texts)


def weights(root: Path, *names: str) -> None:
    """Random ones, where the real ones would lie."""
    (root / "weights").mkdir(exist_ok=True)
    for name in names:
        save_file(zoo.load(f"{name}-random").state_dict(), root / "weights" / f"{name}.safetensors")


def drawn(side: int, count: int) -> tuple[np.ndarray, list[int]]:
    """Scenes of the first three classes, and their labels."""
    labels = [i % 3 for i in range(count)]
    return np.stack([scenes.scene(i, label=k, size=side).image for i, k in enumerate(labels)]), labels


def stl10(root: Path, patch) -> None:
    images, labels = drawn(96, 9)
    both = dict.fromkeys(("train", "test"), (images, [label + 1 for label in labels]))
    small_copies.stl10(root, patch, both, list(scenes.CLASSES[:3]))


COPIES = {
    "02_cam": lambda root, patch: (
        weights(root, "resnet18"),
        small_copies.oxford_pets(root, 11),
        stl10(root, patch),
    ),
    "03_grad_cam": lambda root, patch: (weights(root, "squeezenet1_0"), small_copies.oxford_pets(root, 11)),
    "05_saliency": lambda root, patch: (
        weights(root, "squeezenet1_0"),
        small_copies.oxford_pets(root, 4),
        small_copies.cifar10(root, patch, *drawn(32, 40), list(scenes.CLASSES)),
    ),
    "07_protopnet": lambda root, patch: (
        weights(root, "squeezenet1_0"),
        small_copies.brain_mri(root, 40, 12),
        small_copies.cub_200(root, 5, 10),
    ),
}


@pytest.mark.filterwarnings("ignore::xailab.grad_cam.NoPositiveEvidence")  # a random network may have none
@pytest.mark.parametrize("name", COPIES)
def test_on_small_copies_of_the_data_sets(name, tmp_path, monkeypatch):
    """Every cell of the section runs; what it shows is of random networks, or of ones that have hardly learnt."""
    monkeypatch.setenv("XAILAB_DATA", str(tmp_path))
    COPIES[name](tmp_path, monkeypatch)
    said, texts = run(next(source for source in SOURCES if source.stem == name))
    assert "data_download.py" not in "".join(said)
    assert len(texts) >= len(said), "a cell draws nothing"


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
    (tmp_path / "mvtec_ad" / "hazelnut").mkdir(parents=True)
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
