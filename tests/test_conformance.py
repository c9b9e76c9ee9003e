"""Every solver keeps the promises of all: one line each."""

import pytest

from daskalt import ADMM, BatchAltMin, GradientDescent, SteepestDescent, StochasticAltMin
from tests.conformance import Case, Conformance

TABLE = {
    "altmin": Case("altmin"),
    "altmin gradient z": Case(StochasticAltMin(z_step="gradient")),
    "altmin newton z": Case(StochasticAltMin(z_step="newton")),
    "altmin literal": Case(StochasticAltMin(z_step="newton", ridge_centre="zero")),
    "altmin low rank": Case(StochasticAltMin(rank=1)),
    "altmin local steps": Case(StochasticAltMin(local_steps=2, tasks=2)),
    "batch-altmin": Case("batch-altmin"),
    "batch-altmin l1": Case(BatchAltMin(coupling="l1")),
    "batch-altmin exact": Case(BatchAltMin(acceleration=None), monotone="objective"),
    "batch-altmin own z": Case(BatchAltMin(restart=False)),
    "admm": Case("admm"),
    "admm multiplier": Case(ADMM(warm_up=1, divergence=1e9)),
    "sgd": Case("sgd"),
    "adagrad": Case("adagrad"),
    "rmsprop": Case("rmsprop"),
    "adadelta": Case("adadelta"),
    "adam": Case("adam"),
    "adam full batch": Case(GradientDescent("adam", full_batch=True)),
    "gd": Case("gd", monotone="loss"),
    "gd exact": Case(SteepestDescent("exact"), monotone="loss"),
    "cg": Case("cg", monotone="loss"),
    "lbfgs": Case("lbfgs", monotone="loss"),
    "newton": Case("newton", hidden=(), monotone="loss"),
}


class TestEverySolver(Conformance):
    @pytest.fixture(scope="class", params=TABLE.values(), ids=TABLE)
    @classmethod
    def subject(cls, request):
        return request.param
