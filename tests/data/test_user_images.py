"""Images as people have them: read as they are seen, or refused in one line that names the file."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from data_sets import QUICK, again, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gencli.core.errors import RunFailed, UsageError
from gencli.data.loading import held_out_batches, train_batches
from gencli.data.sets.image_folder import ImageFolder

RNG = np.random.default_rng(0)
GREY, COLOUR = RNG.integers(0, 256, (6, 6)).astype(np.uint8), RNG.integers(0, 256, (6, 6, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (6, 6)).astype(np.uint16)


def png(pixels, kind):
    """A PNG of 16 bits a channel; kind: the colour type of the standard."""
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def encoded(pixels, form="PNG", mode=None, **options):
    image, file = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def tiff(pixels, bits, photometric):
    """An uncompressed grey TIFF; bits: of a pixel, 12 or 16; photometric: 0 where 0 is white."""
    if bits == 12:
        strip = bytes.fromhex("".join(f"{pixel:03x}" for pixel in pixels.flat))
    else:
        strip = pixels.astype("<u2").tobytes()
    rows, columns = pixels.shape
    values = {256: columns, 257: rows, 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1, 278: rows}
    values[279] = len(strip)
    tags = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in values.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(values)) + tags + bytes(4) + strip


def turned(pixels, orientation):
    """What a viewer shows of an image with this EXIF orientation."""
    transposed = pixels.swapaxes(0, 1)
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: transposed,
        6: np.rot90(pixels, -1),
        7: np.rot90(transposed, 2),
        8: np.rot90(pixels),
    }[orientation]


def folder(tmp_path, channels=3, size=6, **files):
    for name, content in files.items():
        path = tmp_path / "images" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return ImageFolder(str(tmp_path / "images"), size=size, channels=channels)


def pixels_of(data):
    whole = data.whole()
    return whole.gather(torch.arange(len(whole))).x


OPAQUE = np.full((6, 6, 1), 65535)
READ = {
    "grey": (encoded(GREY), GREY),
    "colour": (encoded(COLOUR), COLOUR),
    "bits": (encoded(GREY > 99), (GREY > 99) * 255),
    "opaque": (encoded(COLOUR, mode="RGBA"), COLOUR),
    "opaque-grey": (encoded(GREY, mode="LA"), GREY),
    "deep": (encoded(DEEP), DEEP >> 8),
    "deep-tiff": (encoded(DEEP, "TIFF"), DEEP >> 8),
    "deep-white-is-zero": (tiff(DEEP, 16, 0), 255 - (DEEP >> 8)),
    "deep-black-is-zero": (tiff(DEEP, 16, 1), DEEP >> 8),
    "twelve-bits": (tiff(DEEP >> 4, 12, 1), DEEP >> 8),
    "deep-colour": (png(np.stack([DEEP] * 3, 2), 2), np.stack([DEEP >> 8] * 3, 2)),
    "deep-opaque": (png(np.concatenate([DEEP[..., None], OPAQUE], 2), 4), DEEP >> 8),
    "bmp": (encoded(COLOUR, "BMP"), COLOUR),
    "webp": (encoded(COLOUR, "WEBP", lossless=True), COLOUR),
    "gif": (encoded(GREY, "GIF"), GREY),
}


@pytest.mark.parametrize("name", READ)
def test_images_of_every_mode_and_depth_are_read_as_they_are(name, tmp_path):
    content, expected = READ[name]
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, 2)
    assert (pixels_of(folder(tmp_path, a_png=content))[0].permute(1, 2, 0).numpy() == expected).all()
    if READ[name][1].ndim == 2:
        assert (pixels_of(folder(tmp_path, 1, a_png=content))[0, 0].numpy() == READ[name][1]).all()


def palette(**options):
    file = io.BytesIO()
    Image.fromarray(COLOUR).quantize(8).save(file, "PNG", **options)
    return file.getvalue()


def test_palettes_are_colours(tmp_path):
    expected = np.asarray(Image.open(io.BytesIO(palette())).convert("RGB"))
    assert (pixels_of(folder(tmp_path, a_png=palette()))[0].permute(1, 2, 0).numpy() == expected).all()


TRANSPARENT = np.concatenate([COLOUR, np.full((6, 6, 1), 9, np.uint8)], 2)
MORE = {"save_all": True, "append_images": [Image.fromarray(255 - COLOUR)]}
UNREAD = {
    "alpha": (encoded(TRANSPARENT), "some of its pixels are transparent"),
    "alpha-webp": (encoded(TRANSPARENT, "WEBP"), "some of its pixels are transparent"),
    "palette": (palette(transparency=0), "some of its pixels are transparent"),
    "cmyk": (encoded(COLOUR, "JPEG", "CMYK"), "it is of mode CMYK: convert it to 8 bits of grey or RGB"),
    "floats": (encoded(DEEP.astype(np.float32), "TIFF"), "it is of mode F: convert it"),
    "integers": (encoded(DEEP.astype(np.int32), "TIFF"), "it is of mode I: convert it"),
    "animation": (encoded(COLOUR, "GIF", **MORE), "it holds 2 frames: save each as a file of its own"),
    "pages": (encoded(COLOUR, "TIFF", **MORE), "it holds 2 frames"),
    "empty": (b"", "it is empty, or none of PNG, JPEG"),
    "text": (b"no image", "it is empty, or none of PNG, JPEG"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_images_that_would_not_be_learned_as_they_are_seen(name, tmp_path):
    content, reason = UNREAD[name]
    data = folder(tmp_path, a_png=content)
    with pytest.raises(UsageError, match=rf"^data.path: a.png is no image that can be read: {reason}"):
        data.split("train")


def test_a_photo_of_a_camera_with_a_preview_is_its_first_picture(tmp_path):
    data = folder(tmp_path, a_jpg=encoded(np.full((6, 6, 3), 80, np.uint8), "MPO", **MORE))
    assert (pixels_of(data).int() - 80).abs().max() <= 2


def test_a_truncated_file_is_named_by_the_workers_too(tmp_path):
    split = folder(tmp_path, a_png=encoded(COLOUR)[:-60]).whole()
    for batches in (held_out_batches(split, 2, workers=1), train_batches(split, 1, 0, workers=0)):
        with pytest.raises(RunFailed, match=r"^a.png is no image that can be read: image file is truncated$"):
            next(iter(batches))


def test_what_is_not_read_is_named(tmp_path):
    data = folder(
        tmp_path,
        **{"cat__a_png": encoded(GREY), "cat__notes_txt": b"x", "dog__b_PNG": encoded(COLOUR), "dog___c_png": b""},
        **{"_DS__a_png": b""},
        size=8,
    )
    (tmp_path / "images" / "dog" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "dog" / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert len(data.whole()) == 2
    assert data.understood() == [
        "images: 2 train, no val, no test images, the shorter side 6 pixels: the central square is read at 8 x 8; "
        "2 classes: cat, dog",
        "images: 2 of 2 images are smaller than data.size and are enlarged",
        "images: 1 of 2 images are grey: three equal channels are read (data.channels=1 reads one)",
        "images: not read, since they are no images or lie in no split: cat/notes.txt, dog/gone.png, dog/loop",
    ]


def test_folders_that_are_nearly_splits(tmp_path):
    content = encoded(GREY)
    with refused(f"data.path={tmp_path}/images: the folder 'valid' is not read as a split: did you mean 'val'?"):
        folder(tmp_path, train__a_png=content, valid__b_png=content).split("train")
    other = tmp_path / "other"
    with refused(f"data.path={other}/images: the folder 'Training' is not read as a split: did you mean 'train'?"):
        folder(other, Training__a_png=content, dog__b_png=content).split("train")
    third = tmp_path / "third"  # a class that is called train
    with refused(
        f"data.path={third}/images: 'train' is the folder of a split; beside it, car, plane would not be read"
    ):
        folder(third, train__a_png=content, car__b_png=content, plane__c_png=content).split("train")


def test_folders_of_numbers_are_numbered_by_value_and_kept(tmp_path):
    data = folder(tmp_path, 1, **{f"{k}__{k}_png": encoded(np.full((6, 6), k, np.uint8)) for k in range(12)})
    assert data.class_names() == [str(k) for k in range(12)]
    kept = again(data)
    whole = data.whole()
    assert whole.gather(torch.arange(12)).x[:, 0, 0, 0].tolist() == whole.y.tolist()

    lost = ImageFolder(str(tmp_path / "lost"), size=6, channels=1)
    lost.apply(kept)
    assert lost.spec == data.spec
    new = folder(tmp_path / "new", 1, **{"11__a_png": encoded(GREY), "2__b_png": encoded(GREY)})
    new.apply(kept)
    assert new.whole().y.tolist() == [11, 2]
    flat = folder(tmp_path / "flat", 1, a_png=encoded(GREY))
    flat.apply(kept)
    assert flat.whole().y is None
    strange = folder(tmp_path / "strange", 1, **{"13__a_png": encoded(GREY)})
    strange.apply(kept)
    with pytest.raises(UsageError, match=r"images: '13' is no class of train. Did you mean '"):
        strange.whole()
    for classes in (["a", "a"], "ab", [], [1]):
        with pytest.raises(UsageError, match=r"^data.json does not fit the run's data"):
            lost.apply({"classes": classes})


@QUICK
@given(
    st.integers(1, 8),
    st.sampled_from([("grey", "L"), ("deep", None), ("colour", "RGB"), ("colour", "RGBA"), ("grey", "LA")]),
    st.sampled_from(["PNG", "TIFF", "WEBP"]),
    st.integers(0, 9),
    st.sampled_from([1, 3]),
)
def test_any_image_is_read_as_it_is_seen(tmp_path, orientation, kind, form, seed, channels):
    what, mode = kind
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 65536 if what == "deep" else 256, (5, 5, 3) if what == "colour" else (5, 5))
    pixels = pixels.astype(np.uint16 if what == "deep" else np.uint8)
    if form == "WEBP" and (what != "colour" or channels == 1):
        form = "PNG"
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(pixels, form, mode, exif=exif, **options)
    seen = turned(pixels >> 8 if what == "deep" else pixels, orientation).astype(np.uint8)
    found = pixels_of(folder(tmp_path, channels, 5, a_png=content))[0].permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(np.ascontiguousarray(seen)).convert("L" if channels == 1 else "RGB"))
    assert (found == expected.reshape(found.shape)).all()


def test_images_are_kept_within_a_limit_that_counts_all_splits(tmp_path):
    for k in range(10):
        pixels = np.full((4, 4, 3), 20 * k, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    for memory, kept in ((10.1 * 48 / 1e9, True), (9.9 * 48 / 1e9, False), (0, False)):
        split = ImageFolder(str(tmp_path), size=4, memory=memory).split("train")
        x = split.gather(torch.arange(8)).x
        assert split.complete == kept
        if kept:
            assert torch.equal(split.in_memory().x, x)
            (tmp_path / split.names[0]).unlink()
            assert torch.equal(split.gather(torch.tensor([0])).x, x[:1])
            Image.fromarray(pixels).save(tmp_path / split.names[0])
