"""Print the path of a uv binary, fetching it from the package index when the machine has none.

Needs nothing but the standard library: no pip, no venv, no ensurepip. The wheel is checked
against the digest the index publishes for it.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

VERSION = "0.13.8"
HOME = Path(__file__).resolve().parent.parent / ".tools"


def index_url() -> str:
    """The package index to ask: uv's or pip's setting, else the public one."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    return "https://pypi.org/simple"


def platform_tag() -> str:
    """The tail of the wheel name that fits this machine."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform == "darwin":
        return "arm64.whl" if machine == "aarch64" else "x86_64.whl"
    if sys.platform == "win32":
        return "win_amd64.whl"
    libc = (
        "musllinux" if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "") else "manylinux"
    )
    return f"{libc}:{machine}.whl"


def matches(filename: str) -> bool:
    """Whether this wheel is the pinned version for this machine."""
    libc, _, tail = platform_tag().rpartition(":")
    return filename.startswith(f"uv-{VERSION}-") and filename.endswith(tail) and libc in filename


def fetch() -> Path:
    """Download, verify and unpack uv into .tools/."""
    page = f"{index_url()}/uv/"
    with urllib.request.urlopen(page, timeout=60) as reply:
        # Every index serves the HTML page of PEP 503; not every one serves JSON.
        links = re.findall(r'href="([^"]+?\.whl)#sha256=([0-9a-f]{64})"', reply.read().decode())
    wheels = [(url, digest) for url, digest in links if matches(url.rsplit("/", 1)[-1])]
    if not wheels:
        sys.exit(f"no uv {VERSION} wheel for this machine; install uv by hand and run make again")
    url, digest = wheels[0]
    with urllib.request.urlopen(urllib.parse.urljoin(page, url), timeout=180) as reply:
        data = reply.read()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit("the downloaded uv does not match the digest of the index; try again")
    HOME.mkdir(exist_ok=True)
    target = HOME / "uv"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/scripts/uv"))
        target.write_bytes(archive.read(name))
    target.chmod(0o755)
    return target


def runs(binary: str) -> bool:
    """Whether the binary is for this machine, and of the version that the Makefile is for."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True)
    except OSError:
        return False
    return said.stdout.split()[1:2] == [VERSION]


def main() -> None:
    """Use uv from .tools/, else the one on the PATH if it is the right one, else fetch it."""
    own, found = HOME / "uv", shutil.which("uv")
    for candidate in (str(own), found):
        if candidate and Path(candidate).exists() and runs(candidate):
            print(candidate)
            return
    print(fetch())


if __name__ == "__main__":
    main()
