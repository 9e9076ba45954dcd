"""What there is to download, where it comes from, and what is known of it.

Sizes and hashes are exact where they are published: by torchvision (MD5; the first eight digits of a SHA-256 in the
names of its weights), TensorFlow Datasets (SHA-256, sizes), Keras (CIFAR-10) and anomalib (MVTec AD). "About" marks the
rest; the hash of a file without one is recorded at its first download here, and checked later.
"""

import re
from dataclasses import dataclass
from functools import cache

from .fetching import File

MIB = 1 << 20
WEIGHTS = {  # torchvision's names, and the lessons whose sections "On real data" take them
    "squeezenet1_0": ("00", "01", "02", "03", "04", "05", "06", "07", "08"),
    "resnet18": ("00", "01", "02", "03", "07", "08"),
    "resnet50": ("00", "01", "02", "03"),
    "wide_resnet50_2": ("01", "08"),
    "vgg16": ("01", "03", "04", "05", "06"),
    "efficientnet_b5": ("01", "08"),
}
SHARE = "https://www.mydrive.ch/shares"  # MVTec's; its addresses change, and the former ones are kept as mirrors
OLD_SHARE = f"{SHARE}/38536/3830184030e49fe74747669442f0f282/download"
MVTEC = {  # category: share now, file then and now, MiB
    "bottle": ("150452/132a93367fb17cdf968dfb5c4013f6e7", 420937370, 1629951468, 1629958698, 148),
    "cable": ("150453/10f960e07fec2838b2cd512586633a32", 420937413, 1629951498, 1629958794, 481),
    "capsule": ("150454/e0ce6dd74eb150f46c0d98131b3703f2", 420937454, 1629951595, 1629958872, 385),
    "carpet": ("150455/eac7fbce84d93a5094e13f391170eca4", 420937484, 1629951672, 1629959013, 705),
    "grid": ("150456/bb0b2e3dc804ccb8b4485e01f8e4493b", 420937487, 1629951814, 1629959044, 153),
    "hazelnut": ("150457/51d49f65e84bdc100ff8035d7dd783ea", 420937545, 1629951845, 1629959162, 588),
    "leather": ("150458/923030ce14e10a7d147e95d0f8885f6b", 420937607, 1629951964, 1629959262, 500),
    "metal_nut": ("150459/c68856a21dca589b0f8ff6d4ee0f18f4", 420937637, 1629952063, 1629959294, 157),
    "pill": ("150460/d4f1c04da67034ccc8d8b5fa3e73f244", 420938129, 1629953099, 1629960351, 262),
    "screw": ("150461/242f454cc6385e5693c4fd4b94567d1e", 420938130, 1629953152, 1629960389, 186),
    "tile": ("150462/5479f0fdc97bc6fa16eab0cb0cf0109f", 420938133, 1629953189, 1629960456, 335),
    "toothbrush": ("150463/895a1a5fb84b958f07417784b060434b", 420938134, 1629953256, 1629960477, 104),
    "transistor": ("150464/99b8ea0332438d64fcc2475ee73f9c29", 420938166, 1629953277, 1629960554, 384),
    "wood": ("150465/d5b4115b720cdb54d217e75636e6e374", 420938383, 1629953354, 1629960649, 474),
    "zipper": ("150466/bd155b557520edaf692d9bfdb915c24a", 420938385, 1629953449, 1629960680, 152),
}
MVTEC_PAGE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
MVTEC_TERMS = (
    "MVTec AD is licensed under CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/): name its "
    "authors, use it for nothing commercial (ask MVTec if in doubt), and share what you make of it under this licence"
)
CUB_TERMS = (
    "The pictures of CUB-200-2011 belong to their photographers; Caltech gives them for non-commercial research and "
    "education only"
)


@dataclass(frozen=True)
class Entry:
    """Something to download.

    Attributes:
        name: As the command knows it.
        title: What it is.
        lessons: Whom it serves, as two digits.
        licence: In short.
        page: Where to read about it.
        files: What is fetched.
        places: What is made of it, as folders (or the one file) below the root of the data.
        into: The folder below the root where the archives unpack to.
        terms: What must be accepted first, in words; None if nothing.
        small: Whether ``--lesson`` gets it; a smaller part serves as well where not.
        hint: What to do when it cannot be got.
    """

    name: str
    title: str
    lessons: tuple[str, ...]
    licence: str
    page: str
    files: tuple[File, ...]
    places: tuple[str, ...]
    into: str = "."
    terms: str | None = None
    small: bool = True
    hint: str | None = None

    @property
    def size(self) -> int | None:
        """Bytes to download, None if that is not known of some file."""
        sizes = [file.expected for file in self.files]
        return None if None in sizes else sum(sizes)

    @property
    def exact(self) -> bool:
        """Whether the size is known to the byte."""
        return all(file.size is not None for file in self.files)


@cache
def entries() -> dict[str, Entry]:
    """All that can be downloaded, by name."""
    all_of_it = [*map(_weights, WEIGHTS), *_datasets(), _mvtec(), *map(_mvtec_category, MVTEC)]
    return {entry.name: entry for entry in all_of_it}


def _weights(name: str) -> Entry:
    from torchvision import models

    published = models.get_model_weights(name)["IMAGENET1K_V1"]
    file = published.url.rsplit("/", 1)[-1]
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", file)[1]
    about = round(published.meta["_file_size"] * MIB)
    return Entry(
        f"weights/{name}",
        f"ImageNet weights of {name}",
        WEIGHTS[name],
        "BSD-3 (torchvision); ImageNet: research",
        "https://pytorch.org/vision/stable/models.html",
        (File(file, (published.url,), about=about, sha256=digits),),
        (f"weights/{name}.safetensors",),
    )


def _datasets() -> list[Entry]:
    from torchvision.datasets import CIFAR10, STL10, OxfordIIITPet

    (images, images_md5), (annotations, annotations_md5) = OxfordIIITPet._RESOURCES
    stl10 = File(
        STL10.filename,
        (STL10.url,),
        2640397119,
        sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        md5=STL10.tgz_md5,
    )
    cifar10 = File(
        CIFAR10.filename,
        (CIFAR10.url,),
        170498071,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        md5=CIFAR10.tgz_md5,
    )
    pets = (
        File(
            "oxford-iiit-pet-images.tar.gz",
            (images,),
            791918971,
            sha256="67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            md5=images_md5,
        ),
        File(
            "oxford-iiit-pet-annotations.tar.gz",
            (annotations,),
            19173078,
            sha256="52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            md5=annotations_md5,
        ),
    )
    cub = File(
        "CUB_200_2011.tgz",
        ("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",),
        1150585339,
        sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    )
    brain = File(
        "brain-tumor.zip",
        (
            "https://github.com/ultralytics/assets/releases/download/v0.0.0/brain-tumor.zip",
            "https://ultralytics.com/assets/brain-tumor.zip",
        ),
        about=4_200_000,
    )
    return [
        Entry(
            "stl10",
            "STL-10: 96 x 96 photographs of ten classes",
            ("02",),
            "none stated; from ImageNet",
            "https://cs.stanford.edu/~acoates/stl10/",
            (stl10,),
            (STL10.base_folder,),
        ),
        Entry(
            "oxford-pets",
            "Oxford-IIIT Pet: cats and dogs with their outlines",
            ("02", "03", "05"),
            "CC BY-SA 4.0",
            "https://www.robots.ox.ac.uk/~vgg/data/pets/",
            pets,
            ("oxford-iiit-pet",),
            into="oxford-iiit-pet",
        ),
        Entry(
            "cifar10",
            "CIFAR-10: 32 x 32 photographs of ten classes",
            ("05",),
            "none stated",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            (cifar10,),
            (CIFAR10.base_folder,),
        ),
        Entry(
            "cub-200",
            "CUB-200-2011: birds of 200 kinds with boxes",
            ("07",),
            "research and education only",
            "https://www.vision.caltech.edu/datasets/cub_200_2011/",
            (cub,),
            ("CUB_200_2011",),
            terms=CUB_TERMS,
        ),
        Entry(
            "brain-mri",
            "Brain MRI with and without a tumour, with boxes",
            ("07",),
            "AGPL-3.0",
            "https://docs.ultralytics.com/datasets/detect/brain-tumor/",
            (brain,),
            ("brain_mri",),
            into="brain_mri",
        ),
    ]


def _mvtec() -> Entry:
    file = File(
        "mvtec_anomaly_detection.tar.xz",
        (
            f"{SHARE}/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
            "mvtec_anomaly_detection.tar.xz",
            f"{OLD_SHARE}/420938113-1629952094/mvtec_anomaly_detection.tar.xz",
        ),
        5264982680,
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    )
    return Entry(
        "mvtec-ad",
        "MVTec AD: fifteen products, normal and defective",
        ("08", "09"),
        "CC BY-NC-SA 4.0",
        MVTEC_PAGE,
        (file,),
        tuple(f"mvtec_ad/{category}" for category in MVTEC),
        into="mvtec_ad",
        terms=MVTEC_TERMS,
        small=False,
        hint=f"MVTec moves its files now and then. Unpack the archive of {MVTEC_PAGE} into mvtec_ad/ yourself.",
    )


def _mvtec_category(category: str) -> Entry:
    share, number, then, now, mebibytes = MVTEC[category]
    urls = (
        f"{SHARE}/{share}/download/{number}-{now}/{category}.tar.xz",
        f"{OLD_SHARE}/{number}-{then}/{category}.tar.xz",
    )
    return Entry(
        f"mvtec-ad/{category}",
        f"MVTec AD: {category.replace('_', ' ')} alone",
        ("08", "09"),
        "CC BY-NC-SA 4.0",
        MVTEC_PAGE,
        (File(f"{category}.tar.xz", urls, about=mebibytes * MIB),),
        (f"mvtec_ad/{category}",),
        into="mvtec_ad",
        terms=MVTEC_TERMS,
        small=category == "hazelnut",
        hint=f"MVTec moves its files now and then. All categories together, mvtec-ad, may be there still; or unpack "
        f"the archive of {MVTEC_PAGE} into mvtec_ad/ yourself.",
    )
