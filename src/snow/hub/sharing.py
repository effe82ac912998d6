"""Tasks and hubs as folders that others can load, and as repositories of the Hugging Face hub."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from snow.errors import SnowError
from snow.store import atomic_folder

FILES = ["*.json", "*.safetensors", "README.md"]
"""What is sent and fetched, in any folder of a repository: nothing that could run when it is read."""


class Shared(ABC):
    """What can be saved with a model card and pushed to the Hugging Face hub."""

    @abstractmethod
    def export(self, folder: Path, repository: str) -> str:
        """Writes all there is into an empty folder; returns the text of its model card.

        Args:
            repository: what the card says to load it from.
        """

    def save_pretrained(self, folder: str | Path, repository: str | None = None) -> Path:
        """Writes a folder that `from_pretrained` reads, with a model card README.md.

        Args:
            folder: must not be there yet, or be empty.
            repository: what the card says to load it from; by default the folder.

        Raises:
            SnowError: the folder is there already or cannot be written.
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
        """Makes `repository` of the Hugging Face hub (OWNER/NAME) what this is, in one commit; returns its address.

        The repository is made if it is not there; files of ours that it has and this has not are removed from it. What
        a task says of its training goes along, such as the path of its pictures.

        Args:
            private: for a repository that is made.
            revision: a branch, made if it is not there.
            token: by default that of `hf auth login`.

        Raises:
            SnowError: the hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi  # late: it takes a moment

        with tempfile.TemporaryDirectory(prefix="snow-") as temporary:
            folder = self.save_pretrained(Path(temporary) / "repository", repository)
            api = HfApi(token=token)
            with _told(f"{repository} cannot be pushed"):
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


def located(name: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """A folder of this name, else the files of the repository of the Hugging Face hub, in its cache.

    Raises:
        SnowError: there is neither, or the hub cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    with _told(f"{name} is no folder here, and cannot be had from the Hugging Face hub"):
        return Path(snapshot_download(str(name), revision=revision, token=token, allow_patterns=FILES))


def kept(name: str | Path, snapshot: Path, folder: str | Path | None = None) -> Path:
    """A copy of a cached repository that may be changed; the cache is made of links and belongs to all.

    Args:
        folder: must not be there yet; by default one beside the cache, for each version one, which is used again.

    Raises:
        SnowError: it cannot be written.
    """
    from huggingface_hub import constants

    if folder is None:
        folder = Path(constants.HF_HOME) / "snow" / str(name).replace("/", "--") / snapshot.name
        if (folder / "source.json").exists():
            return folder
    with atomic_folder(Path(folder)) as new:
        shutil.copytree(snapshot, new, dirs_exist_ok=True)
    return Path(folder)


@contextmanager
def _told(what: str) -> Generator[None]:
    """Turns what the Hugging Face hub raises into one line."""
    from huggingface_hub import errors

    try:
        yield
    except (OSError, ValueError, errors.HTTPError) as error:
        raise SnowError(f"{what}: {str(error).partition(chr(10))[0] or type(error).__name__}") from error
