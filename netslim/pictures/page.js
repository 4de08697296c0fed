"use strict";
(() => {
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const { steps, tensors, layouts, groups, blocks, frozen, stops } = scene;
  const START = 60; // nodes that are shown at first, at most
  const PADDING = 18, GAP = 26; // of a module's border, and between rows
  const state = { stop: stops.length - 1, open: new Set(), chosen: null, tab: "details", lit: null };
  const $ = (id) => document.getElementById(id);

  // ---- the tree of modules

  const chains = new Map(); // a module's path -> the paths from the outermost module to it
  const chain = (path) => {
    if (!chains.has(path)) {
      const parts = path ? path.split(".") : [];
      chains.set(path, parts.map((_, i) => parts.slice(0, i + 1).join(".")));
    }
    return chains.get(path);
  };
  const holder = (path) => path.slice(0, Math.max(0, path.lastIndexOf(".")));
  const modules = new Map(Object.keys(scene.modules).map((path, i) => [path, { id: "m" + i, path, steps: [] }]));
  steps.forEach((step, i) => chain(step.module).forEach((path) => modules.get(path).steps.push(i)));
  const byId = new Map([...modules.values()].map((each) => [each.id, each]));
  const users = new Map(); // a tensor -> the steps that use it
  steps.forEach((step, i) => (step.tensors || []).forEach((name) => users.set(name, [...(users.get(name) || []), i])));
  const frozenTensors = new Map(); // a tensor -> the reasons for which parts of it are frozen
  frozen.forEach((each, i) => each.places.forEach((name) => frozenTensors.set(name, [...(frozenTensors.get(name) || []), i])));

  const drawnAs = (i, open) => {
    const folded = chain(steps[i].module).find((path) => !open.has(path));
    return folded === undefined ? "s" + i : modules.get(folded).id;
  };
  const shown = (open) => new Set(steps.map((_, i) => drawnAs(i, open)));
  const toDepth = (depth) => new Set([...modules.keys()].filter((path) => chain(path).length <= depth));
  const deepest = Math.max(0, ...[...modules.keys()].map((path) => chain(path).length));

  // ---- layouts

  const count = (layout, of) => { // entries, where a group has as many as `of` says
    if (typeof layout === "number") return layout;
    if ("group" in layout) return of(layout.group);
    if (layout.product) return layout.product.reduce((all, each) => all * count(each, of), 1);
    return layout.concat.reduce((all, each) => all + count(each, of), 0);
  };
  const keptOf = (group) => stops[state.stop].kept[group];
  const full = (layout) => count(layout, (group) => groups[group].size);
  const kept = (layout) => count(layout, keptOf);
  const groupsIn = (layout) => {
    if (typeof layout === "number") return [];
    if ("group" in layout) return [layout.group];
    return (layout.product || layout.concat).flatMap(groupsIn);
  };
  const unique = (list) => [...new Set(list)];
  const dimsOf = (step) => (step.outs && step.outs.length ? layouts[step.outs[0]] : []);
  const groupsOfTensors = (step) => (step.tensors || []).flatMap((name) => (tensors[name] ? layouts[tensors[name].dims] : [])).flatMap(groupsIn);
  const groupsMade = (step) => unique(step.outs ? dimsOf(step).flatMap(groupsIn) : groupsOfTensors(step).slice(0, 1));
  const groupsMet = (step) => unique([...groupsMade(step), ...groupsOfTensors(step)]);
  const share = (a, b) => (a === b ? `${b}` : `${a} of ${b}`);
  const colour = (group) => { // the golden angle apart: neighbours differ, and all are light enough for dark words
    const hue = (group * 137.508 + 200) % 360, light = [0.76, 0.85, 0.69][group % 3], reach = 0.62 * Math.min(light, 1 - light);
    const part = (n) => light - reach * Math.max(-1, Math.min(((n + hue / 30) % 12) - 3, 9 - ((n + hue / 30) % 12), 1));
    return "#" + [0, 8, 4].map((n) => Math.round(255 * part(n)).toString(16).padStart(2, "0")).join("");
  };
  const shareOf = (layout) => share(kept(layout), full(layout));
  const channels = (step, told) => dimsOf(step).filter((layout) => groupsIn(layout).length).map(told).join(", ");

  // ---- what is drawn

  const pen = document.createElement("canvas").getContext("2d");
  const FONT = "system-ui, DejaVu Sans, sans-serif";
  const measure = (label) => {
    pen.font = `600 12px ${FONT}`;
    return Math.max(...label.split("\n").map((line) => pen.measureText(line).width));
  };
  const short = (text, most = 34) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  const last = (path) => path.slice(path.lastIndexOf(".") + 1);
  const KINDS = { input: "input", output: "output", python: "stays Python" };
  const stepLabel = (step, told = shareOf) => {
    const own = step.name.slice(step.name.lastIndexOf("/") + 1);
    const first = step.kind === "layer" ? last(step.target) || step.label : step.kind === "input" ? own : step.label;
    const second = step.kind === "layer" ? step.label : KINDS[step.kind] || "";
    const line = [first === second ? "" : second, channels(step, told)].filter(Boolean).join(" · ");
    return short(first) + (line ? "\n" + short(line) : "");
  };
  const moduleLabel = (module) => {
    const name = scene.modules[module.path];
    return "▸ " + short(last(module.path)) + "\n" + short([name, `${module.steps.length} steps`].filter(Boolean).join(" · "));
  };
  const label = (id) => (id[0] === "s" ? stepLabel(steps[+id.slice(1)]) : moduleLabel(byId.get(id)));
  const stepsOf = (id) => (id[0] === "s" ? [+id.slice(1)] : byId.get(id).steps);
  const isFrozen = (i) => (steps[i].tensors || []).some((name) => frozenTensors.has(name));
  const paint = (id) => {
    const found = unique(stepsOf(id).flatMap((i) => groupsMade(steps[i])));
    const some = found.length > 8 ? found.filter((_, i) => i % Math.ceil(found.length / 8) === 0) : found;
    return some.length ? some.map(colour) : ["#e2e8f0"];
  };
  const nodeOf = (id) => {
    const text = label(id), inside = stepsOf(id), colours = paint(id), of = 100 / colours.length;
    const one = id[0] === "s", kind = one ? steps[inside[0]].kind : "module";
    const room = one ? measure(stepLabel(steps[inside[0]], (layout) => `${full(layout)} of ${full(layout)}`)) : measure(text);
    return {
      group: "nodes",
      data: {
        id,
        label: text,
        w: Math.ceil(room * ({ call: 1.2, python: 1.3 }[kind] || 1)) + 22,
        h: 18 + 16 * text.split("\n").length,
        colours: colours.flatMap((each) => [each, each]).join(" "),
        ends: colours.flatMap((_, i) => [`${i * of}%`, `${(i + 1) * of}%`]).join(" "),
      },
      classes: [
        one ? "step " + kind : "module",
        colours.length > 1 ? "many" : "",
        inside.some((i) => steps[i].blocks) ? "block" : "",
        inside.some(isFrozen) ? "frozen" : "",
      ].filter(Boolean).join(" "),
    };
  };

  const elements = () => {
    const open = state.open, nodes = [], edges = new Map(), compounds = new Set();
    const place = (element, path) => {
      if (path) {
        element.data.parent = modules.get(path).id;
        chain(path).forEach((each) => compounds.add(each));
      }
      nodes.push(element);
    };
    shown(open).forEach((id) => place(nodeOf(id), id[0] === "s" ? steps[+id.slice(1)].module : holder(byId.get(id).path)));
    const join = (from, to, kind) => {
      const a = drawnAs(from, open), b = drawnAs(to, open), key = a + ">" + b;
      if (a !== b && !(edges.has(key) && kind !== "reads")) edges.set(key, { group: "edges", data: { id: key, source: a, target: b }, classes: kind });
    };
    steps.forEach((step, i) => ["reads", "calls", "after"].forEach((kind) => (step[kind] || []).forEach((j) => join(j, i, kind))));
    const boxes = [...compounds].map((path) => {
      const data = { id: modules.get(path).id, label: "▾ " + short(last(path)), shift: 0 };
      if (holder(path)) data.parent = modules.get(holder(path)).id;
      return { group: "nodes", data, classes: "box" };
    });
    return [...boxes, ...nodes, ...edges.values()];
  };

  const cy = cytoscape({
    container: $("graph"),
    userZoomingEnabled: false,
    boxSelectionEnabled: false,
    minZoom: 0.03,
    maxZoom: 3,
    style: [
      { selector: "node", style: { label: "data(label)", "font-family": FONT, "font-size": 12, color: "#0f172a" } },
      {
        selector: "node.step, node.module",
        style: {
          shape: "round-rectangle", width: "data(w)", height: "data(h)", "text-wrap": "wrap", "text-valign": "center", "line-height": 1.25,
          "background-fill": "linear-gradient", "background-gradient-direction": "to-right",
          "background-gradient-stop-colors": "data(colours)", "background-gradient-stop-positions": "data(ends)",
          "border-width": 1, "border-color": "#475569",
        },
      },
      { selector: "node.call", style: { shape: "ellipse" } },
      { selector: "node.input, node.output", style: { "font-weight": 600, "border-width": 2 } },
      { selector: "node.python", style: { shape: "hexagon", "background-fill": "solid", "background-color": "#fde68a" } },
      { selector: "node.module, node.many", style: { "text-outline-color": "#fff", "text-outline-width": 2, "text-outline-opacity": 0.75 } },
      { selector: "node.module", style: { "border-width": 4, "border-style": "double", "font-weight": 600 } },
      { selector: "node.block", style: { "border-width": 2, "border-style": "dashed" } },
      { selector: "node.module.block", style: { "border-width": 3 } },
      { selector: "node.frozen", style: { "border-color": "#b91c1c", "border-width": 2 } },
      {
        selector: "node.box",
        style: {
          shape: "round-rectangle", "background-color": "#e0e7ff", "background-opacity": 0.35, "border-width": 1, "border-color": "#94a3b8",
          padding: PADDING, "text-valign": "top", "text-halign": "center", "text-margin-y": 17, "text-margin-x": "data(shift)", "font-size": 12, "font-weight": 600, color: "#475569",
        },
      },
      {
        selector: "edge",
        style: { width: 1.5, "line-color": "#94a3b8", "target-arrow-color": "#94a3b8", "target-arrow-shape": "triangle", "arrow-scale": 0.8, "curve-style": "straight", events: "no" },
      },
      { selector: "edge[from]", style: { "source-endpoint": "data(from)", "target-endpoint": "data(to)" } },
      {
        selector: "edge.bent",
        style: { "curve-style": "unbundled-bezier", "edge-distances": "endpoints", "control-point-weights": "data(weights)", "control-point-distances": "data(away)" },
      },
      { selector: "edge.far", style: { width: 1, opacity: 0.25, "target-arrow-shape": "none" } },
      { selector: "edge.calls", style: { "line-style": "dashed", "line-color": "#d97706", "target-arrow-color": "#d97706" } },
      { selector: "edge.after", style: { opacity: 0 } },
      { selector: ".dim", style: { opacity: 0.18 } },
      { selector: "edge.after.dim", style: { opacity: 0 } },
      { selector: "edge.near", style: { width: 2.5, opacity: 1, "line-color": "#4f46e5", "target-arrow-color": "#4f46e5", "target-arrow-shape": "triangle" } },
      { selector: "edge.after.near", style: { opacity: 0 } },
      { selector: "node.chosen", style: { "overlay-color": "#4f46e5", "overlay-opacity": 0.22, "overlay-padding": 5 } },
    ],
  });

  // ---- where it is drawn

  const ROUTED = 900; // ranks that all edges together may pass: those that pass most go straight where there are more

  const far = () => { // edges that go straight: their routes would be most of the drawing, and nobody could follow them
    const order = new Map(cy.nodes(".step, .module").map((node) => [node.id(), stepsOf(node.id())[0]]));
    const down = cy.edges().filter((edge) => order.get(edge.source().id()) < order.get(edge.target().id()));
    const rank = new Map();
    down.sort((a, b) => order.get(a.target().id()) - order.get(b.target().id())).forEach((edge) => {
      const [a, b] = [edge.source().id(), edge.target().id()];
      rank.set(b, Math.max(rank.get(b) || 0, (rank.get(a) || 0) + 1));
    });
    const passed = (edge) => rank.get(edge.target().id()) - (rank.get(edge.source().id()) || 0) - 1;
    let all = down.reduce((sum, edge) => sum + passed(edge), 0);
    const found = new Set();
    for (const edge of down.sort((a, b) => passed(b) - passed(a))) {
      if (all <= ROUTED || passed(edge) < 1) break;
      all -= passed(edge);
      found.add(edge.id());
    }
    return found;
  };

  const arrange = () => {
    const graph = new dagre.graphlib.Graph({ multigraph: true, compound: true }), straight = far();
    graph.setGraph({ rankdir: "TB", nodesep: 26, ranksep: 30, edgesep: 12 });
    graph.setDefaultNodeLabel(() => ({}));
    cy.nodes(".step, .module").forEach((node) => graph.setNode(node.id(), { width: node.data("w"), height: node.data("h") }));
    cy.nodes(".box").forEach((node) => graph.setNode(node.id(), {}));
    cy.nodes().forEach((node) => node.isChild() && graph.setParent(node.id(), node.parent().id()));
    cy.edges().forEach((edge) => straight.has(edge.id()) || graph.setEdge(edge.source().id(), edge.target().id(), {}, edge.id()));
    dagre.layout(graph);
    const y = spread(graph);
    cy.batch(() => {
      cy.nodes(".step, .module").forEach((node) => node.position({ x: graph.node(node.id()).x, y: y(graph.node(node.id()).y) }));
      cy.edges().forEach((edge) => {
        if (straight.has(edge.id())) edge.addClass("far");
        else route(edge, graph.edge(edge.source().id(), edge.target().id(), edge.id()).points.map((p) => ({ x: p.x, y: y(p.y) })));
      });
    });
    cy.nodes(".box").forEach((box) => box.data("shift", Math.min(0, measure(box.data("label")) / 2 + 8 - box.outerWidth() / 2))); // to the left
  };

  const spread = (graph) => { // from dagre's heights to those that leave room for the borders of modules between rows
    const nodes = cy.nodes(".step, .module").toArray(), at = (node) => graph.node(node.id()).y;
    const rows = unique(nodes.map(at)).sort((a, b) => a - b), number = new Map(rows.map((row, i) => [row, i]));
    const opened = rows.map(() => 0), closed = rows.map(() => 0), half = rows.map(() => 0);
    nodes.forEach((node) => { half[number.get(at(node))] = Math.max(half[number.get(at(node))], node.data("h") / 2); });
    const borders = (box) => { // rows of a module, and how many borders lie above the first and below the last of them
      const inside = box.children().toArray().map((child) => {
        if (child.hasClass("box")) return borders(child);
        const row = number.get(at(child));
        return { first: row, last: row, above: 0, below: 0 };
      });
      const first = Math.min(...inside.map((each) => each.first)), last = Math.max(...inside.map((each) => each.last));
      const above = 1 + Math.max(...inside.map((each) => (each.first === first ? each.above : 0)));
      const below = 1 + Math.max(...inside.map((each) => (each.last === last ? each.below : 0)));
      opened[first] = Math.max(opened[first], above);
      closed[last] = Math.max(closed[last], below);
      return { first, last, above, below };
    };
    cy.nodes(".box").orphans().forEach(borders);
    const made = rows.map(() => 0);
    for (let i = 1; i < rows.length; i += 1) {
      made[i] = made[i - 1] + half[i - 1] + half[i] + GAP + PADDING * (closed[i - 1] + opened[i]);
    }
    return (y) => {
      const next = rows.findIndex((row) => row >= y);
      if (next === -1) return made[made.length - 1] + y - rows[rows.length - 1];
      if (next === 0) return made[0] + y - rows[0];
      return made[next - 1] + ((made[next] - made[next - 1]) * (y - rows[next - 1])) / (rows[next] - rows[next - 1]);
    };
  };

  const route = (edge, points) => { // from the middle below a node to the middle above the next, past those between
    const a = edge.source().position(), b = edge.target().position(), up = b.y <= a.y ? -1 : 1;
    const start = { x: a.x, y: a.y + (up * edge.source().data("h")) / 2 }, end = { x: b.x, y: b.y - (up * edge.target().data("h")) / 2 };
    const d = { x: end.x - start.x, y: end.y - start.y }, length = Math.hypot(d.x, d.y) || 1;
    const inner = points.slice(1, -1).map((p) => ({ x: p.x - start.x, y: p.y - start.y }));
    const away = inner.map((p) => (p.y * d.x - p.x * d.y) / length);
    edge.data("from", `0px ${start.y - a.y}px`);
    edge.data("to", `0px ${end.y - b.y}px`);
    if (away.every((each) => Math.abs(each) < 2)) return;
    edge.data("weights", inner.map((p) => (p.x * d.x + p.y * d.y) / length / length).join(" "));
    edge.data("away", away.join(" "));
    edge.addClass("bent");
  };

  const draw = (anchor) => {
    const before = anchor && cy.getElementById(anchor).nonempty() ? cy.getElementById(anchor).renderedBoundingBox() : null;
    $("tip").hidden = true;
    cy.elements().remove();
    cy.add(elements());
    arrange();
    light();
    const after = before && cy.getElementById(anchor);
    if (after && after.nonempty()) {
      const box = after.renderedBoundingBox();
      cy.panBy({ x: (before.x1 + before.x2 - box.x1 - box.x2) / 2, y: before.y1 - box.y1 });
    }
  };
  const top = () => { // as wide as the drawing allows, from the top
    const box = cy.elements().boundingBox(), zoom = Math.min(1, Math.max(0.35, (cy.width() - 40) / box.w));
    cy.zoom(zoom);
    cy.pan({ x: cy.width() / 2 - (zoom * (box.x1 + box.x2)) / 2, y: 55 - zoom * box.y1 });
  };
  const centre = (id) => {
    cy.zoom(Math.max(cy.zoom(), 0.8));
    cy.center(cy.getElementById(id));
  };
  const light = () => { // what a group, a block or a reason touches stands out
    cy.elements().removeClass("dim chosen near");
    if (state.lit) {
      const lit = new Set([...state.lit].map((i) => drawnAs(i, state.open)));
      cy.nodes(".step, .module").forEach((node) => node.toggleClass("dim", !lit.has(node.id())));
      cy.edges().addClass("dim");
    }
    if (state.chosen) cy.getElementById(state.chosen).addClass("chosen").connectedEdges().addClass("near");
  };
  const toggle = (id) => {
    const module = byId.get(id);
    if (!module) return;
    if (!state.open.delete(module.path)) {
      state.open.add(module.path);
    } else {
      [...state.open].filter((path) => path.startsWith(module.path + ".")).forEach((path) => state.open.delete(path));
    }
    draw(id);
    panel();
  };
  const reveal = (path) => chain(path).forEach((each) => state.open.add(each));
  const focus = (id) => {
    reveal(id[0] === "s" ? steps[+id.slice(1)].module : holder(byId.get(id).path));
    choose(id);
    draw();
    centre(id);
  };
  const choose = (id) => {
    Object.assign(state, { chosen: id, tab: "details", lit: null });
    light();
    panel();
  };
  const show = (lit, unfold) => { // of a list: its steps stand out, in unfolded modules where it is one place
    state.lit = new Set(lit);
    if (unfold) lit.forEach((i) => reveal(steps[i].module));
    draw();
    const first = lit.length ? cy.getElementById(drawnAs(Math.min(...lit), state.open)) : null;
    if (first && first.nonempty()) cy.center(first);
  };

  // ---- words

  const el = (tag, text, className, ...children) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    if (className) made.className = className;
    made.append(...children.filter(Boolean));
    return made;
  };
  const chip = (group, text) => {
    const made = el("span", text, "chip");
    made.style.background = colour(group);
    made.title = groups[group].name;
    return made;
  };
  const dim = (layout) => {
    if (typeof layout === "number") return el("span", `${layout}`);
    if ("group" in layout) return chip(layout.group, share(kept(layout), full(layout)));
    const list = layout.product || layout.concat, made = el("span", layout.product ? "(" : "[");
    list.forEach((each, i) => made.append(i ? (layout.product ? " · " : " + ") : "", dim(each)));
    made.append(layout.product ? ")" : "]");
    return made;
  };
  const shape = (dims) => {
    const made = el("p");
    dims.forEach((layout, i) => made.append(i ? " × " : "", dim(layout)));
    return dims.length ? made : el("p", "one number");
  };
  const tensor = (name, within, brief) => {
    const found = tensors[name], relative = within && name.startsWith(within + ".") ? name.slice(within.length + 1) : name;
    const made = el("div", null, "tensor", el("h3", relative));
    if (found) made.append(shape(layouts[found.dims]));
    const lines = found ? found.why.split("\n") : [];
    if (found && found.why) made.append(el("pre", brief ? lines.slice(0, 3).map((line) => short(line, 160)).join("\n") : found.why));
    return made;
  };
  const aboutStep = (i, brief) => {
    const step = steps[i], made = el("div"), title = step.target || (step.module ? `${step.module} · ${step.label}` : step.label);
    made.append(el("h2", title), el("p", [step.label, KINDS[step.kind]].filter((each, k, all) => each && all.indexOf(each) === k).join(" · "), "muted"));
    if (step.where) made.append(el("p", step.where, "where"));
    (step.outs || []).slice(0, 6).forEach((out, k) => made.append(k ? "" : el("h3", "result"), shape(layouts[out])));
    const met = groupsMet(step);
    if (met.length) made.append(el("h3", met.length > 1 ? "groups" : "group"));
    met.slice(0, brief ? 4 : 12).forEach((group) => made.append(el("p", null, null, chip(group, share(keptOf(group), groups[group].size)), ` ${groups[group].name}`)));
    if (met.length > (brief ? 4 : 12)) made.append(el("p", `${met.length} groups in all`, "muted"));
    if (step.blocks) made.append(el("h3", "skippable"), el("p", "block " + step.blocks.map((b) => blocks[b].name).join(", ")));
    unique((step.tensors || []).flatMap((name) => frozenTensors.get(name) || [])).forEach((k) =>
      made.append(el("h3", "frozen"), el("p", [frozen[k].name, frozen[k].where].filter(Boolean).join(" · "))));
    if (step.kind === "python") made.append(el("p", "Its forward is not followed: it runs as the model's own Python."));
    (step.tensors || []).slice(0, brief ? 2 : undefined).forEach((name) => made.append(tensor(name, step.target || step.module, brief)));
    return made;
  };
  const aboutModule = (module) => {
    const made = el("div", null, null, el("h2", module.path), el("p", [scene.modules[module.path], `${module.steps.length} steps`].filter(Boolean).join(" · "), "muted"));
    const inside = unique(module.steps.flatMap((i) => steps[i].blocks || []));
    if (inside.length) made.append(el("h3", "skippable"), el("p", inside.map((b) => blocks[b].name).join(", ")));
    const met = unique(module.steps.flatMap((i) => groupsMet(steps[i])));
    made.append(el("h3", `${met.length} groups`));
    met.slice(0, 14).forEach((group) => made.append(el("p", null, null, chip(group, share(keptOf(group), groups[group].size)), ` ${groups[group].name}`)));
    if (met.length > 14) made.append(el("p", `and ${met.length - 14} more`, "muted"));
    const reasons = unique(module.steps.flatMap((i) => (steps[i].tensors || []).flatMap((name) => frozenTensors.get(name) || [])));
    if (reasons.length) made.append(el("h3", "frozen"));
    reasons.forEach((k) => made.append(el("p", [frozen[k].name, frozen[k].where].filter(Boolean).join(" · "))));
    return made;
  };
  const about = (id, brief = false) => (id[0] === "s" ? aboutStep(+id.slice(1), brief) : aboutModule(byId.get(id)));

  const row = (mark, text, right, act) => {
    const made = el("div", null, "row", mark, el("span", text), el("span", right, "muted"));
    made.onclick = act;
    return made;
  };
  const some = (list, name) => `${list.length} ${name}${list.length === 1 ? "" : "s"}`;
  const places = (item, most = 40) => item.places.slice(0, most).map((name) => {
    const user = (users.get(name) || [])[0];
    return row(el("span", "·"), name, "", () => user !== undefined && focus("s" + user));
  });
  const usersOf = (item) => unique(item.places.flatMap((name) => users.get(name) || []));
  const detailed = (title, item, lines, lit, unfold) => {
    show(lit, unfold);
    $("panel").replaceChildren(el("h2", title), ...lines.map((line) => el("p", line)), el("h3", `${item.places.length} places`), ...places(item));
  };
  const TABS = {
    details: () => {
      if (state.chosen) {
        const made = about(state.chosen), module = byId.get(state.chosen);
        if (module) {
          const button = el("button", state.open.has(module.path) ? "fold" : "unfold");
          button.onclick = () => toggle(module.id);
          made.insertBefore(button, made.children[2] || null);
        }
        return [made];
      }
      return [
        ...scene.notes.map((note) => el("div", note, "note")),
        el("p", `${some(groups, "channel group")}, ${some(blocks, "skippable block")}, ${some(frozen, "reason")} for which something is frozen.`),
        el("p", "Point at a step to see its layouts, why they are so, and its line of code; click to keep that here. Double-click a module to fold or unfold it. " +
          "The wheel moves, Ctrl and the wheel zooms. Colours are channel groups: steps of one colour keep the same channels.", "muted"),
      ];
    },
    groups: () => groups.map((group, i) => row(chip(i, share(keptOf(i), group.size)), group.name, `${group.places.length} places`, () =>
      detailed(group.name, group, [`${group.size} channels, ${keptOf(i)} kept at width ${stops[state.stop].width}`],
        steps.flatMap((step, k) => (groupsMet(step).includes(i) ? [k] : []))))),
    blocks: () => (blocks.length ? blocks.map((block, i) => row(el("span", "⤼"), block.name, `${block.size.toLocaleString("en")} parameters`, () => {
      show(steps.flatMap((step, k) => ((step.blocks || []).includes(i) ? [k] : [])), true);
    })) : [el("p", "No block can be skipped.")]),
    frozen: () => (frozen.length ? frozen.map((item) => row(el("span", `${item.size}`), [item.name, item.where].filter(Boolean).join(" · "), `${item.places.length} places`, () =>
      detailed(item.name, item, [item.where].filter(Boolean), usersOf(item), true))) : [el("p", "Nothing is frozen.")]),
  };
  const panel = () => {
    const counts = { groups: groups.length, blocks: blocks.length, frozen: frozen.length };
    $("tabs").replaceChildren(...Object.keys(TABS).map((name) => {
      const button = el("button", name in counts ? `${name} ${counts[name]}` : name, name === state.tab ? "on" : "");
      button.onclick = () => {
        if (name === "details" && state.tab === "details") state.chosen = null;
        Object.assign(state, { tab: name, lit: null });
        light();
        panel();
      };
      return button;
    }));
    $("panel").replaceChildren(...TABS[state.tab]());
  };

  // ---- search

  const index = [
    ...[...modules.values()].map((each) => [each.path, each.id, "module"]),
    ...steps.map((step, i) => [step.target || (step.module ? step.module + "." : "") + step.label, "s" + i, step.kind === "layer" ? step.label : step.kind]),
    ...[...users].map(([name, at]) => [name, "s" + at[0], "parameter"]),
  ].filter(([text]) => text);
  const found = (query) => {
    const wanted = query.trim().toLowerCase();
    if (!wanted) return [];
    const hits = index.filter(([text]) => text.toLowerCase().includes(wanted));
    const rank = ([text]) => (text.toLowerCase() === wanted ? 0 : text.toLowerCase().startsWith(wanted) ? 1 : 2);
    return hits.sort((a, b) => rank(a) - rank(b) || a[0].length - b[0].length).slice(0, 40);
  };
  const search = () => {
    const hits = found($("search").value);
    $("results").replaceChildren(...hits.map(([text, id, kind], i) => {
      const item = el("li", text, i ? "" : "first", el("small", "  " + kind));
      item.onclick = () => go(id);
      return item;
    }));
    if (!hits.length && $("search").value.trim()) $("results").append(el("li", "nothing has this name", "muted"));
    $("results").hidden = !$("search").value.trim();
  };
  const go = (id) => {
    $("results").hidden = true;
    focus(id);
  };
  $("search").oninput = search;
  $("search").onfocus = search;
  $("search").onkeydown = (event) => {
    const hits = event.key === "Enter" ? found($("search").value) : [];
    if (hits.length) go(hits[0][1]);
    if (event.key === "Escape") $("results").hidden = true;
  };
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) $("results").hidden = true;
  });

  // ---- width

  const amount = (n) => (n >= 1e9 ? (n / 1e9).toFixed(2) + " G" : n >= 1e6 ? (n / 1e6).toFixed(2) + " M" : n.toLocaleString("en"));
  const percent = (a, b) => (b ? ` (${((100 * a) / b).toFixed(1)} %)` : "");
  const width = () => {
    const at = stops[state.stop], whole = stops[stops.length - 1];
    $("ratio").textContent = `${at.width}`;
    $("cost").textContent = at.flops === null || whole.flops === null ? "its cost cannot be counted" :
      `${amount(at.params)} parameters${percent(at.params, whole.params)}, ${amount(at.flops)} FLOPs${percent(at.flops, whole.flops)}`;
    cy.batch(() => cy.nodes(".step, .module").forEach((node) => node.data("label", label(node.id()))));
    cy.style().update();
    panel();
  };
  $("width").max = stops.length - 1;
  $("width").value = state.stop;
  $("width").oninput = () => {
    state.stop = +$("width").value;
    width();
  };

  // ---- pointer and buttons

  const tip = (node) => {
    $("tip").replaceChildren(about(node.id(), true));
    $("tip").hidden = false;
    const beside = node.renderedBoundingBox(), area = $("drawing").getBoundingClientRect(), box = $("tip").getBoundingClientRect();
    const right = beside.x2 + 14, left = beside.x1 - box.width - 14;
    const x = right + box.width < area.width || left < 0 ? right : left;
    $("tip").style.left = `${Math.max(4, Math.min(x, area.width - box.width - 8))}px`;
    $("tip").style.top = `${Math.max(4, Math.min(beside.y1, area.height - box.height - 8))}px`;
  };
  cy.on("mouseover", "node.step, node.module", (event) => tip(event.target));
  cy.on("mouseout", "node", () => { $("tip").hidden = true; });
  let tapped = null;
  cy.on("tap", (event) => {
    tapped = event.target === cy || !event.target.isNode() ? null : event.target.id();
    if (event.target === cy || tapped) choose(tapped);
  });
  $("graph").addEventListener("dblclick", () => tapped && toggle(tapped));
  $("graph").addEventListener("wheel", (event) => {
    event.preventDefault();
    const area = $("graph").getBoundingClientRect();
    if (event.ctrlKey || event.metaKey) {
      const at = { x: event.clientX - area.left, y: event.clientY - area.top };
      cy.zoom({ level: cy.zoom() * Math.exp(-event.deltaY / 300), renderedPosition: at });
    } else {
      cy.panBy({ x: -event.deltaX, y: -event.deltaY });
    }
    $("tip").hidden = true;
  }, { passive: false });
  const zoom = (by) => cy.zoom({ level: cy.zoom() * by, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
  $("in").onclick = () => zoom(1.3);
  $("out").onclick = () => zoom(1 / 1.3);
  $("fit").onclick = () => cy.fit(cy.elements(), 30);
  $("unfold").onclick = () => {
    [...shown(state.open)].filter((id) => id[0] === "m").forEach((id) => state.open.add(byId.get(id).path));
    draw();
    top();
  };
  $("fold").onclick = () => {
    const most = Math.max(0, ...[...state.open].map((path) => chain(path).length));
    state.open = new Set([...state.open].filter((path) => chain(path).length < most));
    draw();
    top();
  };

  // ---- start

  document.title = `${scene.title} · netslim`;
  $("title").textContent = scene.title;
  let depth = 0;
  while (depth < deepest && shown(toDepth(depth + 1)).size <= START) depth += 1;
  state.open = toDepth(depth);
  draw();
  top();
  width();
  window.netslimPage = { cy, focus };
})();
