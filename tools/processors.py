"""Run the tests that are sensitive to the processor as other processors would (`make processors`).

    python tools/processors.py                       the selection below, under each setting
    python tools/processors.py tests/test_cam.py     other tests; pytest's options may be given, too

Environment variables send torch, oneDNN and MKL down the code paths that they take on other machines: the same sums in
another order, so that last bits differ. What the course prints, draws, claims and tests has to hold for all of them.
Where a variable does not apply (another kind of processor, a torch without MKL) it changes nothing.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "no vector units, MKL as on any processor": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
    "convolutions with SSE 4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "AVX2"},
    "convolutions with AVX2, nothing else": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL as on any processor": {"MKL_CBWR": "COMPATIBLE"},
}
SELECTION = (
    "notebooks/05_saliency.ipynb",  # long climbs on pixels, graph cuts
    "notebooks/06_feature_maps.ipynb",  # thirteen convolutions, two ways
    "notebooks/09_patch_svdd.ipynb",  # nearest neighbours that are almost as near as others
    "tests/test_images.py",  # what is rounded to bytes
    "tests/test_padim.py",  # Cholesky factors, files
    "tests/test_patch_svdd_detector.py",  # distances that have to be 0
    "tests/test_patch_svdd_scoring.py",
    "tests/test_storage.py",
)


def main(arguments: list[str]) -> int:
    """Run pytest under each setting; return 1 if one of them failed."""
    named = any((ROOT / each.partition("::")[0]).exists() for each in arguments)
    failed = []
    for name, setting in SETTINGS.items():
        print(f"== {name}: {' '.join(f'{key}={value}' for key, value in setting.items())}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "--dist", "loadfile", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | setting
        if subprocess.run([*command, *(() if named else SELECTION)], cwd=ROOT, env=environment).returncode:
            failed.append(name)
    print(f"failed: {'; '.join(failed)}" if failed else f"all {len(SETTINGS)} settings passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
