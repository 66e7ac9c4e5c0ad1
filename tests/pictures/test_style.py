"""One style for all pictures: formats, themes, sizes; and grids of images, pixel by pixel."""

import io
import shutil
import sys

import matplotlib
import pytest
import torch
from PIL import Image

from gencli.cli.main import main
from gencli.config.sections import StyleOptions
from gencli.core.errors import RunFailed, UsageError
from gencli.pictures import canvas, style


def small(**options):
    with style.applied(StyleOptions(**options)):
        figure, (axis,) = canvas.figure(1, 2, 1)
        axis.plot([0, 1], [0, 1], label="a $b_")
        axis.legend()
        return style.rendered(figure, options.get("format", "png"))


def test_files_of_each_format_are_the_same_each_time():
    for format, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        first = small(format=format)
        assert first[: len(start)] == start
        assert first == small(format=format)


def test_dots_an_inch_and_the_scale_make_pixels():
    assert [Image.open(io.BytesIO(small(**o))).size for o in ({}, {"dpi": 60}, {"scale": 2.0})] == [
        (240, 120),
        (120, 60),
        (480, 240),
    ]


def test_a_picture_that_is_too_small_for_its_words_is_refused():
    with style.applied(StyleOptions(scale=0.25)):
        figure, (axis,) = canvas.figure(1, 1, 1)
    axis.set_ylabel("many words " * 9, rotation="horizontal")
    with pytest.raises(RunFailed, match=r"^style\.scale: the picture is too small"):
        style.rendered(figure)


def test_a_theme_has_its_ink_and_leaves_no_trace():
    before = dict(matplotlib.rcParams)
    for theme, light in (("light", True), ("dark", False)):
        with style.applied(StyleOptions(theme=theme)):
            paper, ink = (int(colour()[1:3], 16) for colour in (style.paper, style.ink))
            assert (paper > ink) == light
            assert matplotlib.rcParams["text.color"] == style.ink()
    assert dict(matplotlib.rcParams) == before


def test_nothing_of_the_current_folder_is_run(tmp_path):
    (tmp_path / "matplotlibrc").write_text("figure.dpi: 7\n")
    assert Image.open(io.BytesIO(small())).size == (240, 120)


def test_the_last_row_of_a_grid_stands_in_its_middle():
    picture = canvas.grid(torch.ones(5, 1, 2, 2), 4, side=2)
    cell = 4  # two pixels and a margin on either side
    assert picture.shape == (3, 2 * cell + 2, 4 * cell + 2)
    lit = (picture[0, 1 + cell :] == 1).any(0).nonzero().flatten()
    assert lit.tolist() == [8, 9]  # of 18 columns


@pytest.mark.parametrize(("width", "shown"), [(8, 48), (28, 56), (32, 64), (64, 64)])
def test_small_images_are_enlarged_by_whole_pixels(width, shown):
    image = torch.rand(1, 1, width, width)
    large = canvas.enlarged(image, 48)
    assert large.shape[-1] == shown
    assert torch.equal(large[..., :: shown // width, :: shown // width], image)


def test_pixels_of_a_block_are_those_of_the_file():
    images = torch.rand(4, 1, 8, 8).mul(255).round() / 255
    with style.applied():
        file = style.rendered(
            canvas.blocks([canvas.Block(images, 2, title="grid", below="two\nlines")], "all of it", 8)
        )
    seen = torch.frombuffer(bytearray(Image.open(io.BytesIO(file)).convert("L").tobytes()), dtype=torch.uint8)
    wide, high = Image.open(io.BytesIO(file)).size
    wanted = canvas.grid(images, 2, 8).mean(0).mul(255).round().to(torch.uint8)
    windows = seen.view(high, wide).unfold(0, len(wanted), 1).unfold(1, wanted.shape[1], 1)
    assert ((windows.int() - wanted.int()).abs() <= 1).all(3).all(2).any()


def test_images_stand_below_the_name_of_their_column():
    """Of a last row that is not full, too."""
    images = torch.linspace(0.1, 1, 8)[:, None, None, None].expand(8, 3, 8, 8)
    with style.applied():
        (axis,) = canvas.labelled(images, 5, heads="abcde").axes
    across = axis.get_xticks().astype(int)
    last = torch.from_numpy(axis.images[0].get_array().data)[-8, across, 0]
    assert torch.allclose(last, torch.tensor([*images[5:, 0, 0, 0], canvas.EDGE, canvas.EDGE]), atol=1e-6)


def test_a_long_title_is_broken_and_widens_no_grid():
    images = torch.zeros(144, 1, 8, 8)
    with style.applied():
        plain, titled = canvas.labelled(images, 12), canvas.labelled(images, 12, title="an upper bound " * 10)
    assert plain.get_figwidth() == titled.get_figwidth()
    (text,) = titled.texts
    assert " ".join(text.get_text().split("\n")) == ("an upper bound " * 10).strip()
    assert text.get_window_extent().x0 >= 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("style.format=jpg", "style.format=jpg: Invalid value 'jpg', expected one of [png, svg, pdf]"),
        ("style.theme=black", "style.theme=black: Invalid value 'black'"),
        ("style.dpi=5", "style.dpi=5"),
        ("style.colour=red", "style.colour"),
    ],
)
def test_a_style_that_there_is_not_is_refused(words, says, tiny_run, capsys):
    before = sorted((tiny_run / "samples").iterdir())
    assert main(["sample", f"run={tiny_run}", words]) == 2
    assert says in capsys.readouterr().err
    assert sorted((tiny_run / "samples").iterdir()) == before


@pytest.mark.slow
def test_an_image_in_the_style_of_the_command(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run, "run")
    assert main(["sample", "run=run", "n=3", "style.format=svg", "style.theme=dark", "name=night"]) == 0
    text = (tmp_path / "run" / "samples" / "night.svg").read_text()
    assert "realnvp on moons; NLL = " in text
    assert style._PAPER["dark"].lower() in text
    assert main(["sample", "run=run", "picture=density", "picture.side=9", "style.format=pdf"]) == 0
    assert (tmp_path / "run" / "samples" / "density-side=9-seed0.pdf").read_bytes().startswith(b"%PDF")


def test_a_name_is_no_formula():
    with style.applied():
        assert style.rendered(canvas.labelled(torch.zeros(1, 1, 2, 2), 1, title=r"$\frac{"))


def test_a_film_is_a_gif_or_an_mp4():
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9]])
    film = canvas.Film([colour[:, None, None].expand(3, 31, 45) for colour in colours], seconds=0.2, pause=4)
    gif = Image.open(io.BytesIO(film.encoded("gif")))
    assert (gif.n_frames, gif.size) == (3, (45, 31))
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(film.encoded("mp4"))) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert file.duration / 1e6 == pytest.approx(0.2 * (3 + 3))
    assert len(frames) == 3 + 3  # the last one stays
    assert frames[0].shape == (32, 46, 3)  # of even sides
    for frame, colour in zip(frames, [*colours, colours[2]], strict=False):
        assert frame[15, 20] / 255 == pytest.approx(colour.numpy(), abs=0.03)


@pytest.mark.parametrize(("seconds", "shown"), [(0.2, 200), (0.001, 10), (0.29, 290)])
def test_a_gif_has_a_time_for_each_frame(seconds, shown):
    film = canvas.Film([torch.full((3, 4, 4), level) for level in (0.1, 0.5)], seconds=seconds)
    assert Image.open(io.BytesIO(film.encoded("gif"))).info["duration"] == shown


def test_without_the_package_an_mp4_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"^style\.film=mp4 needs PyAV: pip install 'gencli-nll\[video\]'$"):
        canvas.Film([torch.zeros(3, 4, 4)]).encoded("mp4")
