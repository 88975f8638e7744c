"""Decoding: every kind of file that datasets hold, and every way a file can be broken."""

import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from wsol.data import images
from wsol.data.images import BadImage, decoded_size, image_size, read_grey, read_image
from wsol.errors import InputError

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def photo():
    """A smooth picture: uint8 (30, 40, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 6, y * 8, (x + y) * 3], -1).astype(np.uint8)


def jpeg(photo, **options):
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "JPEG", quality=95, **options)
    return out.getvalue()


def by_pillow(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}])
def test_colour_jpegs_equal_pillow(tmp_path, photo, options):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo, **options))
    assert images._is_plain_jpeg(path.read_bytes())
    got = read_image(path)
    assert got.shape == (HEIGHT, WIDTH, 3)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - by_pillow(path)).max() <= 1
    assert np.abs(got.astype(int) - photo).mean() < 3


def test_grey_jpeg_has_three_equal_channels(tmp_path, photo):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo[..., 0]))
    got = read_image(path)
    assert (got == got[..., :1]).all()


def test_cmyk_jpeg_is_pillows(tmp_path, photo):
    path = tmp_path / "a.JPEG"
    Image.fromarray(photo).convert("CMYK").save(path)
    assert not images._is_plain_jpeg(path.read_bytes())
    np.testing.assert_array_equal(read_image(path), by_pillow(path))


def test_png_named_jpeg(tmp_path, photo):
    path = tmp_path / "a.JPEG"
    Image.fromarray(photo).save(path, "PNG")
    np.testing.assert_array_equal(read_image(path), photo)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_png_of_each_mode(tmp_path, photo, mode):
    path = tmp_path / "a.png"
    stored = Image.fromarray(photo).convert(mode)
    stored.save(path)
    np.testing.assert_array_equal(read_image(path), np.array(stored.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_the_colours_beneath_stay(tmp_path, photo, mode):
    stored = Image.fromarray(photo).convert("L" if mode == "LA" else "RGB")
    expected = np.array(stored.convert("RGB"))
    stored.putalpha(Image.fromarray((photo[..., 0] > 100).astype(np.uint8) * 255))
    path = tmp_path / "a.png"
    stored.save(path)
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("transparency", [0, bytes(range(200, 232))])
def test_transparent_palette_gives_no_warning(tmp_path, photo, transparency):
    path = tmp_path / "a.png"
    stored = Image.fromarray(photo).quantize(32)
    stored.save(path, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(path), np.array(stored.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    got = read_image(path)
    assert np.abs(got[..., 0] - values / 257).max() <= 0.5
    np.testing.assert_array_equal(read_grey(path), got[..., 0])


def test_floating_point_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(BadImage, match=r"a\.tif: floating-point"):
        read_image(path)


def test_orientation_is_left_as_stored(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo, exif=exif))
    assert read_image(path).shape == (HEIGHT, WIDTH, 3)


def test_broken_exif_does_not_matter(tmp_path, photo):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = jpeg(photo, exif=exif)
    at = data.index(b"Exif\0\0") + 6
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:at] + b"\xff" * 12 + data[at + 12 :])
    np.testing.assert_array_equal(read_image(path), read_image_of(tmp_path, jpeg(photo)))


def read_image_of(folder, data):
    path = folder / "other.jpg"
    path.write_bytes(data)
    return read_image(path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg_is_named(tmp_path, share, progressive):
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    data = jpeg(photo, progressive=progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImage, match=r"cut\.jpg: .*; replace the file$"):
        read_image(path)


def test_truncated_behind_a_thumbnail_is_named(tmp_path, photo):
    """The thumbnail in the EXIF block ends with an end marker of its own."""
    data = jpeg(photo, exif=b"Exif\0\0" + jpeg(photo[:8, :8]))
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(BadImage):
        read_image(path)


def test_bytes_behind_the_end_do_no_harm(tmp_path, photo):
    np.testing.assert_array_equal(
        read_image_of(tmp_path, jpeg(photo) + b"\0" * 99), read_image_of(tmp_path, jpeg(photo))
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"\x89PNG\r\n\x1a\n", ""),
    ],
)
def test_no_image_at_all(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=rf"a\.jpg: .*{reason}"):
        read_image(path)


def test_truncated_png_is_named(tmp_path, photo):
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    with pytest.raises(BadImage, match=r"cut\.png"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_grey, image_size, decoded_size])
def test_a_png_that_says_it_is_vast(tmp_path, photo, read):
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "PNG")
    header = b"IHDR" + (20_000).to_bytes(4) * 2 + out.getvalue()[24:29]
    data = out.getvalue()[:12] + header + zlib.crc32(header).to_bytes(4) + out.getvalue()[33:]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: .*Image size \(400000000 pixels\) exceeds limit"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_grey])
def test_missing_file_and_folder(tmp_path, read):
    with pytest.raises(BadImage, match="no such file"):
        read(tmp_path / "none.jpg")
    with pytest.raises(BadImage, match="a folder, expected a regular file"):
        read(tmp_path)


def test_grey_mask_keeps_its_values(tmp_path):
    mask = np.array([[0, 1, 255], [7, 8, 9]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "m.png"), mask)
    Image.fromarray(mask > 0).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "b.png"), (mask > 0) * 255)
