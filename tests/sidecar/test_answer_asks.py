"""One ask answered: by a server that comes back, by one with stale weights, for a checkpoint that has gone."""

import numpy as np
import pytest

from guardrail.engines.vllm_client import VllmServer
from guardrail.guard.asked_looks import Asked, Measurement, read_answer
from guardrail.guard.measure_look import Meter
from guardrail.recipe import read_recipe
from guardrail.sidecar.answer_asks import Answerer
from guardrail.trainers.attach import Guardrail
from tests.engines.toy_server import ToyServer
from tests.run_fixtures import anchored, small_recipe

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore")]


def ask(checkpoint, *, step=4, trigger="save"):
    return Asked(f"token{step}{trigger}", step, 1, trigger, str(checkpoint), 1)


@pytest.fixture(scope="module")
def meter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anchored")
    decoding = {"mode": "greedy", "max_new_tokens": 24}
    file = anchored(small_recipe(folder, items_an_ability=3, looks={"decoding": decoding}))
    guarded = Guardrail.from_recipe(read_recipe(file))
    run = folder / "run"
    run.mkdir()
    return Meter(guarded.recipe, run, guarded.anchors(), guarded.red_line, []), guarded.rehearsal


def answerer(meter, server=None):
    asked = None if server is None else VllmServer(server.url, 4, pause_s=0.001)
    return Answerer(*meter, True, asked, pause_s=0.001, lag_s=0.0)


def test_a_server_that_was_away_answers_as_this_process_does(meter):
    one = meter[0]
    base = one.recipe.start_model
    heard = []
    with ToyServer(base) as toy:
        toy.unwell = 15
        answerer(meter, toy).answer(ask(base, step=0, trigger="start"), heard.append)
    assert len(heard) == 2, "two looks of six tries each"
    assert "503" in heard[0]
    found = read_answer(one.run, ask(base, step=0, trigger="start"))
    assert isinstance(found, Measurement)
    assert found.served["proof"]["tokens"] > 0
    answerer(meter).answer(ask(base), heard.append)
    here = read_answer(one.run, ask(base))
    for name, table in here.values.items():
        np.testing.assert_array_equal(found.values[name], table, err_msg=name)
    assert (one.run / here.answers).is_file()
    assert here.answers != found.answers


def test_what_cannot_be_measured_is_said_in_the_answer(meter, tmp_path):
    run, base = meter[0].run, meter[0].recipe.start_model
    answerer(meter).answer(ask(tmp_path / "checkpoint-8", step=8), pytest.fail)
    assert "is not here, or holds no model" in read_answer(
        run, ask(tmp_path / "checkpoint-8", step=8)
    )
    with ToyServer(base) as toy:
        toy.models["toy"].get_input_embeddings().weight.data.mul_(1.5)
        answerer(meter, toy).answer(ask(base, step=12), pytest.fail)
    assert "does not answer as `toy` with the weights of" in read_answer(run, ask(base, step=12))
