"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const percent = (x, digits = 1) => (100 * x).toFixed(digits) + "%";
const number = n => n.toLocaleString("en");
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : word.endsWith("s") ? "es" : "s"}`;
const main = data.rows[data.rows.length - 1].key, mainScores = data.scores[main] || data.classes.map(() => null);
const nameOf = Object.fromEntries(data.rows.map(row => [row.key, row.name]));
const FEW_BARS = 8, FEW_CLASSES = 60, FEW_CARDS = 24, LABELLED = 30, LABEL_FONT = "13px system-ui, sans-serif";
const state = {chosen: null, allClasses: false, cards: FEW_CARDS};

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function showHeader() {
  $("title").textContent = data.title;
  const read = data.rows[data.rows.length - 1].n;
  $("subtitle").textContent = `${number(read)} of ${plural(data.total, "video")}, ${plural(data.classes.length, "class")}`;
  $("protocol").textContent = data.protocol;
  const words = data.command.split(" ").flatMap(word => [el("span", {}, word), " "]);  // lines break between options only
  $("command").append(...words.slice(0, -1));
  $("copy").onclick = async () => {
    try {
      await navigator.clipboard.writeText(data.command);
      $("copy").textContent = "Copied";
    } catch {  // not allowed: mark it, so that Ctrl-C copies it
      getSelection().selectAllChildren($("command"));
    }
  };
}

function showResults() {
  const columns = "map" in data.rows[0] ? [["map", "Mean average precision"]]
    : [["top1", "Top-1"], ...(data.classes.length > 5 ? [["top5", "Top-5"]] : []), ["mean_class", "Mean of classes"]];
  const cell = (row, key) => {
    const td = el("td", {}, el("span", {class: "value"}, percent(row[key])));
    const interval = row[key + "_interval"];
    if (interval) {
      const [low, high] = interval;
      td.append(
        el("span", {class: "interval " + row.key, "aria-hidden": "true"},
          el("i", {style: `left:${100 * low}%;width:${100 * (high - low)}%`}), el("b", {style: `left:${100 * row[key]}%`})),
        el("span", {class: "muted"}, `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)}`));
    }
    return td;
  };
  $("results").append(
    el("thead", {}, el("tr", {}, ...["Stream", ...columns.map(column => column[1])].map(name => el("th", {scope: "col"}, name)))),
    el("tbody", {}, ...data.rows.map(row => el("tr", row.key === main ? {class: "main"} : {},
      el("th", {scope: "row"}, row.name, el("div", {class: "muted"}, `${number(row.n)} of ${number(data.total)}`)),
      ...columns.map(([key]) => cell(row, key))))));
  const absent = data.rows[0].absent_classes;
  $("results-note").textContent = ("map" in data.rows[0] ? "" : "With intervals of 95% confidence (Wilson). ")
    + (absent ? `${plural(absent, "class")} without videos left out of the mean.` : "");
  $("comparisons").append(...data.comparisons.map(text => el("p", {class: "space"}, text)));
}

function showAgreement() {
  const a = data.agreement;
  if (!a) return;
  const all = a.both + a.only_a + a.only_b + a.neither;
  const cell = n => el("td", {}, number(n), el("span", {class: "muted"}, ` ${percent(n / all)}`));
  const attributes = {class: "agreement", "aria-label": "How many videos each stream gets right"};
  $("agreement").append(el("h3", {}, "Do the streams agree?"), el("table", attributes,
    el("thead", {}, el("tr", {}, el("td", {}), el("th", {scope: "col"}, "Flow right"), el("th", {scope: "col"}, "Flow wrong"))),
    el("tbody", {}, el("tr", {}, el("th", {scope: "row"}, "RGB right"), cell(a.both), cell(a.only_a)),
      el("tr", {}, el("th", {scope: "row"}, "RGB wrong"), cell(a.only_b), cell(a.neither)))));
}

function showLegend() {
  const what = "map" in data.rows[0] ? "average precision" : "accuracy";
  const others = Object.keys(data.scores).filter(key => key !== main);
  $("legend").append(el("span", {class: "bar " + main}, el("em", {}, `${nameOf[main]} ${what}`)),
    ...others.map(key => el("span", {class: key}, el("em", {}, nameOf[key]))),
    el("em", {}, "The last number counts the class’s videos."));
}

function sortedClasses() {
  const byName = (i, j) => data.classes[i].localeCompare(data.classes[j]) || i - j;
  const low = i => mainScores[i] === null ? Infinity : mainScores[i];
  const high = i => mainScores[i] === null ? Infinity : -mainScores[i];
  const orders = {
    name: byName,
    worst: (i, j) => (low(i) - low(j) || 0) || byName(i, j),  // Infinity - Infinity is NaN
    best: (i, j) => (high(i) - high(j) || 0) || byName(i, j),
    count: (i, j) => data.counts[j] - data.counts[i] || byName(i, j),
  };
  return data.classes.map((_, i) => i).sort(orders[$("sort").value]);
}

function showClasses() {
  const order = sortedClasses(), shown = state.allClasses ? order : order.slice(0, FEW_CLASSES);
  const others = Object.keys(data.scores).filter(key => key !== main);
  $("bars").classList.toggle("few", order.length <= FEW_BARS);
  $("bars").replaceChildren(...shown.map(i => {
    const score = mainScores[i], marks = others.filter(key => data.scores[key][i] !== null);
    const text = [`${data.classes[i]}: ` + (score === null ? "no videos" : `${nameOf[main]} ${percent(score)}`),
      ...marks.map(key => `${nameOf[key]} ${percent(data.scores[key][i])}`), plural(data.counts[i], "video")].join(", ");
    const plot = el("span", {class: "plot"}, el("i", {class: main, style: `width:${100 * score}%`}),
      ...marks.map(key => el("b", {class: key, style: `left:${100 * data.scores[key][i]}%`})));
    const button = el("button", {"data-class": i, title: text, "aria-label": text, "aria-pressed": state.chosen === i},
      el("span", {class: "name"}, data.classes[i]), plot, el("span", {class: "number"}, score === null ? "–" : percent(score)),
      el("span", {class: "count"}, number(data.counts[i])));
    button.onclick = () => choose(state.chosen === i ? null : i);
    return el("li", {}, button);
  }));
  $("all-classes").hidden = order.length <= FEW_CLASSES;
  $("all-classes").textContent = state.allClasses ? "Show fewer" : `Show all ${order.length} classes`;
}

function choose(i) {
  state.chosen = i;
  state.cards = FEW_CARDS;
  $("class").value = i === null ? "" : i;
  for (const button of $("bars").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.class === String(i));
  showMistakes();
}

function matching() {
  const words = $("search").value.toLowerCase();
  return data.mistakes.filter(m => (state.chosen === null || m.truth === state.chosen || m.predicted === state.chosen)
    && [m.video, data.classes[m.truth], data.classes[m.predicted]].some(text => text.toLowerCase().includes(words)));
}

function showMistakes() {
  const found = matching();
  $("cards").replaceChildren(...found.slice(0, state.cards).map(card));
  $("more").hidden = found.length <= state.cards;
  const which = state.chosen === null ? "" : ` with “${data.classes[state.chosen]}” as truth or prediction`;
  const total = data.mistakes.length;
  $("found").textContent = total ? `${number(found.length)} of ${plural(total, "mistake")}${which}` : "None.";
  $("chip").hidden = state.chosen === null;
  $("chip").querySelector("span").textContent = state.chosen === null ? "" : data.classes[state.chosen];
  $("chip").querySelector("a").textContent = plural(found.length, "mistake");
}

function card(m) {
  const picture = (uri, name) => uri
    ? el("img", {src: uri, alt: `${name} of ${m.video}`, loading: "lazy"}) : el("span", {}, `no ${name}`);
  const lines = m.streams.flatMap(s => [el("dt", {}, s.name),
    el("dd", s.label === m.truth ? {class: "hit"} : {}, data.classes[s.label]), el("dd", {}, percent(s.probability))]);
  return el("article", {},
    el("div", {class: "pictures"}, picture(m.rgb, "RGB picture"), picture(m.flow, "flow picture")),
    el("div", {class: "text"}, el("dl", {}, el("dt", {}, "Truth"), el("dd", {class: "truth"}, data.classes[m.truth]),
      el("dt", {}, "Predicted"), el("dd", {class: "predicted"}, data.classes[m.predicted]),
      el("dd", {}, percent(m.probability)), ...lines),
      el("code", {}, m.video)));
}

const matrix = {counts: new Map(), rows: [], cell: 0, left: 0, at: null};

function showMatrix() {
  $("matrix-section").hidden = !data.confusion;
  if (!data.confusion) return;
  const K = data.classes.length;
  for (const [i, j, n] of data.confusion) matrix.counts.set(i * K + j, n);
  matrix.rows = data.counts.map(() => 0);
  for (const [i, , n] of data.confusion) matrix.rows[i] += n;
  const share = ([i, , n]) => n / matrix.rows[i];
  const wrong = data.confusion.filter(([i, j]) => i !== j).sort((a, b) => b[2] - a[2] || share(b) - share(a));
  $("confused").append(...wrong.slice(0, 12).map(([i, j, n]) => {
    const button = el("button", {}, el("span", {}, `${data.classes[i]} → ${data.classes[j]}`),
      el("span", {}, `${number(n)} (${percent(n / matrix.rows[i], 0)})`));
    button.onclick = () => choose(i);
    return el("li", {}, button);
  }));
  if (!wrong.length) $("confused").append(el("li", {class: "muted"}, "None."));
  addEventListener("resize", () => pointAt(null));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMatrix);
  drawMatrix();
}

function drawMatrix() {
  const K = data.classes.length, width = $("plot").clientWidth, style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue("--" + name);
  const canvas = $("canvas"), g = canvas.getContext("2d"), scale = devicePixelRatio || 1;
  g.font = LABEL_FONT;
  const longest = Math.ceil(Math.max(...data.classes.map(name => g.measureText(name).width))) + 13;
  matrix.left = K <= LABELLED ? Math.min(longest, 240, width * 0.3) : 0;
  const size = Math.min(width - matrix.left, 820, K * 96);
  matrix.cell = size / K;
  const height = size + matrix.left;
  canvas.style.width = `${matrix.left + size}px`;
  canvas.style.height = `${height}px`;
  canvas.width = (matrix.left + size) * scale;
  canvas.height = height * scale;
  g.scale(scale, scale);
  g.fillStyle = colour("track");
  g.fillRect(matrix.left, 0, size, size);
  const big = matrix.cell >= 30, thick = Math.max(matrix.cell - (matrix.cell > 8 ? 1 : 0), 1.2);
  g.font = LABEL_FONT;
  for (const [i, j, n] of data.confusion) {
    const share = n / matrix.rows[i], x = matrix.left + j * matrix.cell, y = i * matrix.cell;
    g.fillStyle = `rgba(${colour(i === j ? "right" : "wrong")}, ${0.15 + 0.85 * Math.sqrt(share)})`;
    g.fillRect(x, y, thick, thick);
    if (big) {
      g.fillStyle = share > 0.5 ? colour("card") : colour("ink");
      g.textAlign = "center";
      g.fillText(n, x + matrix.cell / 2, y + matrix.cell / 2 + 5);
    }
  }
  if (matrix.left) drawLabels(g, colour("ink"), size);
  if (matrix.at) {
    g.strokeStyle = colour("ink");
    g.lineWidth = 2;
    const extra = Math.max(0, 7 - matrix.cell) / 2;
    const x = matrix.left + matrix.at[1] * matrix.cell - extra, y = matrix.at[0] * matrix.cell - extra;
    g.strokeRect(x, y, matrix.cell + 2 * extra, matrix.cell + 2 * extra);
  }
}

function drawLabels(g, ink, size) {
  g.font = LABEL_FONT.replace("13", Math.min(13, matrix.cell * 0.8));
  g.fillStyle = ink;
  g.textAlign = "right";
  data.classes.forEach((name, i) => {
    const middle = (i + 0.5) * matrix.cell;
    let text = name;
    while (g.measureText(text).width > matrix.left - 12 && text.length > 1)
      text = text.slice(0, text.length - 2).trimEnd() + "…";
    g.fillText(text, matrix.left - 8, middle + 4);
    g.save();
    g.translate(matrix.left + middle, size + 8);
    g.rotate(-Math.PI / 2);
    g.fillText(text, 0, 4);
    g.restore();
  });
}

function cellText(i, j) {
  const n = matrix.counts.get(i * data.classes.length + j) || 0;
  return `${data.classes[i]} → ${data.classes[j]}: ${number(n)} of ${plural(matrix.rows[i], "video")}`
    + (matrix.rows[i] ? ` (${percent(n / matrix.rows[i])})` : "");
}

function cellAt(event) {
  const box = $("canvas").getBoundingClientRect(), K = data.classes.length;
  const x = (event.clientX - box.left - matrix.left) / matrix.cell, y = (event.clientY - box.top) / matrix.cell;
  const i = Math.floor(y), j = Math.floor(x), reach = Math.floor(4 / matrix.cell);  // small cells are found from 4 pixels away
  if (i < 0 || j < 0 || i >= K || j >= K) return null;
  let best = [i, j], nearest = Infinity;
  for (let r = Math.max(0, i - reach); r <= Math.min(K - 1, i + reach); r++)
    for (let c = Math.max(0, j - reach); c <= Math.min(K - 1, j + reach); c++) {
      const distance = (r - i) ** 2 + (c - j) ** 2;
      if (matrix.counts.has(r * K + c) && distance < nearest) [best, nearest] = [[r, c], distance];
    }
  return best;
}

function pointAt(cell) {
  matrix.at = cell;
  $("tip").hidden = !cell;
  if (cell) {
    $("tip").textContent = cellText(...cell);
    const x = matrix.left + (cell[1] + 0.5) * matrix.cell, y = (cell[0] + 1) * matrix.cell + 8, room = $("plot").clientWidth;
    $("tip").style.left = `${Math.max(0, Math.min(x, room - $("tip").offsetWidth))}px`;
    $("tip").style.top = `${y}px`;
  }
  drawMatrix();
}

function moveWithKeys(event) {
  const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
  const K = data.classes.length;
  if (event.key === "Escape") pointAt(null);
  if (event.key === "Enter" && matrix.at) choose(matrix.at[0]);
  if (!step) return;
  event.preventDefault();
  const [i, j] = matrix.at || [0, 0], inside = x => Math.max(0, Math.min(K - 1, x));
  pointAt(matrix.at ? [inside(i + step[0]), inside(j + step[1])] : [0, 0]);
  $("cell").textContent = cellText(...matrix.at);
}

function showUnreadable() {
  const count = data.unreadable.length + data.missing;
  $("unreadable-section").hidden = !count;
  $("unreadable-title").textContent = `${plural(count, "video")} could not be read`;
  $("unreadable").append(...data.unreadable.map(([video, reason]) => el("li", {}, el("code", {}, video), ` ${reason}`)));
  if (data.missing) $("unreadable").append(el("li", {}, `${plural(data.missing, "video")} not on disk`));
}

showHeader();
showResults();
showAgreement();
showLegend();
showClasses();
const alphabetical = data.classes.map((name, i) => [name, i]).sort((a, b) => a[0].localeCompare(b[0]));
$("class").append(...alphabetical.map(([name, i]) => el("option", {value: i}, name)));
$("mistakes").hidden = !data.confusion && !data.mistakes.length;
showMistakes();
showUnreadable();
showMatrix();
$("sort").onchange = showClasses;
$("all-classes").onclick = () => { state.allClasses = !state.allClasses; showClasses(); };
$("class").onchange = event => choose(event.target.value === "" ? null : Number(event.target.value));
$("search").oninput = () => { state.cards = FEW_CARDS; showMistakes(); };
$("more").onclick = () => { state.cards += FEW_CARDS; showMistakes(); };
$("chip").querySelector("button").onclick = () => choose(null);
$("canvas").onpointermove = $("canvas").onpointerdown = event => pointAt(cellAt(event));
$("canvas").onpointerleave = () => pointAt(null);
$("canvas").onclick = event => { const cell = cellAt(event); if (cell) choose(cell[0]); };
$("canvas").onkeydown = moveWithKeys;
