"""``npu.Predictor``: a function of arrays by name that can be sent to workers."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import npu
import numpy as np
import pytest
import torch
from npu_base.errors import InvalidTypeError, InvalidValueError, MissingFileError
from torch import nn


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2)

    def forward(self, image, shift):
        logits = self.linear(image) + shift
        return {"logits": logits, "best": logits.argmax(1)}


IMAGE, SHIFT = np.ones((4, 3), "float32"), np.zeros(2, "float32")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("predictor") / "scores.npu"
    npu.compile(Scores().eval(), (torch.from_numpy(IMAGE), torch.from_numpy(SHIFT)), device="cpu").save(path)
    return path


def wanted(image):
    return Scores()(torch.from_numpy(image), torch.from_numpy(SHIFT))["logits"].detach().numpy()


def test_arrays_by_name(path):
    predict = npu.Predictor(path, device="cpu", threads=1)
    results = predict({"shift": SHIFT, "image": IMAGE})
    assert list(results) == ["logits", "best"] and results["best"].dtype == np.int64
    np.testing.assert_allclose(results["logits"], wanted(IMAGE), rtol=1e-5)
    columns = {"shift": torch.from_numpy(SHIFT), "image": torch.from_numpy(IMAGE)}
    np.testing.assert_allclose(predict(columns)["logits"], wanted(IMAGE), rtol=1e-5)


def predict_elsewhere(predict, image):
    return predict({"image": image, "shift": SHIFT})["logits"]


def test_workers(path):
    predict = npu.Predictor(path, device="cpu", threads=1)
    predict({"image": IMAGE, "shift": SHIFT})
    assert len(pickle.dumps(predict)) < 1000  # not the model
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = pool.starmap(predict_elsewhere, [(predict, IMAGE), (predict, IMAGE * 2)])
    for result, image in zip(results, (IMAGE, IMAGE * 2), strict=True):
        np.testing.assert_allclose(result, wanted(image), rtol=1e-5)


def test_threads(path):
    predict = npu.Predictor(path, device="cpu", threads=1)
    images = [np.full((4, 3), i, "float32") for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda image: predict_elsewhere(predict, image), images))
    for image, result in zip(images, results, strict=True):
        np.testing.assert_allclose(result, wanted(image), rtol=1e-4, atol=1e-5)


MASKED = np.ma.masked_less(np.arange(12, dtype="float32").reshape(4, 3), 2)
WRONG = [
    ({"image": MASKED, "shift": SHIFT}, r"column 'image' has masked elements; got 2 of 12; .*try \.filled"),
    ({"image": IMAGE}, "got missing shift; expected image float32"),
    ({"image": IMAGE, "shift": SHIFT, "label": SHIFT}, "got unknown label"),
    ({"Image": IMAGE, "shift": SHIFT}, "got missing image; unknown Image"),
    ({"image": IMAGE.astype("float64"), "shift": SHIFT}, r"column 'image' .*got float64\[4, 3\].*astype\('float32'\)"),
    ({"image": IMAGE[:3], "shift": SHIFT}, r"got float32\[3, 3\]; expected float32\[4, 3\].*batches of the size"),
    ({"image": np.concatenate([IMAGE, IMAGE]), "shift": SHIFT}, r"got float32\[8, 3\]"),
    ({"image": IMAGE.astype(object), "shift": SHIFT}, r"got object\[4, 3\]"),
    ({"image": [[1.0, "x", 2.0]] * 4, "shift": SHIFT}, r"got <U"),
    ({"image": [[1.0], [1.0, 2.0]], "shift": SHIFT}, "column 'image' is not an array"),
    (IMAGE, "a predictor takes a dict of arrays; got ndarray; expected image float32"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG)
def test_wrong_columns(path, columns, message):
    with pytest.raises(InvalidValueError, match=message):
        npu.Predictor(path, device="cpu")(columns)


def test_masks_that_hide_nothing(path):
    """The other ones are refused, also by the model itself."""
    predict, plain = npu.Predictor(path, device="cpu"), np.ma.masked_array(IMAGE)
    for image in (plain, np.ma.masked_less(IMAGE, 0)):
        np.testing.assert_allclose(predict({"image": image, "shift": SHIFT})["logits"], wanted(IMAGE), rtol=1e-5)
    with pytest.raises(InvalidValueError, match="Input 'image': 2 of its 12 elements are masked"):
        npu.load(path, "cpu")(MASKED, SHIFT)


def test_wrong_options(tmp_path):
    predict = npu.Predictor(tmp_path / "later.npu", device="cpu")  # opened at the first call
    with pytest.raises(MissingFileError, match="later.npu"):
        predict({})
    with pytest.raises(InvalidTypeError, match="must be a name"):
        npu.Predictor("model.npu", device=npu.Device("cpu"))
    with pytest.raises(InvalidTypeError, match="a path has the wrong type; got int"):
        npu.Predictor(5)


def test_a_relative_path_is_that_of_where_it_was_made(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)
    predictor = npu.Predictor(path.name, device="cpu", threads=1)
    pickled = pickle.dumps(predictor)
    monkeypatch.chdir(tmp_path)
    for predict in (predictor, pickle.loads(pickled), pickle.loads(pickle.dumps(predictor))):
        result = predict({"image": IMAGE, "shift": SHIFT})["logits"]
        np.testing.assert_allclose(result, wanted(IMAGE), rtol=1e-5)
