"""CelebA: 202,599 faces, which stream from the published archive or from its unpacked folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from gencli.core.errors import UsageError
from gencli.core.options import Range
from gencli.core.spec import Spec, Support
from gencli.core.torchvision_compat import torchvision
from gencli.data.images import Archive, Folder, Load
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, may_download
from gencli.data.split import StreamSplit

_PARTITION, _ARCHIVE, _FOLDER = "list_eval_partition.txt", "img_align_celeba.zip", "img_align_celeba"


class CelebA(Lazy):
    """Faces ("Deep learning face attributes in the wild", Liu, Luo, Wang and Tang, 2015), aligned, without labels.

    The official partition. The central 148x148 pixels, resized to size x size (bilinear, antialiased). Read from
    root/celeba/: list_eval_partition.txt, and img_align_celeba.zip or the folder img_align_celeba.

    Args:
        root: the folder of data files.
        size: side of the images in pixels.
        download: whether missing files may be fetched.

    Raises:
        UsageError: (by ``split``) the files are missing and cannot be downloaded.
    """

    name = "celeba"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"

    def __init__(
        self, root: str | None = None, size: Annotated[int, Range(low=1, high=148)] = 64, download: bool = True
    ) -> None:
        super().__init__()
        self.folder, self.size, self.download = data_root(root) / "celeba", size, download
        self.spec = Spec((3, size, size), Support.parse(self.support))

    def load(self, name: str) -> StreamSplit:
        partition = self._fetch(_PARTITION)
        files: Archive | Folder
        if (self.folder / _FOLDER).is_dir():
            files = Folder(self.folder / _FOLDER)
        else:
            files = Archive(self._fetch(_ARCHIVE), _FOLDER)
        part = {"train": "0", "val": "1", "test": "2"}[name]
        rows = [line.split() for line in partition.read_text(encoding="utf-8").splitlines()]
        names = [row[0] for row in rows if len(row) == 2 and row[1] == part]
        return StreamSplit(names, Load(files, 148, self.size, 3), files.read, options=f"crop 148, size {self.size}")

    def _fetch(self, filename: str) -> Path:
        path = self.folder / filename
        if path.exists():
            return path
        may_download(path, self.download)
        try:  # torchvision knows where the files are kept; Google Drive often refuses
            published = torchvision("datasets").CelebA.file_list
            file_id, md5 = next((i, m) for i, m, n in published if n == filename)
            self.folder.mkdir(parents=True, exist_ok=True)
            torchvision("datasets.utils").download_file_from_google_drive(file_id, str(self.folder), filename, md5)
        except Exception as error:  # gdown is missing, no network, quota: all end in the same advice
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"{path} is missing and could not be downloaded ({reason}): fetch {_PARTITION} and {_ARCHIVE} from "
                f"https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html by hand into {self.folder}/, "
                "or set data.root (or GENCLI_DATA) to a folder that has them"
            ) from error
        return path
