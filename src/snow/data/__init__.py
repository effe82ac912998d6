"""Labelled pictures: folders, tables and named data sets, decoded and transformed for training.

`open_dataset` opens them all, and treats bad data alike. What is **skipped** is named in one line of
`Dataset.warnings`; what is **refused** raises a `SnowError` of one line, and nothing is trained.

Pictures. Each is decoded once when the data set is opened. With `check=False` that is left out, and a bad
picture is refused when its turn comes.
    - Missing, unreadable, empty, not a picture, truncated or broken: skipped, with its path and the reason.
    - More than `MAX_PIXELS` pixels by its header: skipped, and never decoded. Any smaller one is used.
    - 32-bit samples, which have no agreed range: skipped.
    - JPEG, PNG and WebP, and also BMP, GIF and TIFF; AVIF and HEIC where Pillow or a plugin (pillow-heif,
      pillow-avif-plugin) reads them. The content decides, not the extension. Of an animation or several pages
      the first is used. What is not read is called what it is: a HEIC picture, a video, a Git LFS pointer.
    - Grayscale, palette and CMYK: converted to RGB without colour profiles. 16-bit samples: the upper 8 of the
      bits in use, which are 12 where no sample of the picture needs more. Transparency: blended on white. EXIF
      orientation: applied. Text and colour profiles of any length: ignored. None of these is worth a warning.

Folders. `train/CLASS/*` and `test/CLASS/*` (or `val/`, if there is no `test/`), or `CLASS/*` alone.
    - `training_set/`, `seg_train/`, `train2017/` and the like are parts too. A folder with the name of a part
      that holds no class folders is none: beside other folders it is a class, such as `train/` beside `car/`.
    - Classes are the names of the class folders, sorted; folders inside a class folder belong to it. A link
      back to a folder that led to it is not followed.
    - Files without a picture's extension (`EXTENSIONS`, in upper or lower case): ignored, in one line for
      each class folder with their number. Hidden files and folders and those of operating systems (.DS_Store,
      ._x.jpg, __MACOSX, Thumbs.db): in silence. `picture_files` has the same rules for prediction, and
      `is_junk_path` for archives.
    - Pictures in no class folder, and folders beside `train/` and `test/`: ignored, in one line each. So a
      `test/` with pictures alone has no labels, and a part of `train/` is held out.
    - A missing folder, `test/` without `train/`: refused. To measure a task, `test/` will do.

Tables. CSV (comma, semicolon or tab; UTF-8) or Parquet with a column `path`, relative to the table's
folder or to `root`. They may be absolute, have the slashes of Windows and lead anywhere; with `root` only into it.
    - Label columns are those asked for, else `label`, else the only other one; `split` may name the part.
    - A row with a path that is missing, empty or outside of `root`, without any label, without a split, with too
      many or too few cells, or listed before: skipped, with its line and the reason.
    - An empty cell among several label columns: the picture has no label for that task (-1). NaN, NA, None, null
      and whatever else pandas reads as missing: no label, in one line for each column. They may name a folder.
    - A number may have a unit, the same in its whole column; a fraction, a decimal comma and a currency in front are
      read. Units that differ, and commas that may as well divide thousands (1,250): refused, with their rows.
    - A missing column, an unknown split, a path listed twice with different labels or splits, text that is
      not UTF-8, an empty or unreadable file, a table of which no picture is there: refused.

Named data sets. `torch/NAME` and `hfds/OWNER/NAME`, through timm; classes are in the data set's own order.
    - A picture without a label: skipped, in one line with their number. No network and no files: refused.

Published data sets. A folder in the layout of its authors is known by its lists: Food-101, Describable Textures (train
and val of partition 1 against test), Stanford 40 Actions, Stanford Cars and CUB-200-2011; `food101:FOLDER`, `dtd:`,
`stanford40:`, `stanford-cars:` and `cub200:` also find it one or two folders below. Classes and parts are the official
ones.
    - A list, a folder of pictures or any listed picture is missing: refused, with what to get from where.
    - Other sizes than in the paper's Table 3: allowed, in one line.

Classes, in all of them.
    - Names are compared in Unicode NFC, without spaces at either end. In a table whose labels are all whole
      numbers 1.0 is 1. Names that differ in case, inner spaces, quotes or leading zeros: different, in one line.
    - A name that is not UTF-8, fewer than two classes, one without a readable training picture, one in the test
      part only: refused.
    - One without a test picture: allowed, in one line. No test picture at all: refused.

Parts, in all of them.
    - Data without a test part: `test_fraction` of each class is held out, chosen by a hash of `seed` and of the
      picture's content. Names and order do not matter, copies stay together, and a picture that is added or
      broken moves at most one other of its class. A class with one picture keeps it for training. Pictures of
      named data sets are told apart by their number.
    - Test pictures with the content of training pictures, pictures with the same content in several classes:
      used, in one line each with their number and an example.
    - `SplitRecord` is what a task keeps of this: digests of what was held out and of up to 1,024 training pictures.
      `open_measured` measures a task on the test part of the data, else on exactly what training held out, else
      on all of it; it says which, and whether training pictures are among them.
"""

from __future__ import annotations

from snow.data.decode import MAX_PIXELS, decode, to_rgb
from snow.data.formats import EXTENSIONS
from snow.data.inputs import Input, to_batch, to_pixels
from snow.data.listing import is_junk_path, picture_files
from snow.data.measured import Measured, open_measured
from snow.data.open import open_dataset
from snow.data.pictures import Item, Pictures, Transform
from snow.data.split import SplitRecord
from snow.data.task import Dataset, Task
from snow.data.transforms import AUGMENTS, eval_transform, train_transform

__all__ = [
    "AUGMENTS",
    "EXTENSIONS",
    "MAX_PIXELS",
    "Dataset",
    "Input",
    "Item",
    "Measured",
    "Pictures",
    "SplitRecord",
    "Task",
    "Transform",
    "decode",
    "eval_transform",
    "is_junk_path",
    "open_dataset",
    "open_measured",
    "picture_files",
    "to_batch",
    "to_pixels",
    "to_rgb",
    "train_transform",
]
