"""What a task of the host works on: a registry with images, push items, settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests
from attrs import define, field

from pubtools_mlmerge.core.manifests import MANIFEST_TYPES, Index
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.testing import Image, ImageIndex, make_image, make_index
from tests.host.requests_made import SESSION, AccessLog
from tests.host.shelves import root_of, store
from tests.host.stand_ins import SIGNER
from tests.servers import RealRegistry

NAMESPACE = "ns"
PUBLIC = "registry.example.com"
KEY = "some-key"
ON: Mapping[str, object] = {"steps": ["push", "tag-docker"]}
REPOSITORY = "ns/a----app"  # the internal name of a/app
BUILD = f"{REPOSITORY}:build"  # where tag-docker takes architectures from
SECONDS = 10
THREE = ("linux/amd64", "linux/arm64", "linux/s390x")
TWO = ("linux/amd64", "linux/arm64")

Tags = Mapping[str, Sequence[str]]


@define(eq=False)
class Item:
    """A push item, as far as the host looks at it."""

    metadata: dict[str, object]
    repos: dict[str, list[str]]
    file_type: str = "docker"
    claims_signing_key: str | None = KEY
    errors: dict[str, str] = field(factory=dict)
    external_repos: dict[str, list[str]] = field(factory=dict)


@define(eq=False)
class World:
    """A registry and what tests do with it."""

    registry: RealRegistry
    log: AccessLog

    @property
    def host(self) -> str:
        """The registry as references name it, on its default port."""
        return self.registry.host.partition(":")[0]

    def empty(self) -> None:
        """Forget all images, and skopeo's logins."""
        shutil.rmtree(root_of(self.registry), ignore_errors=True)
        Path(os.environ["REGISTRY_AUTH_FILE"]).unlink(missing_ok=True)
        self.log.forget()

    def client(self) -> RegistryClient:
        """Connect to the registry."""
        return RegistryClient(options=ConnectOptions(ca_bundle=str(self.registry.ca_file)))

    def put(self, repository: str, tag: str, item: Image | ImageIndex) -> str:
        """Store an image or index under an internal name."""
        store(self.registry, repository, item, tag)
        return item.digest

    def reference(self, repository: str, tag: str) -> Reference:
        """Name a tag, the repository by its internal name."""
        return Reference.parse(f"{self.host}/{repository}:{tag}")

    def read(self, repository: str, tag: str) -> Index:
        """Read a tag back."""
        return self.client().pull_index(self.reference(repository, tag))

    def digest(self, repository: str, tag: str) -> str | None:
        """Tell what a tag holds, if it exists."""
        answer = self._ask("HEAD", f"{repository}/manifests/{tag}")
        return answer.headers["Docker-Content-Digest"] if answer.ok else None

    def content(self, repository: str, tag: str) -> bytes:
        """Read the bytes that a tag holds."""
        answer = self._ask("GET", f"{repository}/manifests/{tag}")
        answer.raise_for_status()
        return answer.content

    def tags(self, repository: str) -> list[str]:
        """List the tags of a repository."""
        listed: list[str] = self._ask("GET", f"{repository}/tags/list").json()["tags"]
        return sorted(listed)

    def _ask(self, method: str, path: str) -> requests.Response:
        return SESSION.request(
            method,
            f"{self.registry.url}/v2/{path}",
            headers={"Accept": ", ".join(MANIFEST_TYPES), "User-Agent": "world"},
            verify=self.registry.verify,
            timeout=SECONDS,
        )

    def platforms(self, repository: str, tag: str) -> dict[str, str]:
        """Read the platforms of a tag with their digests."""
        index = self.read(repository, tag)
        return {str(e.slot): e.digest for e in index.manifests if e.slot is not None}

    def pull(self, repository: str, tag: str, platform: str, into: Path) -> None:
        """Pull one platform of a tag with skopeo, blobs and all."""
        os, architecture, *variant = platform.split("/")
        wanted = [f"--override-os={os}", f"--override-arch={architecture}"]
        wanted += [f"--override-variant={name}" for name in variant]
        source = f"docker://{self.reference(repository, tag)}"
        subprocess.run(
            ["skopeo", *wanted, "copy", source, f"dir:{into}"],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def settings(self, mlmerge: object = None, **others: object) -> dict[str, object]:
        """Make the settings of a target."""
        return {
            "source_quay_user": "source",
            "source_quay_password": "source-password",
            "dest_quay_user": "dest",
            "dest_quay_password": "dest-password",
            "dest_quay_api_token": "api-token",
            "quay_host": self.host,
            "source_quay_host": self.host,
            "quay_namespace": NAMESPACE,
            "pyxis_server": "https://pyxis.example.com",
            "iib_krb_principal": "principal",
            "iib_organization": "organization",
            "iib_index_image": f"{PUBLIC}/ns/iib:1",
            "quay_operator_repository": "ns/operators",
            "skopeo_image": "skopeo",
            "docker_settings": {"umb_urls": [], "docker_reference_registry": [PUBLIC]},
            "container_exec": False,
            "signing": [{"enabled": True, "label": SIGNER, "config_file": "signer.yaml"}],
            "retry_sleep_time": 0,
            "tag_images_tries": 1,
            "num_thread_container_push": 4,
            **({} if mlmerge is None else {"mlmerge": mlmerge}),
            **others,
        }

    def push_item(self, source: str, tags: Tags) -> Item:
        """Make an item that pushes a source to tags of external repositories."""
        metadata: dict[str, object] = {
            "pull_url": f"{self.host}/{source}",
            "pull_data": {"registry": self.host},
            "tags": {name: list(wanted) for name, wanted in tags.items()},
            "build": {"extra": {"image": {"media_types": []}}},
            "arch": "amd64",
        }
        return Item(metadata, {name: list(wanted) for name, wanted in tags.items()})

    def new_item(self, *tags: str) -> Item:
        """Make an item that pushes the new build to tags of a/app."""
        return self.push_item("src/app:new", {"a/app": tags or ("1",)})

    def fill(self, *tags: str, docker: bool = True, source: str = "src/app:new") -> Item:
        """Put an old build of three platforms under tags of a/app; return a new one of two."""
        for name in tags or ("1",):
            self.put(REPOSITORY, name, build(f"old {name}", *THREE, docker=docker))
        repository, _, new = source.partition(":")
        self.put(repository, new, build("new", *TWO, docker=docker))
        self.log.forget()
        return self.new_item(*tags)

    def tag_item(
        self,
        repository: str,
        *,
        source: str = "",
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        archs: Sequence[str] = (),
        exclude: bool = False,
    ) -> Item:
        """Make an item that adds or removes tags of one external repository."""
        metadata: dict[str, object] = {
            "tag_source": source,
            "add_tags": list(add),
            "remove_tags": list(remove),
            "archs": list(archs),
            "exclude_archs": exclude,
            "new_method": True,
            "tags": {repository: [*add, *remove]},
        }
        return Item(metadata, {repository: [*add, *remove]})


def bundle_item() -> Item:
    """Make an item of an operator's bundle."""
    metadata: dict[str, object] = {"op_type": "bundle", "com.redhat.openshift.versions": "v4.9"}
    return Item(metadata, {}, file_type="operator")


def build(
    version: str, *platforms: str, docker: bool = True, media_type_field: bool = True
) -> ImageIndex:
    """Make an index of images that differ by version."""
    images = [make_image(platform, docker=docker, seed=version) for platform in platforms]
    return make_index(images, docker=docker, media_type_field=media_type_field)


def spoken(index: ImageIndex) -> ImageIndex:
    """Write into an index what is not ASCII, as UTF-8."""
    document = {**json.loads(index.content), "annotations": {"title": "Müller — ☃"}}
    content = json.dumps(document, ensure_ascii=False).encode()
    return ImageIndex(content=content, media_type=index.media_type, children=index.children)
