"""Builds the layer: our package, and what it uses of its pinned dependencies, compiled.

    python3.13 build.py PROCESSOR FOLDER

`sam build` calls it through the Makefile of the processor. Whatever machine builds, the wheels are those of the
processor that is asked for, and pip checks their hashes.

Lambda can keep nothing that it compiles: without bytecode in the layer every cold start compiles all that it imports.
The bytecode is that of "unchecked hash", because the zip of `sam deploy` gives all files one date, and Python rejects
bytecode whose date is not that of its source.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
WHEELS = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}
"""Processor → platform of its wheels, as pip names it."""

KEPT = (
    "aws_lambda_powertools/*",
    "aws_lambda_powertools/exceptions/*",
    "aws_lambda_powertools/logging/**/*",
    "aws_lambda_powertools/metrics/**/*",
    "aws_lambda_powertools/shared/*",
    "aws_lambda_powertools/tracing/*",
    "aws_lambda_powertools/utilities/*",
    "aws_lambda_powertools/utilities/jmespath_utils/*",
    "aws_lambda_powertools/utilities/parameters/*",
    "aws_lambda_powertools/utilities/typing/*",
    "aws_lambda_powertools/warnings/*",
    "certifi/*",
    "dateutil/*",
    "dateutil/parser/*",
    "dateutil/tz/*",
    "hubspot/*",
    "hubspot/crm/*",
    "hubspot/crm/objects/*",
    "hubspot/crm/objects/api/*",
    "hubspot/crm/objects/models/*",
    "hubspot/crm/owners/**/*",
    "jmespath/*",
    "msgspec/*",
    "six.py",
    "tenacity/*",
    "tenacity/asyncio/*",
    "typing_extensions.py",
    "tzdata/**/*",
    "urllib3/*",
    "urllib3/contrib/__init__.py",
    "urllib3/http2/__init__.py",
    "urllib3/http2/probe.py",
    "urllib3/util/*",
)
"""What is taken of the dependencies.

dateutil, jmespath, six and urllib3 are also in Lambda's runtime, which is renewed without us. Ours are kept all the
same, so that what talks to HubSpot is what was tested; compiled, they cost no time. boto3 is left to the runtime.
requests and what it needs serve only a part of HubSpot's client that is not here.
"""
LEFT_OUT = {
    "certifi/__main__.py",
    "dateutil/tz/win.py",
    "dateutil/tzwin.py",
    "tenacity/tornadoweb.py",
}
"""What is for a command, for Windows or for packages that are not here: `make smoke` imports all else."""


def build(processor: str, folder: Path) -> None:
    """Fill a folder, which becomes /opt/python."""
    with TemporaryDirectory() as whole:
        install(processor, Path(whole))
        take(Path(whole), folder)
    shutil.copytree(HERE / "fairturn", folder / "fairturn", ignore=shutil.ignore_patterns("__pycache__"))
    compiled = compileall.compile_dir(
        folder,
        quiet=1,
        stripdir=str(folder),
        prependdir="/opt/python",
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        sys.exit("not everything can be compiled")


def install(processor: str, folder: Path) -> None:
    """Unpack the wheels that are pinned."""
    wanted = ["--platform", WHEELS[processor], "--python-version", "3.13", "--implementation", "cp"]
    safely = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-compile"]
    quietly = ["--quiet", "--disable-pip-version-check"]
    subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "pip", "install", *quietly, *safely, *wanted),
            *("--target", str(folder), "--requirement", str(HERE / "requirements.txt")),
        ],
        check=True,
    )


def take(whole: Path, folder: Path) -> None:
    """Copy what is kept. A pattern that finds nothing is a mistake: a dependency has moved it."""
    for pattern in KEPT:
        names = {str(path.relative_to(whole)) for path in whole.glob(pattern) if path.is_file()}
        if not names:
            sys.exit(f"no dependency has {pattern}")
        for name in names - LEFT_OUT:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(whole / name, folder / name)


if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]))
