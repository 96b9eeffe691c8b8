import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, OutputError, UsageError
from mouthpiece.engine.media.images import MAX_SIDE_PX, read_image, write_image


def slope(height_px=48, width_px=64):
    """Rises to the right in red, downwards in green: every turn and flip shows."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    return np.stack([x * 255 // (width_px - 1), y * 255 // (height_px - 1), np.full_like(x, 40)], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_picture_written_and_read_again_is_the_same(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, slope())
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, slope())
    assert picture.original_size_px == (64, 48) and not picture.is_reduced
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_turn_comes_out_upright(tmp_path, suffix, orientation):
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    upright = Image.fromarray(slope())
    back = Image.Exif()
    back[0x0112] = undo
    upright.info["exif"] = back.tobytes()
    lying = ImageOps.exif_transpose(upright)
    tag = Image.Exif()
    tag[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.asarray(lying)).save(path, exif=tag, quality=95)
    picture = read_image(path)
    assert picture.pixels.shape == (48, 64, 3)
    assert picture.original_size_px == (64, 48) and not picture.is_reduced
    assert np.abs(picture.pixels.astype(int) - slope()).mean() < 6


def test_cmyk_comes_out_as_rgb(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(slope()).convert("CMYK").save(path, quality=98)
    assert np.abs(read_image(path).pixels.astype(int) - slope()).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_see_through_parts_show_white(tmp_path, mode):
    path = tmp_path / "a.png"
    if mode == "P":
        image = Image.new("P", (40, 40), 0)
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.paste(1, (20, 0, 40, 40))
        image.save(path, transparency=0)
        seen = (200, 100, 50)
    else:
        image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        image.paste((90, 90, 90, 255), (20, 0, 40, 40))
        image.convert(mode).save(path)
        seen = (90, 90, 90)
    pixels = read_image(path).pixels
    assert tuple(pixels[5, 5]) == (255, 255, 255)
    assert tuple(pixels[5, 30]) == seen


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (40, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png").pixels
    assert pixels.shape == (40, 256, 3)
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_grey_and_bilevel_pictures_get_three_channels(tmp_path):
    Image.new("L", (40, 40), 77).save(tmp_path / "grey.png")
    Image.new("1", (40, 40), 1).save(tmp_path / "bits.png")
    assert tuple(read_image(tmp_path / "grey.png").pixels[0, 0]) == (77, 77, 77)
    assert tuple(read_image(tmp_path / "bits.png").pixels[0, 0]) == (255, 255, 255)


def test_a_colour_profile_other_than_srgb_is_applied(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    swapped = swapped.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")  # red means blue
    Image.new("RGB", (40, 40), (200, 20, 20)).save(tmp_path / "plain.png", icc_profile=srgb)
    Image.new("RGB", (40, 40), (200, 20, 20)).save(tmp_path / "swapped.png", icc_profile=swapped)
    assert tuple(read_image(tmp_path / "plain.png").pixels[0, 0]) == (200, 20, 20)
    red, _, blue = read_image(tmp_path / "swapped.png").pixels[0, 0].astype(int)
    assert blue > red + 100


def test_a_picture_of_12000_pixels_is_reduced_and_says_so(tmp_path):
    image = Image.new("L", (12_000, 9_000), 30)
    image.paste(220, (6_000, 0, 12_000, 9_000))
    image.save(tmp_path / "a.png", compress_level=1)
    picture = read_image(tmp_path / "a.png")
    assert picture.pixels.shape == (3072, MAX_SIDE_PX, 3)
    assert picture.original_size_px == (12_000, 9_000) and picture.is_reduced
    assert picture.pixels[0, 0, 0] == 30 and picture.pixels[0, -1, 0] == 220


def test_a_picture_is_reduced_to_the_side_asked_for(tmp_path):
    write_image(tmp_path / "a.png", slope(300, 600))
    assert read_image(tmp_path / "a.png", max_side_px=200).pixels.shape == (100, 200, 3)


def test_a_picture_beyond_the_pixel_limit_is_refused(tmp_path):
    Image.new("1", (14_000, 13_000)).save(tmp_path / "a.png")
    with pytest.raises(InvalidInputError, match="million pixels"):
        read_image(tmp_path / "a.png")


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_picture_cut_off_is_refused_by_name(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    write_image(path, np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    cut(path, share)
    with pytest.raises(InvalidInputError, match=f"a{suffix}.*again"):
        read_image(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "dot.png").parent.joinpath("folder.png").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    for name, said in [
        ("text", "not a picture"),
        ("empty", "empty"),
        ("folder", "folder"),
        ("dot", "1 x 1"),
        ("none", "no such"),
    ]:
        with pytest.raises(InvalidInputError, match=f"{name}.png: .*{said}") as caught:
            read_image(tmp_path / f"{name}.png")
        assert caught.value.hint


def test_writing_never_replaces_unasked_and_never_an_input(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, slope())
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        write_image(path, slope()[::-1])
    with pytest.raises(UsageError, match="input"):
        write_image(path, slope()[::-1], overwrite=True, inputs=(path,))
    assert path.read_bytes() == before
    write_image(path, slope()[::-1], overwrite=True)
    np.testing.assert_array_equal(read_image(path).pixels, slope()[::-1])


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="gif"):
        write_image(tmp_path / "a.gif", slope())
    with pytest.raises(OutputError, match="does not exist"):
        write_image(tmp_path / "no" / "a.png", slope())
    with pytest.raises(MouthpieceError, match="float"):
        write_image(tmp_path / "a.png", slope().astype(float))
    assert list(tmp_path.iterdir()) == []
