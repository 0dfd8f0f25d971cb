"""Build the wheel and the source distribution, and check them as a user meets them.

    python tests/packaging/dist.py [--release TAG] [--quick]

It builds twice, from two copies of the tracked files, and compares the bytes. It then checks contents
and metadata, installs the wheel into an empty virtual environment with the newest dependencies, runs
``gradquake reproduce --quick`` there, and runs fast tests of the source distribution against the wheel.
``--quick`` ends before the installation. ``--release`` also checks that everything is ready to be
published as this tag. The result lies in dist/.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MARK = "TO BE FILLED BY THE OWNER"
FAST_TESTS = [
    "packaging", "avalanche/test_probe.py", "study/test_recording.py", "test_face.py",
    "test_imports.py", "test_public.py",
]  # fmt: skip


def fail(sentence):
    sys.exit(f"dist: {sentence}")


def run(*command, **options):
    """Run a command; end with its output if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        fail(f"{' '.join(map(str, command))} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def tracked(tree=ROOT):
    """The files that git tracks, relative to the root."""
    return run("git", "ls-files", "-z", cwd=tree).split("\0")[:-1]


def build(files, folder, epoch):
    """Build from a copy of the files; return the paths of the sdist and the wheel."""
    copy, made = folder / "tree", folder / "dist"
    for file in files:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy / file)
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", made, copy, env=environment)
    (sdist,), (wheel,) = made.glob("*.tar.gz"), made.glob("*.whl")
    return sdist, wheel


def build_twice(folder):
    """Build under two umasks in two folders; return the first pair if both are equal."""
    epoch = run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()
    files, pairs = tracked(), []
    before = os.umask(0o022)
    for name, mask in (("first", 0o022), ("the second", 0o077)):
        os.umask(mask)
        pairs.append(build(files, folder / name, epoch))
    os.umask(before)
    for one, other in zip(*pairs, strict=True):
        if one.name != other.name or one.read_bytes() != other.read_bytes():
            fail(f"{one.name} is not reproducible: two builds from the same files differ")
    return pairs[0]


def difference(found, wanted, place):
    """Fail if two sets of names differ."""
    if found != wanted:
        fail(f"{place} lacks {sorted(wanted - found)} and has too much {sorted(found - wanted)}")


def check_contents(sdist, wheel):
    """The wheel is the package and its metadata; the sdist is what is tracked and can be tested."""
    package = {file.removeprefix("src/") for file in tracked() if file.startswith("src/")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"gradquake-{version()}.dist-info"
    licenses = {f"{info}/licenses/LICENSE"}
    metadata = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    difference(names, package | metadata | licenses, wheel.name)
    if "gradquake/py.typed" not in names:
        fail("the wheel has no gradquake/py.typed, so type checkers ignore its types")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    difference(names, {*tracked(), "PKG-INFO"}, sdist.name)


def check_forms():
    """GitHub and programs that read citations understand the files that are meant for them."""
    checked = {
        "vendor.github-workflows": (ROOT / ".github/workflows").glob("*.yml"),
        "vendor.github-issue-forms": set((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
        - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"},
        "vendor.github-issue-config": [ROOT / ".github/ISSUE_TEMPLATE/config.yml"],
        "vendor.citation-file-format": [ROOT / "CITATION.cff"],
    }
    for schema, files in checked.items():
        run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files)


def version():
    """The version, from its one place."""
    text = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text("utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.M)[1]


def metadata(wheel):
    """The metadata of a wheel as an e-mail message. Its body is the description."""
    with zipfile.ZipFile(wheel) as archive:
        return BytesParser().parsebytes(archive.read(f"gradquake-{version()}.dist-info/METADATA"))


def description(message):
    """The description in the metadata."""
    return message.get_payload(decode=True).decode("utf-8").strip()


def check_metadata(sdist, wheel):
    """What an index shows is complete, and renders."""
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    found = metadata(wheel)
    wanted = {
        "Version": version(),
        "Summary": PROJECT["project"]["description"],
        "License-Expression": PROJECT["project"]["license"],
        "Requires-Python": PROJECT["project"]["requires-python"],
        "Description-Content-Type": "text/markdown",
    }
    for field, value in wanted.items():
        if found[field] != value:
            fail(f"the metadata of the wheel say {field}: {found[field]}, not {value}")
    if description(found) != (ROOT / "README.md").read_text("utf-8").strip():
        fail("the description of the wheel is not README.md")


def marked(files):
    """Those of the files in which something is left to the owner; docs/release.md lists them."""
    texts = {name: (ROOT / name).read_bytes() for name in files}
    return sorted(name for name, text in texts.items() if MARK.encode() in text)


def check_release(tag, wheel):
    """Whatever a person has to do before a tag is pushed is done."""
    if changed := run("git", "status", "--porcelain", "--untracked-files=no", cwd=ROOT).strip():
        fail(f"the working tree differs from the last commit; commit or stash first:\n{changed}")
    if tag != f"v{version()}":
        fail(f"the tag is {tag}, but src/gradquake/__init__.py says {version()}: tag v{version()}")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## \[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d$", changes, re.M):
        fail(f"CHANGELOG.md has no heading '## [{version()}] - YYYY-MM-DD'")
    tell_of_it = {"docs/release.md", "tests/packaging/dist.py"}
    if left := marked(set(tracked()) - tell_of_it):
        fail(f"something is left to the owner ('{MARK}') in {', '.join(left)}; see docs/release.md")
    if relative := re.findall(r"\]\((?!https?://|#)([^)]+)\)", description(metadata(wheel))):
        fail(f"README.md has relative links, which are dead on PyPI: {', '.join(relative)}")


def check_installed(sdist, wheel, folder):
    """The wheel works in an empty environment, and the tests of the sdist pass with it."""
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["PATH"] = f"{scripts}{os.pathsep}{clean['PATH']}"
    options = {"cwd": folder, "env": clean}
    run(*install, wheel, **options)
    print("installed:", run(scripts / "gradquake", "--version", **options).strip())
    run(scripts / "gradquake", "reproduce", "--quick", "--out", "reproduction", **options)
    if not (folder / "reproduction" / "claims.json").is_file():
        fail("gradquake reproduce --quick wrote no claims.json")
    print("reproduced: gradquake reproduce --quick")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    tests = folder / sdist.name.removesuffix(".tar.gz") / "tests"
    run(*install, *PROJECT["dependency-groups"]["test"], **options)
    fast = [tests / name for name in FAST_TESTS]
    # The newest dependencies may warn of things that no release could know.
    told = run(python, "-m", "pytest", "-q", "-W", "ignore::DeprecationWarning", *fast, **options)
    print("tested:", told.strip().splitlines()[-1])
    if shutil.which("uvx"):
        run("uvx", "--from", wheel, "gradquake", "--version", **options)
        print("run with uvx")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", metavar="TAG", help="check that this tag can be published")
    parser.add_argument("--quick", action="store_true", help="end before the installation")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        sdist, wheel = build_twice(Path(made))
        check_contents(sdist, wheel)
        check_metadata(sdist, wheel)
        check_forms()
        if chosen.release:
            check_release(chosen.release, wheel)
        if not chosen.quick:
            check_installed(sdist, wheel, Path(made))
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        (ROOT / "dist").mkdir()
        for path in (sdist, wheel):
            shutil.copy(path, ROOT / "dist")
            print(hashlib.sha256(path.read_bytes()).hexdigest(), f"dist/{path.name}")


if __name__ == "__main__":
    main()
