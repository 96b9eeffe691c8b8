import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import ExitCode, InvalidInputError, UsageError
from mouthpiece.face.crop import transform_points
from mouthpiece.face.detect import (
    Face,
    FaceChoice,
    choose_face,
    confirm_face,
    find_faces,
    find_faces_fast,
    find_faces_mediapipe,
    find_faces_mtcnn,
    make_face_at_point,
    parse_face_choice,
    pick_face,
)

EYES_AND_MOUTH = np.array([[205, 101.7], [246.8, 103.7], [201.7, 139.2], [245.3, 141.9]])  # of the photo, by MTCNN


def frontal(x=100.0, y=100.0, nose_shift=0.0, score=0.99):
    points = np.array([[x - 20, y - 20], [x + 20, y - 20], [x - 16, y + 20], [x + 16, y + 20]])
    return Face(np.array([x - 45, y - 55, x + 45, y + 55]), points, score, "mtcnn", np.array([x + nose_shift, y]))


def test_the_photographed_face_is_found_with_its_eyes_and_mouth_where_they_are(photo):
    faces = find_faces(photo)
    assert len(faces) == 1 and faces[0].source == "mtcnn" and faces[0].score > 0.99
    assert np.abs(faces[0].points - EYES_AND_MOUTH).max() < 0.5
    assert abs(faces[0].rough_yaw_deg) < 10


@pytest.mark.parametrize("angle_deg, scale", [(30, 1.0), (-45, 0.8), (90, 1.0), (180, 1.0), (0, 0.3)])
def test_points_follow_a_turned_or_scaled_copy(photo, angle_deg, scale):
    matrix = cv2.getRotationMatrix2D((224, 120), angle_deg, scale)
    matrix[:, 2] += [32, 120]
    turned = cv2.warpAffine(photo, matrix, (512, 512), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    face = find_faces(turned)[0]
    assert np.abs(face.points - transform_points(matrix, EYES_AND_MOUTH)).max() < 0.1 * 42 * scale + 1


def test_a_picture_of_twelve_megapixels_gives_the_same_face_as_a_small_one(photo):
    large = cv2.resize(photo, (3500, 3500))
    assert np.abs((find_faces(large)[0].points + 0.5) * 512 / 3500 - 0.5 - EYES_AND_MOUTH).max() < 2


def test_a_face_that_fills_the_picture_is_found(photo):
    assert len(find_faces(np.ascontiguousarray(photo[80:160, 192:260]))) == 1


def test_a_drawn_face_is_found_by_both_detectors_in_the_same_place(drawing):
    first, second = pick_face(drawing), find_faces_mediapipe(drawing)[0]
    assert np.abs(first.points[:2] - [[165, 175], [235, 175]]).max() < 6
    assert np.abs(first.points[2:].mean(0) - [200, 262]).max() < 8
    assert np.abs(first.points - second.points).max() < 0.2 * 70


def test_mediapipe_takes_over_where_mtcnn_sees_nothing(drawing, monkeypatch):
    monkeypatch.setattr("mouthpiece.face.detect.find_faces_mtcnn", lambda image: [])
    faces = find_faces(drawing)
    assert [f.source for f in faces] == ["mediapipe"] and find_faces_fast(drawing)[0].source == "mediapipe"


def test_three_faces_are_counted_and_chosen_by_size_index_and_place(photo):
    head = photo[20:220, 120:320]
    row = np.full((320, 800, 3), 128, np.uint8)
    for x, size in ((10, 160), (220, 300), (560, 220)):
        row[10 : 10 + size, x : x + size] = cv2.resize(head, (size, size), interpolation=cv2.INTER_AREA)
    faces = find_faces(row)
    assert len(faces) == 3 and faces[0].area_px >= faces[1].area_px >= faces[2].area_px
    assert 220 < choose_face(faces, "largest", "row.png").centre[0] < 520
    assert 560 < choose_face(faces, "1", "row.png").centre[0] < 780
    assert choose_face(faces, "90,90", "row.png") is faces[2]
    with pytest.raises(InvalidInputError, match=r"row.png: face 3 asked for, 3 found .*--face 0 to 2"):
        choose_face(faces, "3", "row.png")


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (12, 12, 3), (240, 320, 3)])
def test_a_picture_without_a_face_is_refused_with_both_scores_and_the_way_out(shape):
    with pytest.raises(
        InvalidInputError, match=r"blank.png: no face found \(best score 0\.\d\d, need 0\.60\)\. .*--face x,y"
    ) as caught:
        pick_face(np.full(shape, 128, np.uint8), name="blank.png")
    assert caught.value.exit_code == ExitCode.REFUSED


def test_a_face_no_detector_sees_is_refused_and_then_placed_by_hand(plain_drawing):
    with pytest.raises(InvalidInputError, match="--face x,y"):
        pick_face(plain_drawing)
    face = pick_face(plain_drawing, "150,147,110")
    assert face.source == "hand" and np.allclose(face.points.mean(0), [150, 147])
    assert face.points[:2, 1].max() < 147 < face.points[2:, 1].min()
    assert face.points[1, 0] - face.points[0, 0] == pytest.approx(0.46 * 110)


def test_pointing_near_a_border_places_a_face_that_stays_in_the_picture():
    face = make_face_at_point((300, 400, 3), (30, 150))
    assert face.source == "hand" and face.box_xyxy[0] >= 0 and abs(face.points.mean(0)[0] - 30) < 1e-9
    assert make_face_at_point((300, 400, 3), (200, 150)).area_px > face.area_px
    assert pick_face(np.zeros((1, 1, 3), np.uint8), "0,0").source == "hand"


def test_pointing_at_a_small_face_finds_its_true_points_in_an_enlarged_view(photo):
    small = np.full((600, 800, 3), 128, np.uint8)
    small[300:364, 500:564] = cv2.resize(photo[20:220, 120:320], (64, 64), interpolation=cv2.INTER_AREA)
    face = choose_face([], "532,333,28", "small.png", small)
    wanted = (EYES_AND_MOUTH - [120, 20] + 0.5) * 64 / 200 - 0.5 + [500, 300]
    assert face.source != "hand" and np.abs(face.points - wanted).max() < 2


def test_pointing_outside_the_picture_says_what_is_inside(photo):
    with pytest.raises(UsageError, match=r"--face 900,20 lies outside the picture \(512 x 512 px\)"):
        pick_face(photo, "900,20")


def test_yaw_grows_with_the_nose_leaving_the_middle_and_changes_sign_with_it():
    turns = [frontal(nose_shift=s).rough_yaw_deg for s in (-40, -10, 0, 10, 40)]
    assert turns == sorted(turns) and turns[2] == 0 and turns[3] == -turns[1]
    assert abs(frontal(nose_shift=20).rough_yaw_deg - 45) < 1e-9


def test_an_extreme_profile_is_refused_unless_pointed_at():
    side = frontal(nose_shift=60)
    with pytest.raises(InvalidInputError, match=r"turned about \d\d degrees away.*--face x,y"):
        choose_face([side], "largest", "side.png")
    assert choose_face([side], "100,100", "side.png") is side


@pytest.mark.parametrize("choice", ["", "smallest", "-1", "1.5", "3,4,5,6", "nan,3", "4,-3", "3,4,0", "a,b"])
def test_a_choice_of_face_that_means_nothing_is_a_usage_problem(choice):
    with pytest.raises(UsageError, match="largest, an index"):
        parse_face_choice(choice)


def test_choices_are_read_as_written():
    assert parse_face_choice("largest") == FaceChoice(index=None, point=None, width_px=None)
    assert parse_face_choice(" 2 ").index == 2
    assert parse_face_choice("10.5,20") == FaceChoice(index=None, point=(10.5, 20), width_px=None)
    assert parse_face_choice("10,20,80").width_px == 80


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), None]
)
def test_what_is_no_image_is_named(image):
    with pytest.raises(UsageError, match="need RGB uint8"):
        find_faces(image)


def test_confirming_keeps_the_place_and_denies_an_empty_one(photo):
    face = find_faces_mtcnn(photo)[0]
    assert np.abs(confirm_face(photo, face).points - face.points).max() < 2.5
    assert confirm_face(photo, make_face_at_point(photo.shape, (420, 420), 80)) is None


def test_a_face_moved_there_and_back_is_the_same():
    face, shift = frontal(nose_shift=3), np.array([[2.0, 0, 5], [0, 2.0, -7]])
    back = face.transform(shift).transform(cv2.invertAffineTransform(shift))
    assert (
        np.allclose(back.points, face.points)
        and np.allclose(back.box_xyxy, face.box_xyxy)
        and np.allclose(back.nose, face.nose)
    )
