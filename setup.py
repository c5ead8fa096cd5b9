"""Build and install pubtools-mlmerge."""

import os
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "docs")]

from options import write_man

VERSION = "0.1.0"
URL = "https://github.com/release-engineering/pubtools-mlmerge"
# The host pins itself to urllib3 1.x and still imports pkg_resources, which setuptools 82 removed.
QUAY = ["pubtools-quay>=0.36.0", "urllib3<2", "setuptools<82"]
CLI = ["rich>=12.3.0"]
COMPLETION = ["argcomplete>=2.0.0"]
LOCK = ["redis>=4.5.0"]
HTML = ["jinja2>=3.0.0"]
DOCS = ["furo>=2024.8.6", "sphinx>=7.0"]
# What the tests import. Fits beside the host (urllib3 1.x) as well as without it.
TEST = [
    "hypothesis>=6.100",
    "jsonschema>=4.18",
    "opentelemetry-sdk>=1.20",
    "pytest>=7.4",
    "pytest-cov>=5.0",
    "trustme>=1.1",
    *CLI,
    *LOCK,
    *HTML,
]
# Where it comes as a wheel; elsewhere it would need a compiler of its own.
HAS_ATHERIS = "sys_platform=='linux' and platform_machine=='x86_64' and python_version<'3.14'"
# What `make bench` needs beside the tests.
BENCH = ["pytest-benchmark>=5.1"]
# setuptools builds the wheel that a test looks into.
DEV = [
    *TEST,
    *COMPLETION,
    f"atheris>=2.3; {HAS_ATHERIS}",
    *BENCH,
    "build>=1.2",
    "setuptools>=70.1",
    "mypy>=1.15",
    "pyyaml>=6.0",
    "ruff>=0.12",
    "tox>=4.20",
    "twine>=6.1",
    "types-jsonschema>=4.20",
    "types-pyyaml>=6.0",
    "types-requests>=2.31.0.7",
]


def write_manual() -> list[str]:
    """Write the manual pages, which are made from the parsers, and return where."""
    directory = HERE / "build" / "man"
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in write_man(VERSION):
        (directory / name).write_text(content, encoding="utf-8")
        written.append(os.path.relpath(directory / name, HERE))
    return written


setup(
    name="pubtools-mlmerge",
    version=VERSION,
    description="Keeps the architectures of a tag when a build that lacks some is pushed over it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The pubtools-mlmerge authors",
    url=URL,
    project_urls={
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
        "Issues": f"{URL}/issues",
        "Source": URL,
    },
    license="GPL-3.0-or-later",
    packages=find_packages(include=["pubtools_mlmerge", "pubtools_mlmerge.*"]),
    package_data={"": ["py.typed", "*.css", "*.jinja", "*.json"]},
    include_package_data=False,
    data_files=[("share/man/man1", write_manual())],
    zip_safe=False,
    python_requires=">=3.9",
    install_requires=[
        "attrs>=24.3.0",  # the first whose frozen exceptions take notes
        "pluggy>=0.13.1",
        "pubtools>=1.4.5",  # the first that runs on Python 3.9 without pkg_resources
        "requests>=2.25.0",  # the first that takes urllib3 1.26
    ],
    extras_require={
        "quay": QUAY,
        "cli": CLI,
        "completion": COMPLETION,
        "lock": LOCK,
        "html": HTML,
        "test": TEST,
        "bench": [*TEST, *BENCH],
        "dev": DEV,
        "docs": DOCS,
    },
    entry_points={
        "console_scripts": [
            "pubtools-mlmerge = pubtools_mlmerge.cli.parsers:main",
            "pubtools-mlmerge-merge = pubtools_mlmerge.cli.parsers:merge_main",
            "pubtools-mlmerge-remove-archs = pubtools_mlmerge.cli.parsers:remove_archs_main",
            "pubtools-mlmerge-inspect = pubtools_mlmerge.cli.parsers:inspect_main",
            "pubtools-mlmerge-restore = pubtools_mlmerge.cli.parsers:restore_main",
            "pubtools-mlmerge-demo = pubtools_mlmerge.cli.demo:main",
        ],
        "pubtools.hooks": ["mlmerge = pubtools_mlmerge.plugin"],
        "target": [
            "mlmerge-push-docker = pubtools_mlmerge.tasks:push_docker",
            "mlmerge-tag-docker = pubtools_mlmerge.tasks:tag_docker",
        ],
    },
    keywords="container registry manifest-list oci-index multi-arch quay pubtools",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 15)),
        "Topic :: Software Development :: Build Tools",
        "Typing :: Typed",
    ],
)
