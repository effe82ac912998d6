"""Share tasks and hubs as folders with a model card, and as repositories of the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from snow.errors import SnowError
from snow.hub.task_files import FILES as FILES_OF_TASK
from snow.store import atomic_folder

FILES = ["*.json", "*.safetensors", "README.md"]
"""Files that are uploaded and downloaded, in any folder of a repository. None can execute code when loaded."""


HUB_FILES = ("README.md", "source.json", "source.safetensors")
"""Files of a hub beside the folders of its tasks."""


class Shared(ABC):
    """Something that can be saved with a model card and pushed to the Hugging Face Hub."""

    @abstractmethod
    def export(self, folder: Path, repository: str) -> str:
        """Write all files into an empty folder, and return the text of the model card.

        Args:
            repository: name that the card tells readers to load from.
        """

    def save_pretrained(self, folder: str | Path, repository: str | None = None) -> Path:
        """Save to a folder that `from_pretrained` reads, with a model card in README.md.

        Args:
            folder: must not exist, or be empty.
            repository: name that the card tells readers to load from; by default the folder.

        Raises:
            SnowError: the folder exists and is not empty, or cannot be written.
        """
        folder = Path(folder)
        is_empty = folder.is_dir() and not any(folder.iterdir())
        with atomic_folder(folder, replace=is_empty) as new:
            (new / "README.md").write_text(self.export(new, repository or str(folder)), "utf-8")
        return folder

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        message: str = "Upload with SNOW",
        token: str | None = None,
    ) -> str:
        """Upload to a repository OWNER/NAME of the Hugging Face Hub in one commit, and return the URL of the commit.

        The repository is created if needed. JSON and safetensors files that it has and this lacks are deleted from it.
        The training record of each task is uploaded, too, including the path of its images.

        Args:
            private: visibility of a new repository.
            revision: branch to commit to, created if needed.
            message: of the commit.
            token: by default that of `hf auth login`.

        Raises:
            SnowError: the Hub cannot be reached, or refuses.
        """
        from huggingface_hub import HfApi  # slow to import

        with tempfile.TemporaryDirectory(prefix="snow-") as temporary:
            folder = self.save_pretrained(Path(temporary) / "repository", repository)
            api = HfApi(token=token)
            with _as_snow_error(f"{repository} cannot be pushed"):
                name = api.create_repo(repository, private=private, exist_ok=True).repo_id
                if revision is not None:
                    api.create_branch(name, branch=revision, exist_ok=True)
                return api.upload_folder(
                    repo_id=name,
                    folder_path=folder,
                    revision=revision,
                    commit_message=message,
                    allow_patterns=FILES,
                    delete_patterns=FILES[:2],
                ).commit_url


def resolve_snapshot(name: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """Find a folder of this name, or download the repository of this name from the Hugging Face Hub to its cache.

    Raises:
        SnowError: there is neither, or the Hub cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    with _as_snow_error(f"{name} is not a folder, and cannot be downloaded from the Hugging Face Hub"):
        return Path(snapshot_download(str(name), revision=revision, token=token, allow_patterns=FILES))


def local_copy(name: str | Path, snapshot: Path, folder: str | Path | None = None) -> Path:
    """Copy a cached repository to a folder that may be changed. The cache itself is shared and consists of links.

    Args:
        folder: must not exist; by default one folder per version beside the cache, which later calls reuse.

    Raises:
        SnowError: it cannot be written.
    """
    from huggingface_hub import constants

    if folder is None:
        folder = Path(constants.HF_HOME) / "snow" / str(name).replace("/", "--") / snapshot.name
        if (folder / "source.json").exists():
            return folder
    with atomic_folder(Path(folder)) as new:
        for path in _hub_files(snapshot):
            (new / path.relative_to(snapshot)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_within(path, snapshot.parent.parent), new / path.relative_to(snapshot))
    return Path(folder)


def _hub_files(snapshot: Path) -> list[Path]:
    """List the files of a hub that are there, and no others."""
    folders = sorted((snapshot / "tasks").glob("*"))
    wanted = [snapshot / name for name in HUB_FILES] + [folder / name for folder in folders for name in FILES_OF_TASK]
    return [path for path in wanted if path.is_file()]


def _within(path: Path, cache: Path) -> Path:
    """Return what a link of the cache leads to. Raises SnowError: it is not in the cache of this repository."""
    target = path.resolve()
    if not target.is_relative_to(cache.resolve()):
        raise SnowError(f"{path} is a link that leads out of the repository")
    return target


@contextmanager
def _as_snow_error(failure: str) -> Generator[None]:
    """Turn errors of the Hugging Face Hub into one line."""
    from huggingface_hub import errors

    try:
        yield
    except (OSError, ValueError, errors.HTTPError) as error:
        raise SnowError(f"{failure}: {str(error).partition(chr(10))[0] or type(error).__name__}") from error
