"""Networks as data: the embedded ones are the published ones, and files of every kind are read alike."""

from __future__ import annotations

import csv
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from data_sets import FETCHED, needs_files

from gencli.core.errors import UsageError
from gencli.core.spec import Graph
from gencli.data.networks import to_adjacency, to_dyads
from gencli.data.sets.florentine import Florentine
from gencli.data.sets.graph import GraphFile
from gencli.data.sets.karate import Karate
from gencli.data.sets.lazega import Lazega


def folder() -> Path:
    return Path(str(FETCHED)) / "graphs"


def test_karate_is_that_of_networkx():
    data, network = Karate(), nx.karate_club_graph()
    assert np.array_equal(data.adjacency, nx.to_numpy_array(network, weight=None))
    assert dict(data.spec.graph.attributes)["club"] == tuple(nx.get_node_attributes(network, "club").values())


@needs_files
def test_embedded_networks_equal_the_published_files():
    for ties in ("marriage", "business"):
        rows = list(csv.reader((folder() / f"florentine_{ties}.csv").open()))
        data = Florentine(ties)
        assert np.array_equal(data.adjacency, np.array([row[1:] for row in rows[1:]], dtype=int))
        other = np.array(data.spec.graph.covariates[0][1])
        assert np.array_equal(other, Florentine(data.spec.graph.covariates[0][0]).adjacency)
    rows = list(csv.DictReader((folder() / "florentine_attributes.csv").open()))
    for key, values in Florentine().spec.graph.attributes:
        assert [int(row[key]) for row in rows] == list(values)

    work = np.loadtxt(folder() / "ELwork.dat")[:36, :36]
    assert np.array_equal(Lazega().adjacency, work * work.T)
    table = np.loadtxt(folder() / "ELattr.dat")[:36]
    own = dict(Lazega().spec.graph.attributes)
    for k, key in enumerate(("gender", "office", "years", "age", "practice", "school"), start=2):
        assert table[:, k].tolist() == list(own[key])
    assert [round(36 * value) for value in own["seniority"]] == table[:, 0].tolist()


def test_one_network_is_in_sample():
    for data, ties in ((Karate(), 78), (Florentine(), 20), (Florentine("business"), 15), (Lazega(), 115)):
        train, test = data.split("train"), data.split("test")
        assert (len(train), int(train.x.sum()), data.split("val")) == (1, ties, None)
        assert train.sha256 == test.sha256
        assert data.in_sample
        assert data.train_on == "all"


@pytest.mark.parametrize("directed", [False, True])
def test_dyads_and_matrices_are_the_same_networks(directed):
    graph = Graph(5, directed)
    x = (torch.rand(4, graph.size, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    matrices = to_adjacency(x, graph)
    assert torch.equal(to_dyads(matrices, graph), x)
    assert (np.array_equal(matrices, matrices.transpose(0, 2, 1))) != directed
    assert matrices.sum() == x.sum() * (1 if directed else 2)


def files(folder: Path) -> list[Path]:
    """The karate club in six kinds of files, nodes 1 to 34."""
    network = nx.relabel_nodes(nx.karate_club_graph(), lambda node: node + 1)
    matrix = nx.to_numpy_array(network, weight=None).astype(int)
    nx.write_graphml(network, folder / "k.graphml")
    nx.write_gml(network, folder / "k.gml")
    (folder / "edges.csv").write_text("from,to\n" + "".join(f"{i},{j}\n" for i, j in network.edges))
    (folder / "spaces.txt").write_text("# a comment\n" + "".join(f"{i} {j} 2\n" for i, j in network.edges))
    np.savetxt(folder / "matrix.csv", matrix, fmt="%d", delimiter=",")
    names = ",".join(map(str, network.nodes))
    rows = (f"{node},{','.join(map(str, row))}" for node, row in zip(network.nodes, matrix, strict=True))
    (folder / "named.csv").write_text(f"club,{names}\n" + "\n".join(rows))
    np.save(folder / "k.npy", matrix)
    return sorted(path for path in folder.iterdir())


def test_files_of_every_kind_are_the_same_network(tmp_path):
    """And a run that is opened again reads them by what it keeps."""
    known = Karate().split("train")
    for path in files(tmp_path):
        data = GraphFile(path=str(path))
        assert data.split("train").sha256 == known.sha256, path
        assert data.spec.graph.names == tuple(map(str, range(1, 35)))
        opened = GraphFile(path=str(path))
        opened.apply(data.schema())
        assert opened.spec == data.spec
        assert opened.in_sample
        assert opened.split("test").sha256 == known.sha256
        assert data.understood()[-1].startswith(f"{path.stem}: 1 undirected network of 34 nodes, 78 ties")


def test_attributes_and_isolates_come_with_the_nodes(tmp_path):
    files(tmp_path)
    rows = "".join(f"{k},{k % 3},{'ab'[k % 2]}\n" for k in range(1, 36))
    (tmp_path / "nodes.csv").write_text("name,score,group\n" + rows)
    data = GraphFile(path=str(tmp_path / "edges.csv"), nodes=str(tmp_path / "nodes.csv"))
    graph = data.spec.graph
    assert graph.nodes == 35
    assert int(data.split("train").x.sum()) == 78
    attributes = dict(graph.attributes)
    assert attributes["score"][:3] == (1.0, 2.0, 0.0)
    assert attributes["group"][:3] == ("b", "a", "b")
    marked = GraphFile(path=str(tmp_path / "k.graphml"))
    assert dict(marked.spec.graph.attributes)["club"] == dict(Karate().spec.graph.attributes)["club"]


def test_another_network_of_the_same_nodes_is_not_in_sample(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("a,b\nb,c\nc,d\n")
    second.write_text("d,a\na,b\nb,c\n")
    trained, later = GraphFile(path=str(first)), GraphFile(path=str(second))
    later.apply(trained.schema())
    assert trained.in_sample
    assert not later.in_sample
    assert int(later.whole().x.sum()) == 3
    second.write_text("a,b\nb,e\n")
    other = GraphFile(path=str(second))
    other.apply(trained.schema())
    with pytest.raises(UsageError, match="node 'e' is not one of"):
        other.whole()


def network(tmp_path, text, nodes=None, **options):
    (tmp_path / "a.csv").write_text(text)
    if nodes is not None:
        (tmp_path / "nodes.csv").write_text("\n".join(["name", *nodes]))
        options["nodes"] = str(tmp_path / "nodes.csv")
    return GraphFile(path=str(tmp_path / "a.csv"), **options)


def ties(data):
    """The ties by the names of their nodes, and what is said before the last line."""
    graph, x = data.spec.graph, data.split("train").x[0]
    pairs = [f"{graph.names[i]}{graph.names[j]}" for (i, j), there in zip(graph.dyads, x, strict=True) if there]
    return pairs, [line.removeprefix("a: ") for line in data.understood()[:-1]]


@pytest.mark.parametrize(
    ("text", "nodes", "pairs", "said"),
    [
        ("source,target\nuser,friend\n1,2\n", None, ["12", "frienduser"], ["heading source,target skipped"]),
        ("From,To\na,b\nb,c\n", None, ["ab", "bc"], ["heading From,To skipped"]),
        ("user,friend,since\na,b,1\nb,c,1\n", None, ["ab", "bc"], ["heading user,friend,since skipped"]),
        ("a,b\nb,c\n", None, ["ab", "bc"], []),
        ("1 2\n3 4\n", None, ["12", "34"], []),
        ("user,friend\na,b\nb,c\n", "abcd", ["ab", "bc"], ["heading user,friend skipped"]),
        ("a,b\nc,d\n", "abcd", ["ab", "cd"], []),
        ("i,j\nk,j\n", "ijk", ["ij", "jk"], []),
        ("0,1,0\n1,0,1\n0,1,0\n", None, ["12", "23"], ["3 rows of 3 numbers are read as a matrix, not as ties"]),
        ("0,1,1\n0,0,1\n0,0,0\n", "123", ["12", "13", "23"], ["3 rows of 3 numbers are read as a matrix, not as ties"]),
        ("x,1,2,3\n1,0,1,1\n2,1,0,0\n3,1,0,0\n", None, ["12", "13"], []),
        ("1,2,1\n2,3,1\n3,1,0\n", None, ["12", "23"], []),
        ("a,b,1\nb,a,2\na,b,3\nb,c,0\n", None, ["ab"], ["weights are not read: any but 0 is a tie"]),
    ],
)  # fmt: skip
def test_a_text_is_read_in_one_way_and_it_is_said(tmp_path, text, nodes, pairs, said):
    data = network(tmp_path, text, nodes)
    if data.spec.graph.directed:
        assert text.startswith("0,1,1")
    assert ties(data) == (pairs, said)


HEADING = r"row 1 \({}\) may be a heading or a tie: if a heading, call its columns source and target"
SQUARE = (
    r"{0} rows of {0} numbers may be a matrix or ties: if a matrix, save it as .npy; if ties, put a heading above them"
)
BOTH = r"rows {} and {} contradict each other: one has the tie {}, one not"


@pytest.mark.parametrize(
    ("text", "nodes", "message"),
    [
        ("user,friend\na,b\nb,c\n", None, HEADING.format("user, friend")),
        ("id1,id2\n1,2\n2,3\n", None, HEADING.format("id1, id2")),
        ("id1 id2 1\n1 2 1\n2 3 1\n2 1 1\n", None, HEADING.format("id1, id2, 1")),
        ("0,1\n10,20\n20,30\n", None, HEADING.format("0, 1")),
        ("i,j\nj,k\nk,l\n", None, HEADING.format("i, j")),
        ("a,b\n", None, HEADING.format("a, b")),
        ("amy,bob\nann,bob\n", ["ann", "bob"], "node 'amy' is not one of data.nodes. There is: ann, bob."),
        ("x,y\nx,b\n", "ab", "node 'x' is not one of data.nodes"),
        ("0,1,1\n0,0,1\n0,0,0\n", None, SQUARE.format(3)),
        ("0,1,0\n1,0,1\n0,1,0\n", "012", SQUARE.format(3)),
        ("0,2,1\n2,0,3\n1,3,0\n", None, SQUARE.format(3) + ", source and target and weight$"),
        ("0,9,8,7\n9,0,6,5\n8,6,0,4\n7,5,4,0\n", None, "row 1 and column 1 may be names or weights: if"),
        ("0 1\n1 0\n", None, SQUARE.format(2) + ", source and target$"),
        ("1,2,1\n2,3,1\n1,2,0\n", None, BOTH.format(1, 3, "1, 2") + "$"),
        ("from,to,weight\n2,1,0\n2,3,1\n1,2,1\n", None, BOTH.format(2, 4, "1, 2") + r" \(data.directed=true"),
        ("a,b,1\nb,c,much\n", None, "row 2: the weight 'much' is no number"),
        ("a,b,\nc,d,1\n", None, "may be a heading or a tie"),
    ],
)  # fmt: skip
def test_a_text_that_can_be_read_in_two_ways_is_refused(tmp_path, text, nodes, message):
    with pytest.raises(UsageError, match=message) as found:
        network(tmp_path, text, nodes).split("train")
    assert "\n" not in str(found.value)


def test_a_heading_is_the_way_out(tmp_path):
    assert ties(network(tmp_path, "source,target\ni,j\nj,k\n"))[0] == ["ij", "jk"]
    weighted = "source,target,weight\n0,1,0\n1,0,0\n1,2,1\n"
    assert ties(network(tmp_path, weighted))[0] == ["12"]
    both = network(tmp_path, "from,to,weight\n2,1,0\n2,3,1\n1,2,1\n", directed=True)
    assert ties(both) == (["12", "23"], ["heading from,to,weight skipped"])
    kept = GraphFile(path=str(tmp_path / "a.csv"))
    kept.apply(both.schema())
    assert kept.split("train").sha256 == both.split("train").sha256


def test_many_networks_have_a_split(tmp_path):
    matrices = np.random.default_rng(0).integers(0, 2, (20, 5, 5))
    np.savez(tmp_path / "m.npz", nets=matrices)
    data = GraphFile(path=str(tmp_path / "m.npz"))
    assert data.spec.graph.directed
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [16, 2, 2]
    assert not data.in_sample
    assert data.train_on == "train"
    assert data.understood()[0].endswith("loops are left out")
    undirected = GraphFile(path=str(tmp_path / "m.npz"), directed=False)
    assert undirected.spec.shape == (10,)
    either = (matrices | matrices.transpose(0, 2, 1)).astype(bool)
    assert np.array_equal(to_adjacency(undirected.whole().x, undirected.spec.graph), either & ~np.eye(5, dtype=bool))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b,c,d\n1,2,3,4\n", "an edge list has two columns"),
        ("a.csv", "", "it is empty"),
        ("a.gml", "graph [", "cannot be read as a network"),
        ("a.graphml", "<graphml", "cannot be read as a network"),
        ("a.npy", "nothing", "cannot be read as a network"),
        ("a.csv", "0,x,0,1\n1,0,1,0\n0,1,0,1\n1,0,1,0\n", "a matrix of numbers is needed"),
    ],
)
def test_files_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message) as found:
        GraphFile(path=str(tmp_path / name)).split("train")
    assert "\n" not in str(found.value)
