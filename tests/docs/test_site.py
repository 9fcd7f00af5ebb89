"""The site: every public name has an entry in the reference, and every relative link leads somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest

import pluralign as pl
from doc_blocks import ROOT

# Their sub-modules have entries of their own, and nothing else is public there.
ONLY_SUBMODULES = {"integrations"}


def parts() -> list[str]:
    """Public sub-packages and modules."""
    return [name for name in pl.__all__ if isinstance(getattr(pl, name), ModuleType)]


def public_names() -> set[str]:
    """Full names of all that `__all__` lists, here and in the parts."""
    names = {f"pluralign.{name}" for name in pl.__all__ if name not in parts() and name != "__version__"}
    for part in sorted(set(parts()) - ONLY_SUBMODULES):
        module = importlib.import_module(f"pluralign.{part}")
        names |= {f"pluralign.{part}.{name}" for name in getattr(module, "__all__", ())}
    return names


def inventory(site: Path) -> set[str]:
    """Names in the inventory that the site offers to others."""
    data = (site / "objects.inv").read_bytes()
    body = data.split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(body).decode().splitlines()}


@pytest.mark.slow
def test_site_builds_strictly_with_every_public_name(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed; `make` installs it")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    held = inventory(tmp_path / "site")
    # A function that is named as its file, such as `backbones.load`, stands under the file's name.
    assert {n for n in public_names() if not {n, n + n[n.rindex(".") :]} & held} == set()


def test_every_part_has_a_page_in_the_reference():
    for part in parts():
        page = ROOT / "docs" / "reference" / f"{part}.md"
        assert f"::: pluralign.{part}" in page.read_text(encoding="utf-8"), part


def test_the_reference_lists_the_names_of_the_package():
    index = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    for name in pl.__all__:
        assert f"`pl.{name}`" in index, name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page):
    """Those of the site are checked where it is built."""
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page} links to {link}"


def slug(heading: str) -> str:
    """What GitHub and mkdocs make of a heading without markup."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-")


def test_files_that_pages_name_exist():
    named = re.compile(r"`((?:src|tests|studies|examples|docs|benchmarks)/[\w./-]*[\w/])`")
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for path in named.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{page.relative_to(ROOT)} names {path}"
