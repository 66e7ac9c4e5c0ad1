"""Terms of exponential random graphs as they are written: ``gwesp(0.5)``, ``nodecov(wealth)``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gencli.core.errors import near, quoted
from gencli.core.spec import Graph
from gencli.models.energy.ergm_terms import (
    DyadCovariates,
    GeometricDegrees,
    GeometricSharedPartners,
    KStars,
    Mutual,
    Term,
    Triangles,
)

Value = float | str


def parse(text: str, graph: Graph) -> Term:
    """The term of a graph that a text names.

    Raises:
        ValueError: there is no such term, its argument is wrong, or the graph lacks what it needs; in one line.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(.*?)\s*\))?\s*", text)
    name, argument = (match[1], match[2]) if match else (text, None)
    if name not in _TERMS:
        raise _error(text, f"there is no such term. {near(name, _TERMS)}")
    needs, make = _TERMS[name]
    if (argument is None or argument == "") != (needs == ""):
        raise _error(text, f"{name}({needs}) is needed" if needs else f"{name} takes no argument")
    return make(text.strip(), argument or "", graph)


def _error(text: str, what: str) -> ValueError:
    return ValueError(f"model.terms: {quoted(text)}: {what}")


def _edges(text: str, argument: str, graph: Graph) -> Term:
    return DyadCovariates(("edges",), torch.ones(graph.nodes, graph.nodes, 1))


def _mutual(text: str, argument: str, graph: Graph) -> Term:
    if not graph.directed:
        raise _error(text, "needs a directed network; this one is undirected")
    return Mutual()


def _triangles(text: str, argument: str, graph: Graph) -> Term:
    return Triangles()


def _stars(text: str, argument: str, graph: Graph) -> Term:
    _need_undirected(text, graph)
    if not argument.isdecimal() or not 2 <= int(argument) <= 20:
        raise _error(text, "k is an integer from 2 to 20 (kstar(1) would be twice the edges)")
    return KStars(int(argument))


def _degrees(text: str, argument: str, graph: Graph) -> Term:
    _need_undirected(text, graph)
    return GeometricDegrees(_decay(text, argument))


def _partners(text: str, argument: str, graph: Graph) -> Term:
    return GeometricSharedPartners(_decay(text, argument))


def _factor(text: str, argument: str, graph: Graph) -> Term:
    values = _attribute(text, argument, graph)
    levels = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if len(levels) < 2:
        raise _error(text, "all nodes have the same value")
    names = tuple(f"{text}.{_plain(level)}" for level in levels[1:])
    has = torch.tensor([[float(value == level) for level in levels[1:]] for value in values])
    return DyadCovariates(names, has[:, None] + has[None])


def _match(text: str, argument: str, graph: Graph) -> Term:
    values = _attribute(text, argument, graph)
    same = torch.tensor([[float(a == b) for b in values] for a in values])
    return DyadCovariates((text,), same[..., None])


def _covariate(text: str, argument: str, graph: Graph) -> Term:
    v = _numbers(text, argument, graph)
    return DyadCovariates((text,), (v[:, None] + v[None])[..., None])


def _difference(text: str, argument: str, graph: Graph) -> Term:
    v = _numbers(text, argument, graph)
    return DyadCovariates((text,), (v[:, None] - v[None]).abs()[..., None])


def _edge_covariate(text: str, argument: str, graph: Graph) -> Term:
    covariates = dict(graph.covariates)
    if argument not in covariates:
        raise _error(text, _lacking("covariates of dyads", argument, covariates))
    return DyadCovariates((text,), torch.tensor(covariates[argument], dtype=torch.float64)[..., None])


_TERMS: dict[str, tuple[str, Callable[[str, str, Graph], Term]]] = {
    "edges": ("", _edges),
    "mutual": ("", _mutual),
    "triangles": ("", _triangles),
    "triangle": ("", _triangles),
    "kstar": ("k", _stars),
    "gwdegree": ("decay", _degrees),
    "gwesp": ("decay", _partners),
    "nodecov": ("attribute", _covariate),
    "nodefactor": ("attribute", _factor),
    "nodematch": ("attribute", _match),
    "absdiff": ("attribute", _difference),
    "edgecov": ("covariate", _edge_covariate),
}
"""What each term's argument is, and what makes it; statnet knows both names of triangles."""


def _need_undirected(text: str, graph: Graph) -> None:
    if graph.directed:
        raise _error(text, "needs an undirected network; this one is directed")


def _decay(text: str, argument: str) -> float:
    try:
        decay = float(argument)
    except ValueError:
        decay = math.nan
    if not 0 <= decay <= 10:
        raise _error(text, "the decay is a number from 0 to 10")
    return decay


def _attribute(text: str, argument: str, graph: Graph) -> Sequence[Value]:
    attributes = dict(graph.attributes)
    if argument not in attributes:
        raise _error(text, _lacking("attributes", argument, attributes))
    return attributes[argument]


def _numbers(text: str, argument: str, graph: Graph) -> Tensor:
    values = _attribute(text, argument, graph)
    if any(isinstance(value, str) for value in values):
        raise _error(text, f"attribute '{argument}' is text; nodefactor or nodematch takes it")
    return torch.tensor(values, dtype=torch.float64)


def _lacking(what: str, name: str, known: Mapping[str, object]) -> str:
    return f"the data have no {name!r}. {near(name, known)}" if known else f"the data have no {what}"


def _plain(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
