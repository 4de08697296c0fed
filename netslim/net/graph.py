"""The channel groups of a network as a graph of networkx."""

from __future__ import annotations

import networkx as nx

from netslim.ir.plan import Plan, groups_in


def group_graph(plan: Plan) -> nx.Graph:
    """Groups as nodes (size, n_slots); two groups that meet in a parameter are joined (params)."""
    graph = nx.Graph()
    for group in plan.groups:
        graph.add_node(group.name, size=group.size, n_slots=len(group.slots))
    for name, dims in plan.layouts.items():
        met = list(dict.fromkeys(g for layout in dims for g in groups_in(layout)))
        for i, a in enumerate(met):
            for b in met[i + 1 :]:
                ends = plan.groups[a].name, plan.groups[b].name
                graph.add_edge(*ends, params=[*graph.get_edge_data(*ends, {}).get("params", []), name])
    return graph
