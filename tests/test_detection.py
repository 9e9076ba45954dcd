import csv
import json
import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from xailab import detection
from xailab.datasets.folders import MVTecAD, Sample
from xailab.detection import Detector, Method, Prepared, drawn, evaluate, published, run, window
from xailab.detection.seen import Seen
from xailab.images import Preprocess
from xailab.metrics import aupro, auroc
from xailab.padim import PaDiM
from xailab.padim.__main__ import PADIM
from xailab.patch_svdd import PatchSVDD

PLAIN = Preprocess(None, None, (0, 0, 0), (1, 1, 1))  # values from 0 to 1, as in the file


class Distance:
    """The distance of each pixel to the mean of the normal pictures: no good detector, and easy to follow."""

    def __init__(self, normal):
        self.mean = torch.stack([sample.image for sample in normal]).mean(0)
        self.threshold = None

    def anomaly_maps(self, images):
        return (images - self.mean).abs().mean(1)

    def save(self, path):
        path.write_bytes(self.mean.numpy().tobytes())


def write_category(folder, *, normal=6, good=2, defects=("cut", "dent"), each=2, size=(24, 32), seed=0, masks=True):
    """A category of noise, with a bright square of 6 x 6 pixels as a defect."""
    generator = np.random.default_rng(seed)

    def write(name, mask=None):
        picture = generator.integers(80, 120, (*size, 3), dtype=np.uint8)
        if mask is not None:
            picture[mask] += 30
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name)

    for i in range(normal):
        write(f"train/good/{i:03}.png")
    for i in range(good):
        write(f"test/good/{i:03}.png")
    for defect in defects:
        for i in range(each):
            mask = np.zeros(size, bool)
            top, left = generator.integers(0, (size[0] - 6, size[1] - 6))
            mask[top : top + 6, left : left + 6] = True
            write(f"test/{defect}/{i:03}.png", mask)
            if masks:
                (folder / "ground_truth" / defect).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(folder / "ground_truth" / defect / f"{i:03}_mask.png")
    return folder


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate(("bolt", "nut")):
        write_category(tmp_path / "data" / name, seed=seed)
    return tmp_path / "data"


def splits(root, category, preprocess=PLAIN):
    return (MVTecAD(root, category, split, preprocess=preprocess) for split in ("train", "test"))


# evaluate


def test_figures_are_those_of_the_metrics(root):
    train, test = splits(root, "nut")
    detector = Distance(train)
    maps = [detector.anomaly_maps(sample.image[None])[0].numpy() for sample in test]
    masks = [sample.mask for sample in test]
    seen = []
    results = evaluate(detector, test, batch=4, each=lambda group, found: seen.append((group.name, found)))
    scores = np.array([map.max() for map in maps])
    assert results.names == test.names and results.scores == tuple(scores.tolist())
    assert results.kinds == ("good", "good", "cut", "cut", "dent", "dent")
    assert results.image_auroc == auroc(test.labels, scores)
    assert results.pixel_auroc == auroc(np.stack(masks), np.stack(maps)) and 0.9 < results.pixel_auroc < 1
    assert results.pro == aupro(masks, maps)
    some = [0, 1, 4, 5]
    assert results.defects["dent"] == {
        "image_auroc": auroc(test.labels[some], scores[some]),
        "pixel_auroc": auroc(np.stack(masks)[some], np.stack(maps)[some]),
    }
    assert list(results.defects) == ["cut", "dent"] and results.reasons == {} and results.unseen == ()
    assert results.image_f1 == 1 and 0 < results.pixel_f1 < 1
    assert [len(names) for names, _ in seen] == [4, 2], "as batches that fit"
    assert np.array_equal(torch.cat([found for _, found in seen]).numpy(), np.stack(maps))


def test_neither_batch_nor_loader_matters(root):
    train, test = splits(root, "bolt")
    detector = Distance(train)
    expected = evaluate(detector, test)
    assert evaluate(detector, test, batch=1) == expected
    assert evaluate(detector, DataLoader(test, 3)) == expected


def test_pictures_of_several_sizes(root):
    big = write_category(root / "big", size=(40, 30))
    samples = [*next(splits(root, "nut")), *MVTecAD(big, None, "test", preprocess=PLAIN)]

    class Mixed(torch.utils.data.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, i):
            return samples[i]

    class Brightness:
        def anomaly_maps(self, images):
            return images.mean(1)

    results = evaluate(Brightness(), Mixed())
    assert len(results.scores) == 12 and results.pixel_auroc > 0.99


def test_without_masks_defects_or_good_pictures(root):
    train, test = splits(root, "nut")
    detector = Distance(train)
    only_good = evaluate(detector, [next(iter(DataLoader(test, 2)))])
    assert only_good.image_auroc is only_good.pixel_auroc is only_good.pro is None
    assert "none is positive" in only_good.reasons["image_auroc"] and "no mask has" in only_good.reasons["pro"]
    only_bad = evaluate(detector, list(DataLoader(test, 2))[1:])
    assert only_bad.image_auroc is None and only_bad.pixel_auroc > 0.9
    assert "none is negative" in only_bad.reasons["image_auroc"] and only_bad.defects["cut"]["pixel_auroc"] > 0.9
    write_category(root / "blind", masks=False)
    blind = evaluate(detector, MVTecAD(root, "blind", "test", preprocess=PLAIN))
    assert blind.image_auroc == 1 and blind.pixel_auroc is blind.pro is blind.pixel_f1 is None
    assert "masks of the defects are unknown" in blind.reasons["pro"] and blind.unseen == ()


def test_what_the_crop_hides_is_named(root):
    for path in sorted((root / "nut/ground_truth/cut").iterdir()):
        mask = np.zeros((24, 32), bool)
        mask[0, 0] = True
        Image.fromarray(mask).save(path)
    train, test = splits(root, "nut", Preprocess(None, 20, (0, 0, 0), (1, 1, 1)))
    assert evaluate(Distance(train), test).unseen == ("test/cut/000", "test/cut/001")


def test_maps_that_cannot_be_measured(root, unchecked):
    _, test = splits(root, "nut")

    class Broken:
        def __init__(self, answer):
            self.anomaly_maps = answer

    with pytest.raises(ValueError, match=r"maps \(6, 12, 16\) for images \(6, 3, 24, 32\)"):
        evaluate(Broken(lambda images: images[:, 0, ::2, ::2]), test)
    with pytest.raises(ValueError, match=r"among test/good/000.* NaN or infinite"):
        evaluate(Broken(lambda images: images[:, 0] / 0), test)
    with pytest.raises(ValueError, match="not preprocessed"):
        evaluate(Broken(lambda images: images[:, 0]), MVTecAD(root, "nut", "test"))
    with pytest.raises(ValueError, match="empty"):
        evaluate(Broken(lambda images: images[:, 0]), [])
    batch = next(iter(DataLoader(test, 6)))
    with pytest.raises(ValueError, match="masks"):
        evaluate(Broken(lambda images: images[:, 0]), [Sample(batch.image, batch.mask[:, 1:], *batch[2:])])


# Others' figures


def test_published_figures_agree_with_their_own_means():
    names = [("PaDiM", "ResNet18-Rd100"), ("PaDiM", "WR50-Rd550"), ("Patch SVDD", "Patch SVDD")]
    for method, name in names:
        for column in published(method, name):
            values = dict(column.categories)
            mean = values.pop("mean")
            assert len(values) == 15 and np.mean(list(values.values())) == pytest.approx(mean, abs=0.0011)
    by_figure = {column.figure: column for column in published("PaDiM", "ResNet18-Rd100")}
    assert list(by_figure) == ["image_auroc", "pixel_auroc", "pro"]
    assert "2011.08785" in by_figure["pixel_auroc"].source and by_figure["pixel_auroc"].categories["hazelnut"] == 0.977
    assert "github.com" in by_figure["image_auroc"].source, "the paper gives no image AUROC by category"
    assert published("PaDiM", "EfficientNet") == ()


# Pictures


@pytest.mark.parametrize("preprocess", [Preprocess(), Preprocess(256, 224), Preprocess(64), Preprocess(None, 30)])
@pytest.mark.parametrize("size", [(60, 60), (50, 90), (301, 133)])
def test_the_window_is_what_the_network_sees(preprocess, size):
    """Of a picture whose pixels say where they are, the frame's corners say what is in the window."""
    top, left, height, width = window(size, preprocess)
    rows, columns = np.indices(size)
    picture = np.stack([rows * 255 / size[0], columns * 255 / size[1], rows * 0], 2).round().astype(np.uint8)
    frame = preprocess.frame(picture)[..., :2] / 255 * size
    seen = [*frame[0, 0], *frame[-1, -1]]
    assert np.abs(np.subtract(seen, [top, left, top + height - 1, left + width - 1])).max() < 2.5
    assert top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]


def test_a_map_is_drawn_where_it_belongs():
    picture = np.full((100, 140, 3), 100, np.uint8)
    values = torch.zeros(40, 40)
    values[5:10, 20:25] = 1
    painted = drawn(picture, values, Preprocess(50, 40), (0, 1))
    assert painted.shape == picture.shape and painted.dtype == np.uint8
    changed = (painted != picture).any(2)
    inside = np.zeros((100, 140), bool)
    inside[10:90, 30:110] = True
    assert (painted[~inside] == 177).all(), "paled where the network did not look"
    rows, columns = np.nonzero(changed & inside)
    assert abs(rows.mean() - (10 + 2 * 7.5 - 0.5)) < 0.6 and abs(columns.mean() - (30 + 2 * 22.5 - 0.5)) < 0.6
    outlined = drawn(picture, values, Preprocess(50, 40), (0, 1), threshold=0.5)
    assert (outlined == 255).all(2).sum() == pytest.approx(4 * 10, abs=8)
    assert (drawn(picture, values, Preprocess(50, 40), (2, 3))[inside] == 100).all(), "scores have one scale"


# The command


def stand_in(fit=None):
    """The command with the simplest of detectors."""

    def prepare(options):
        def fitted(normal, held_out):
            detector = (fit or Distance)(normal)
            if held_out is not None:
                detector.threshold = max(evaluate(detector, held_out).scores)
            return detector

        if options.metric == "worst":
            raise ValueError("no metric 'worst'")
        return Prepared(PLAIN, fitted, "ResNet18-Rd100", f"the distance ({options.metric})")

    def add_options(parser):
        parser.add_argument("--metric", default="best")

    return Method("PaDiM", "xailab.stand_in", add_options, prepare)


def read(path) -> list[dict[str, str]]:
    """The rows of a table."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def command(*arguments, fit=None):
    return run(stand_in(fit), [str(each) for each in arguments])


def test_figures_and_files(root, tmp_path, capsys):
    output = tmp_path / "out"
    assert command(root, "--output", output, "--raw") == 0
    shown = capsys.readouterr().out
    assert "the distance (best)" in shown
    assert ["bolt", "6", "2", "4", "yes", "24", "x", "32", "100%", "cut,", "dent"] in [
        line.split() for line in shown.splitlines()
    ]
    results = {}
    for name in ("bolt", "nut"):
        train, test = splits(root, name)
        results[name] = evaluate(Distance(train), test)
    for name, result in results.items():
        expected = f"{name} {result.image_auroc:.3f} {result.pixel_auroc:.3f} {result.pro:.3f}".split()
        assert expected in [line.split() for line in shown.splitlines()]
        report = json.loads((output / name / "results.json").read_text())
        assert report["figures"]["pixel_auroc"] == result.pixel_auroc and report["defects"] == result.defects
        assert (output / name / "detector.safetensors").stat().st_size == 4 * 3 * 24 * 32
        rows = read(output / name / "scores.csv")
        assert [(row["name"], row["defect"], float(row["score"])) for row in rows] == list(
            zip(result.names, result.kinds, result.scores, strict=True)
        )
        train, test = splits(root, name)
        for sample, score in zip(test, result.scores, strict=True):
            stem = sample.name.removeprefix("test/")
            assert cv2.imread(str(output / name / "maps" / f"{stem}.png")).shape == (24, 32, 3)
            values = np.load(output / name / "raw" / f"{stem}.npy", allow_pickle=False)
            assert np.array_equal(values, Distance(train).anomaly_maps(sample.image[None])[0]) and values.max() == score
    mean = np.mean([result.pixel_auroc for result in results.values()])
    summary = json.loads((output / "results.json").read_text())
    assert summary["mean"]["pixel_auroc"] == pytest.approx(mean) and list(summary["measured"]) == ["bolt", "nut"]
    table = read(output / "results.csv")
    assert [float(row["pro"]) for row in table] == [result.pro for result in results.values()]
    assert "published" not in shown and summary["published"] == [], "no category of MVTec AD"
    assert not list(output.glob(".*"))


def test_published_figures_stand_beside_and_are_marked(root, tmp_path, capsys):
    write_category(root / "hazelnut")
    assert command(root, "--category", "hazelnut") == 0
    assert "published" not in capsys.readouterr().out, "the name alone does not make it MVTec AD"
    (root / "hazelnut/readme.txt").write_text("the MVTec AD dataset")
    assert command(root, "--output", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert rows["hazelnut"][-3:] == ["0.841", "0.977", "0.914"] and rows["nut"][-3:] == ["-", "-", "-"]
    assert "published, not measured here: ResNet18-Rd100 on all of MVTec AD; Defard et al. 2020" in shown
    columns = {name: value for name, value in read(tmp_path / "out/results.csv")[1].items() if "published" in name}
    assert list(columns.values()) == ["0.841", "0.977", "0.914"] and all("Rd100" in name for name in columns)
    summary = json.loads((tmp_path / "out/results.json").read_text())
    assert [each["categories"]["hazelnut"] for each in summary["published"]] == [0.841, 0.977, 0.914]


def test_without_output_nothing_is_written(root, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert command(root / "nut") == 0
    assert sorted(tmp_path.rglob("*")) == before and "nut" in capsys.readouterr().out


def test_only_normal_pictures_are_fitted_and_kept(tmp_path, capsys):
    write_category(tmp_path / "mine/caps", good=0, defects=())
    assert command(tmp_path / "mine", "--output", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert "caps: no test pictures, nothing to measure" in shown
    assert (tmp_path / "out/caps/detector.safetensors").is_file() and not (tmp_path / "out/caps/maps").exists()


def test_unknown_masks_are_said(root, capsys):
    write_category(root / "blind", masks=False)
    assert command(root, "--category", "blind") == 0
    shown = capsys.readouterr().out
    assert "blind: no pixel AUROC, PRO: the masks of the defects are unknown" in shown
    assert ["blind", "1.000", "-", "-"] in [line.split() for line in shown.splitlines()]


def test_all_data_is_looked_at_before_any_fit(root, capsys):
    (root / "bolt/train/good/000.png").write_bytes(b"")
    (root / "nut/ground_truth/cut/000_mask.png").unlink()

    def fit(normal):
        raise AssertionError("too early")

    assert command(root, fit=fit) == 2
    said = capsys.readouterr().err
    assert "000.png: empty (0 bytes)" in said and "no mask, expected" in said


def test_look_looks_only(root, capsys):
    def fit(normal):
        raise AssertionError("not asked for")

    assert command(root, "--look", fit=fit) == 0
    assert "cut, dent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["DATA", "--category", "nail"], "there are bolt, nut"),
        (["DATA", "--metric", "worst"], "no metric 'worst'"),
        (["DATA", "--size", "20", "--crop", "30"], "--crop 30 is larger than --size 20"),
        (["DATA", "--crop", "30"], "smaller than the crop of 30"),
        (["DATA", "--batch", "0"], "0 is not a number from 1"),
        (["DATA", "--calibrate", "2"], "2 is not a share between 0 and 1"),
        (["DATA", "--calibrate", "0.1"], "takes 9 normal pictures that are not fitted"),
        (["DATA", "--device", "abacus"], "--device abacus"),
        (["DATA", "--output", "DATA"], "lies in the data"),
        (["DATA", "--output", "DATA/nut"], "lies in the data"),
        (["DATA/nut", "--output", "DATA"], "lies in the data"),
        ([], "required: data"),
    ],
)
def test_mistakes_are_said_in_a_sentence(root, arguments, message, capsys):
    assert command(*(each.replace("DATA", str(root)) for each in arguments)) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_one_size_for_all_pictures_of_a_category(root, capsys):
    Image.new("RGB", (50, 40)).save(root / "nut/test/good/other.png")
    assert command(root) == 2
    assert "pictures of 2 sizes: 24 x 32 (from 24 x 32), 40 x 50 (from 40 x 50); give --size and --crop" in (
        capsys.readouterr().err
    )
    assert command(root, "--size", "24", "--crop", "20") == 0


def test_the_threshold_comes_from_pictures_that_were_not_fitted(tmp_path, capsys):
    write_category(tmp_path / "nut", normal=50)
    fitted = []

    def fit(normal):
        fitted.append([sample.name for sample in normal])
        return Distance(normal)

    assert command(tmp_path / "nut", "--calibrate", "0.1", "--output", tmp_path / "out", fit=fit) == 0
    report = json.loads((tmp_path / "out/nut/results.json").read_text())
    assert len(fitted[0]) == len(set(fitted[0])) == report["normal"] == 40
    assert "4 of 4 defective and" in capsys.readouterr().out
    rows = read(tmp_path / "out/nut/scores.csv")
    assert all(int(row["anomalous"]) == (float(row["score"]) > report["threshold"]) for row in rows)


def test_copies_of_a_picture_are_fitted_and_set_no_threshold(tmp_path, capsys):
    good = write_category(tmp_path / "nut", normal=50) / "train/good"
    for i in range(8):
        (good / f"copy{i}.png").write_bytes((good / f"{i:03}.png").read_bytes())
    fitted = []

    def fit(normal):
        fitted.append({sample.name for sample in normal})
        return Distance(normal)

    assert command(tmp_path / "nut", "--calibrate", "0.1", fit=fit) == 0
    for i in range(8):
        assert {f"train/good/{i:03}", f"train/good/copy{i}"} <= fitted[0]
    for path in good.glob("*.png"):
        path.write_bytes((good / "000.png").read_bytes())
    assert command(tmp_path / "nut", "--calibrate", "0.1", fit=interrupted_at(0)) == 2  # said before anything is fitted
    assert "only 0 of 58 have no copy among the others" in capsys.readouterr().err


def interrupted_at(count):
    """Fits so many categories, then somebody presses Ctrl-C."""
    left = [count]

    def fit(normal):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return Distance(normal)

    return fit


def test_interrupted_it_leaves_whole_folders_and_goes_on(root, tmp_path, capsys):
    output = tmp_path / "out"
    assert command(root, "--output", output, fit=interrupted_at(1)) == 130
    shown = capsys.readouterr()
    assert "interrupted, bolt done; the same command goes on from there" in shown.err and "bolt" in shown.out
    assert sorted(path.name for path in output.iterdir()) == ["bolt", "results.csv", "results.json"]
    first = (output / "bolt/results.json").stat().st_mtime_ns
    assert command(root, "--output", output) == 0
    shown = capsys.readouterr()
    assert "bolt: done before" in shown.err and (output / "bolt/results.json").stat().st_mtime_ns == first
    assert list(json.loads((output / "results.json").read_text())["measured"]) == ["bolt", "nut"]
    whole = tmp_path / "whole"
    assert command(root, "--output", whole) == 0
    assert (whole / "results.csv").read_bytes() == (output / "results.csv").read_bytes()


@pytest.mark.parametrize("moment", ["while it writes", "between the old folder and the new"])
def test_interrupted_it_keeps_the_older_folder(root, tmp_path, monkeypatch, capsys, moment):
    output = tmp_path / "out"
    assert command(root, "--output", output, "--category", "bolt") == 0
    before = {path: path.read_bytes() for path in (output / "bolt").rglob("*") if path.is_file()}

    def stop(*arguments):
        raise KeyboardInterrupt

    def replace(source, target):
        if source.name == ".bolt.partial":
            raise KeyboardInterrupt
        rename(source, target)

    rename = os.replace
    with monkeypatch.context() as patch:
        if moment == "while it writes":
            patch.setattr(detection.report, "_write_scores", stop)
        else:
            patch.setattr(os, "replace", replace)
        assert command(root, "--output", output, "--force", "--metric", "other") == 130
    assert "no category was done" in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ["bolt", "results.csv", "results.json"]
    assert {path: path.read_bytes() for path in (output / "bolt").rglob("*") if path.is_file()} == before


def test_results_of_other_settings_are_not_mixed(root, tmp_path, capsys):
    output = tmp_path / "out"
    assert command(root, "--output", output, "--category", "bolt") == 0
    assert command(root, "--output", output, "--metric", "other") == 2
    assert "holds results of other settings (metric was best and is other)" in capsys.readouterr().err
    assert command(root, "--output", output, "--category", "nut", "--batch", "3") == 0, "a batch is no setting"
    assert list(json.loads((output / "results.json").read_text())["measured"]) == ["bolt", "nut"]
    assert command(root, "--output", output, "--metric", "other", "--force") == 0
    assert json.loads((output / "nut/results.json").read_text())["settings"]["metric"] == "other"
    Image.new("RGB", (32, 24)).save(root / "nut/train/good/more.png")
    assert command(root, "--output", output, "--metric", "other") == 2
    assert "results of other pictures" in capsys.readouterr().err
    (output / "bolt/results.json").write_text("{}")
    assert command(root, "--output", output, "--force") == 2
    assert "not from this command" in capsys.readouterr().err


def test_a_failure_in_between_keeps_what_was_done(root, capsys):
    def fit(normal):
        if "nut" in str(normal.folder):
            raise ValueError("the second one fails")
        return Distance(normal)

    assert command(root, fit=fit) == 2
    shown = capsys.readouterr()
    assert "the second one fails" in shown.err and "bolt  " in shown.out.split("what the crop leaves")[1]


# PaDiM's command


def padim(capsys, *arguments):
    return run(PADIM, [str(each) for each in arguments]), capsys.readouterr()


def test_padim_from_folder_to_figures(root, tmp_path, capsys):
    from xailab.models import zoo
    from xailab.padim import PaDiM

    for category in ("bolt", "nut"):
        for path in (root / category).rglob("*.png"):
            image = Image.open(path)
            image.resize((80, 60), Image.Resampling.NEAREST).save(path)
    output = tmp_path / "out"
    code, shown = padim(capsys, root, "--output", output, "--dimensions", "20", "--size", "60", "--seed", "3")
    assert code == 0, shown.err
    assert "PaDiM: scenes_resnet, layer1, layer2, layer3, 20 channels (random)" in shown.out
    network = zoo.load("scenes_resnet")
    detector = PaDiM.load(output / "nut/detector.safetensors", network)
    test = MVTecAD(root, "nut", "test", preprocess=Preprocess(60, None, (0.5,) * 3, (0.25,) * 3))
    measured = json.loads((output / "results.json").read_text())["measured"]["nut"]
    assert measured["pixel_auroc"] == pytest.approx(evaluate(detector, test).pixel_auroc, abs=1e-6)
    assert measured["image_auroc"] > 0.9 and measured["pixel_auroc"] > 0.8
    code, shown = padim(capsys, root, "--output", output, "--dimensions", "20", "--size", "60", "--seed", "4")
    assert code == 2 and "seed was 3 and is 4" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dimensions", "many"], "expected a number from 1, or all"),
        (["--dimensions", "0"], "expected a number from 1, or all"),
        (["--layers", "layer9"], "layer9"),
        (["--backbone", "resnet1"], "no network 'resnet1'"),
        (["--backbone", "mobilenet_v3_small", "--weights", "random"], "--layers"),
        (["--backbone", "resnet18", "--weights", "nowhere.pth"], "no weights at nowhere.pth"),
        (["--epsilon", "0"], "epsilon"),
    ],
)
def test_padims_options_are_checked_first(root, arguments, message, capsys):
    code, shown = padim(capsys, root, *arguments)
    assert code == 2 and message in shown.err and "Traceback" not in shown.err


@pytest.mark.real
def test_padim_on_the_real_hazelnuts(real_data, tmp_path, capsys):
    weights = real_data / "weights" / "squeezenet1_0_imagenet.safetensors"
    options = ("--backbone", "squeezenet1_0", "--weights", weights, "--output", tmp_path / "out")
    code, shown = padim(capsys, real_data / "mvtec_ad", *options)
    assert code == 0, shown.err
    assert "published, not measured here" in shown.out and "0.977" in shown.out
    measured = json.loads((tmp_path / "out/results.json").read_text())["measured"]["hazelnut"]
    assert measured["pixel_auroc"] >= 0.98 and measured["image_auroc"] >= 0.9


def test_pictures_are_known_again_and_others_are_not():
    """What rounding makes of a picture is that picture; noise of two levels of 255, or a small change, another."""
    generator = torch.Generator().manual_seed(0)
    some = torch.rand(5, 3, 80, 100, generator=generator)
    seen = Seen()
    seen.add(some[:2])
    seen.add(some[2:4].double())
    assert seen.among(some).tolist() == [True] * 4 + [False] and len(seen) == 4
    for again in (some.half(), some.bfloat16(), (some * 255).round() / 255, some.to(memory_format=torch.channels_last)):
        assert seen.among(again).tolist() == [True] * 4 + [False]
    changed = some.clone()
    changed[..., 40:46, 50:56] += 0.2  # of 6 x 6 pixels
    noisy = some + 2 / 255 * torch.randn(some.shape, generator=generator)
    for other in (changed, noisy, some.flip(-1), some.roll(1, -1), some + 0.05, 1 - some):
        assert not seen.among(other).any()
    assert not seen.among(some[..., :9]).any() and not Seen().among(some).any()
    tiny, huge = torch.rand(2, 1, 2, 3, generator=generator), 1e6 * torch.rand(2, 1, 90, 90, generator=generator)
    for images in (tiny, huge, torch.zeros(2, 1, 20, 20)):
        seen = Seen()
        with torch.inference_mode():
            seen.add(images)
        assert seen.among(images).all()


def test_an_outline_is_around_what_lies_above_the_threshold():
    """As detectors call pictures: a value that equals the threshold lies not above it."""
    picture, flat = np.full((32, 32, 3), 100, np.uint8), torch.full((32, 32), 0.5)
    options = {"preprocess": Preprocess(), "scale": (0.0, 1.0)}
    plain = drawn(picture, flat, **options)
    assert np.array_equal(drawn(picture, flat, threshold=0.5, **options), plain)
    assert not np.array_equal(drawn(picture, flat, threshold=0.49, **options), plain)


def test_every_detector_of_the_library_gives_maps_as_evaluate_wants_them():
    """Of images (n, 3, h, w), one tensor (n, h, w)."""
    images = torch.rand(3, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, padding=1))
    for detector in (
        PatchSVDD(8, strides=(32, 64)).fill_memory_bank(images, progress=False),
        PaDiM(network, "0", None).fit([images], progress=False),
    ):
        assert isinstance(detector, Detector)
        found = detector.anomaly_maps(images)
        assert isinstance(found, torch.Tensor) and found.shape == (3, 64, 80)
        samples = [Sample(x, np.zeros((64, 80), bool), "good", str(i)) for i, x in enumerate(images)]
        assert evaluate(detector, [default_collate(samples)]).scores == pytest.approx(found.amax((1, 2)).tolist())


def test_maps_that_are_no_tensor_are_refused():
    class Several:
        def anomaly_maps(self, images):
            return images[:, 0], images[:, 1]

    sample = Sample(torch.rand(3, 8, 8), np.zeros((8, 8), bool), "good", "a")
    with pytest.raises(TypeError, match="gives a tuple, expected one tensor"):
        evaluate(Several(), [default_collate([sample])])
