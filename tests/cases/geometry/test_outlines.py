import numpy as np
import pytest

from ggn_tf.cases.geometry.outlines import Outline, fill

SIZE = (20, 18)


def filled(*outlines, exclusive=False):
    return fill([Outline.of(np.array(points, dtype=float)) for points in outlines], SIZE, exclusive=exclusive)


def rectangle(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def pixels(*boxes):
    """The union of boxes of pixels; a box that starts with `-` in its first element is cut out."""
    region = np.zeros(SIZE[::-1], dtype=bool)
    for sign, (left, top, right, bottom) in boxes:
        region[top : bottom + 1, left : right + 1] = sign == "+"
    return region


OUTER, HOLE, ISLAND = rectangle(2, 3, 12, 13), rectangle(4, 5, 10, 11), rectangle(6, 7, 8, 9)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_pixels_on_the_outline_are_inside_in_whatever_direction_it_was_drawn(first, reverse):
    points = np.roll(OUTER, first, axis=0)[:: -1 if reverse else 1]
    np.testing.assert_array_equal(filled(points), pixels(("+", (2, 3, 12, 13))))


@pytest.mark.parametrize("off", [-0.014, 0.014])
def test_the_rounding_of_coordinates_does_not_move_the_outline(off):
    points = np.array(OUTER) + off * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    np.testing.assert_array_equal(filled(points), pixels(("+", (2, 3, 12, 13))))


def test_a_pixel_further_from_the_outline_than_rounding_is_on_its_side():
    np.testing.assert_array_equal(filled(rectangle(2.1, 3.1, 11.9, 12.9)), pixels(("+", (3, 4, 11, 12))))


def test_pixels_on_a_slanted_outline():
    region = filled([(3, 3), (9, 6), (3, 9)])
    # On the edge from (3, 3) to (9, 6) are (5, 4) and (7, 5).
    assert region[4, 5] and region[5, 7] and region[6, 9]
    assert not region[4, 6] and not region[5, 8]


def test_what_is_on_the_outline_of_a_hole_is_not_in_the_hole():
    expected = pixels(("+", (2, 3, 12, 13)), ("-", (5, 6, 9, 10)))
    np.testing.assert_array_equal(filled(OUTER, HOLE), expected)
    np.testing.assert_array_equal(filled(HOLE[::-1], OUTER), expected)
    np.testing.assert_array_equal(filled(OUTER, HOLE, exclusive=True), expected)


def test_an_island_in_a_hole():
    expected = pixels(("+", (2, 3, 12, 13)), ("-", (5, 6, 9, 10)), ("+", (6, 7, 8, 9)))
    np.testing.assert_array_equal(filled(ISLAND, OUTER, HOLE), expected)


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_outline_that_is_there_twice_counts_once(exclusive):
    again = np.roll(OUTER, 2, axis=0)[::-1] + 0.004
    with_middle = [OUTER[0], (7, 3), *OUTER[1:], OUTER[0]]
    expected = filled(OUTER, HOLE)
    np.testing.assert_array_equal(filled(OUTER, again, HOLE, with_middle, HOLE, exclusive=exclusive), expected)


def test_an_outline_that_goes_round_twice_goes_round_once():
    np.testing.assert_array_equal(filled([*OUTER, *OUTER]), filled(OUTER))


def test_an_outline_smaller_than_a_pixel_is_no_hole():
    """As in a lung of NSCLC-Radiomics, with an exclusion of an eighth of a pixel."""
    tiny = [(7.01, 7.0), (7.03, 7.0), (7.03, 7.02), (7.01, 7.02)]
    beside = [(8.3, 8.3), (8.42, 8.3), (8.42, 8.42), (8.3, 8.42)]
    np.testing.assert_array_equal(filled(OUTER, beside, tiny), filled(OUTER))


def test_outlines_that_cross_are_joined_unless_they_are_exclusive():
    one, other = rectangle(2, 3, 8, 9), rectangle(6, 5, 12, 11)
    np.testing.assert_array_equal(filled(one, other), pixels(("+", (2, 3, 8, 9)), ("+", (6, 5, 12, 11))))
    exclusive = filled(one, other, exclusive=True)
    assert exclusive[4, 4] and exclusive[10, 10] and not exclusive[7, 7]


@pytest.mark.parametrize("exclusive", [False, True])
def test_outlines_that_share_an_edge_have_no_gap(exclusive):
    one, other = rectangle(2, 3, 8, 9), rectangle(8, 3, 14, 9)
    np.testing.assert_array_equal(filled(one, other, exclusive=exclusive), pixels(("+", (2, 3, 14, 9))))


@pytest.mark.parametrize("exclusive", [False, True])
def test_many_outlines_inside_one_another(exclusive):
    outlines = [Outline.of(np.array(rectangle(2 * n, 2 * n, 200 - 2 * n, 200 - 2 * n), dtype=float)) for n in range(40)]
    middle = fill(outlines, (201, 201), exclusive=exclusive)[100]
    # Two pixels apart: the pixel between an outline and the hole in it is inside, that between the hole and the next
    # outline is not; beyond the last hole there is nothing.
    assert middle[:79].tolist() == [column % 4 != 3 for column in range(79)]
    assert not middle[79:122].any()


def test_a_hole_in_one_of_two_outlines_that_cross():
    one, other, hole = rectangle(2, 2, 12, 12), rectangle(10, 2, 17, 12), rectangle(4, 4, 8, 8)
    expected = pixels(("+", (2, 2, 17, 12)), ("-", (5, 5, 7, 7)))
    np.testing.assert_array_equal(filled(one, other, hole), expected)
    # Both are around it.
    both = rectangle(5, 1, 17, 13)
    around = filled(rectangle(2, 2, 14, 12), both, rectangle(7, 4, 11, 8))
    assert not around[6, 9] and around[3, 9]


def test_a_keyhole_leads_into_the_hole():
    keyhole = [*OUTER, OUTER[0], HOLE[0], HOLE[3], HOLE[2], HOLE[1], HOLE[0]]
    np.testing.assert_array_equal(filled(keyhole), filled(OUTER, HOLE))
    np.testing.assert_array_equal(filled(keyhole, ISLAND), filled(OUTER, HOLE, ISLAND))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(4, 5)], [(4, 5)]),
        ([(4, 5), (7, 5)], [(4, 5), (5, 5), (6, 5), (7, 5)]),
        ([(4, 5), (7, 8)], [(4, 5), (5, 6), (6, 7), (7, 8)]),
        ([(4.4, 5.4)], []),
        ([(4.4, 5.4), (4.4, 9)], []),
    ],
)
def test_one_point_and_two_points_are_the_pixels_that_they_are_on(points, expected):
    assert np.argwhere(filled(points).T).tolist() == [list(pixel) for pixel in expected]


def test_an_outline_along_the_edge_of_the_image():
    assert filled(rectangle(-0.5, -0.5, 19.5, 17.5)).all()
    assert filled(rectangle(0, 0, 19, 17)).all()


@pytest.mark.parametrize("seed", range(20))
def test_random_outlines_equal_another_implementation(seed):
    """matplotlib's test of points, which is the even-odd rule away from the outline."""
    from matplotlib.path import Path

    generator = np.random.default_rng(seed)
    points = generator.uniform(1, 16, (generator.integers(3, 30), 2))
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    expected = Path(points, closed=False).contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    outline = Outline.of(points)
    found = filled(points)
    region = np.zeros_like(found)
    left, top = outline.start_xy
    height, width = outline.on.shape
    region[top : top + height, left : left + width] = outline.on
    np.testing.assert_array_equal(found[~region], expected[~region])
