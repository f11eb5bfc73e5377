"use strict";
// The status page: reads its feed, draws, and sends prompts. Nothing that came from outside is ever
// markup: all of it goes through `textContent`.

const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const KEPT = 200;
const INTERVAL = 10; // seconds of one point of a plot
let requests = [];
let points = [];
let state = {};

// What it means and what to do about it, by the code of the error, then by the outcome.
const ADVICE = {
  backend_unavailable: "The backend could not be reached, or closed the connection without an answer. Is it running, and is BACKEND_URL right? The cause below is what the system said; infergate check, with the same options, says what to do.",
  backend_error: "The backend answered with something that is no answer: an error status, broken JSON, or a stream without its end. Its own log says why; backend_status below is what it answered, and infergate check shows which operations fail.",
  backend_rejected: "The backend refused the request itself. The client was told why, in the backend's words.",
  gateway_timeout: "A deadline passed before the backend had answered. The cause below names the setting: raise it where the model is slow and not dead.",
  rate_limit_exceeded: "The caller sent more requests than its rate allows. Raise rate= of its key, or RATE_LIMIT.",
  token_limit_exceeded: "The caller has used up its tokens for this window. Raise tokens= of its key, or wait until the window ends.",
  concurrency_limit_exceeded: "The caller has as many requests under way as its key allows. Raise concurrent= of its key.",
  overloaded: "The gateway has as many connections or requests as it may have. Raise MAX_CONNECTIONS or MAX_CONCURRENT_REQUESTS if the backend can take more.",
  limits_unavailable: "Redis, which holds the limits, is away, and SHARED_STATE_FAILURE is refuse.",
  unauthorized: "The key or token is missing, wrong or expired.",
  model_not_allowed: "The key may not use this model: see models= of the key.",
  route_not_allowed: "The key may not use this operation: see routes= of the key.",
  address_not_allowed: "The key may not be used from this address: see from= of the key, and TRUSTED_PROXIES where there is a proxy in front.",
  shutting_down: "The gateway was draining. Clients that try again reach the next one.",
  request_timeout: "The client sent its request too slowly.",
  body_too_large: "The request is larger than MAX_BODY_BYTES.",
  internal_error: "A fault of the gateway's own. Its log has the traceback: please report it.",
  client_disconnected: "The client left before it had its answer, or read too slowly. Its own time-out may be shorter than the model needs.",
  client_error: "The request itself was at fault; the client was told what is wrong with it.",
};

// Numbers as people read them.

function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 100 ? `${value.toFixed(2)} s` : `${Math.round(value)} s`;
}
const milliseconds = (value) => (value === null || value === undefined ? "" : seconds(value / 1000));
const whole = (value) => Math.round(value).toLocaleString("en");

function since(then) {
  let left = Math.max(0, Math.round(Date.now() / 1000 - then));
  const parts = [];
  for (const [name, size] of [["d", 86400], ["h", 3600], ["m", 60]]) {
    if (left >= size) parts.push(`${Math.floor(left / size)}${name}`);
    left %= size;
  }
  return parts.length ? parts.slice(0, 2).join(" ") : `${left}s`;
}

// The head of the page, and the tiles.

const STATES = { ready: "good", draining: "middling", backend_loading: "middling", backend_unavailable: "poor" };

function drawState(now) {
  const badge = byId("state");
  if (badge.textContent !== state.state) {
    badge.textContent = state.state;
    badge.className = `badge ${STATES[state.state] ?? ""}`;
  }
  byId("facts").textContent =
    `version ${state.version} · backend ${state.backend} · up ${since(state.started)}`;
  // The interval under way, and the one before it.
  const begin = Math.floor(now / INTERVAL) * INTERVAL - INTERVAL;
  const recent = points.filter((point) => point.time >= begin);
  const over = now - begin;
  const count = (select) => recent.reduce((sum, point) => sum + select(point), 0);
  const all = (point) => Object.values(point.outcomes).reduce((sum, n) => sum + n, 0);
  const waiting = state.waiting ?? {};
  const { latency, first_token: firstToken } = state.recent;
  const tiles = [
    ["Requests a second", (count(all) / over).toFixed(1)],
    ["Tokens a second", whole(count((p) => p.prompt_tokens + p.completion_tokens) / over)],
    ["Requests in flight", whole(state.in_flight)],
    ["Streams in flight", whole(state.streams)],
    ["Waiting: client's body", whole(waiting.client_body ?? 0)],
    ["Waiting: backend's head", whole(waiting.backend_head ?? 0)],
    ["Waiting: first token", whole(waiting.first_token ?? 0)],
    ["Waiting: client's reading", whole(waiting.client_reading ?? 0)],
    ["Latency p50, last minute", seconds(latency[0]) || "–"],
    ["Latency p99, last minute", seconds(latency[2]) || "–"],
    ["First token p50, last minute", seconds(firstToken[0]) || "–"],
    ["First token p99, last minute", seconds(firstToken[2]) || "–"],
    ...Object.entries(state.limited ?? {}).map(([name, n]) => [`Limit hit: ${name}`, whole(n)]),
  ];
  const list = byId("tiles");
  while (list.children.length > tiles.length) list.lastChild.remove();
  tiles.forEach(([name, value], index) => {
    let tile = list.children[index];
    if (!tile) {
      tile = element("div");
      tile.append(element("dt"), element("dd"));
      list.append(tile);
    }
    if (tile.firstChild.textContent !== name) tile.firstChild.textContent = name;
    if (tile.lastChild.textContent !== value) tile.lastChild.textContent = value;
  });
}

function drawCallers() {
  const callers = state.callers ?? [];
  byId("callers-section").hidden = callers.length === 0;
  byId("callers").replaceChildren(
    ...callers.map(({ caller, requests: n, tokens }) => {
      const row = element("tr");
      row.append(element("td", caller), element("td", whole(n), "number"), element("td", whole(tokens), "number"));
      return row;
    }),
  );
}

// The plots.

const COLOURS = ["#1a73e8", "#e8710a", "#a463f2", "#d93025", "#12a4af", "#f29900", "#b80672", "#188038"];
const HOUR = 3600;

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const outcomeNames = () => {
  const names = new Set(["ok"]);
  for (const point of points) Object.keys(point.outcomes).forEach((name) => names.add(name));
  return [...names];
};

const PLOTS = [
  {
    title: "Requests a second, by outcome",
    series: () => outcomeNames().map((name) => [name, (p) => (p.outcomes[name] ?? 0) / p.seconds, 0]),
  },
  {
    title: "Latency, seconds",
    series: () => ["p50", "p90", "p99"].map((name, i) => [name, (p) => p.latency[i], null]),
  },
  {
    title: "Time to first token, seconds",
    series: () => ["p50", "p90", "p99"].map((name, i) => [name, (p) => p.first_token[i], null]),
  },
  {
    title: "Tokens a second",
    series: () => [
      ["prompt", (p) => p.prompt_tokens / p.seconds, 0],
      ["completion", (p) => p.completion_tokens / p.seconds, 0],
    ],
  },
];

const SHORTEST = 600; // seconds that a plot shows at least

function grid() {
  // Every interval of the last hour, or since the first of which anything is known: one in which
  // nothing ended has no point of its own.
  const end = points[points.length - 1].time;
  const begin = Math.max(end - HOUR, Math.min(points[0].time, end - SHORTEST));
  const known = new Map(points.map((point) => [point.time, point]));
  const times = [];
  for (let time = begin + INTERVAL; time <= end; time += INTERVAL) times.push(time);
  return { times, at: (time) => known.get(time) };
}

// A value between two that are missing is the end of no line: without a dot it would not be seen.
function alone(plot, index, shown) {
  if (shown) return null;
  const values = plot.data[index];
  return [...values.keys()].filter((i) => (values[i] ?? null) !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null);
}

function drawPlots() {
  const { times, at } = grid();
  // All of them before the first is measured: they share the width.
  for (const plot of PLOTS) {
    if (plot.figure) continue;
    plot.figure = element("figure");
    plot.figure.append(element("figcaption", plot.title));
    byId("plots").append(plot.figure);
  }
  for (const plot of PLOTS) {
    const series = plot.series();
    const names = series.map(([name]) => name).join();
    const data = [times, ...series.map(([, value, absent]) => times.map((t) => { const p = at(t); return p ? value(p) ?? absent : absent; }))];
    if (plot.drawn && plot.names === names) {
      plot.drawn.setData(data);
      continue;
    }
    plot.names = names;
    plot.drawn?.destroy();
    const clock = (time) => new Date(time * 1000).toTimeString();
    const axis = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line") } };
    plot.drawn = new uPlot(
      {
        width: Math.max(200, plot.figure.clientWidth - 18),
        height: 180,
        cursor: { drag: { x: false, y: false } },
        axes: [
          { ...axis, values: (_, times) => times.map((time) => clock(time).slice(0, 5)) },
          { ...axis, size: 55 },
        ],
        scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        series: [
          { label: "at", value: (_, time) => (time === null ? "–" : clock(time).slice(0, 8)) },
          ...series.map(([name], i) => ({ label: name, value: (_, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toLocaleString("en")), stroke: COLOURS[i % COLOURS.length], width: 2, spanGaps: false, points: { size: 5, filter: alone } })),
        ],
      },
      data,
      plot.figure,
    );
    plot.figure.querySelector("canvas").setAttribute("role", "img");
    plot.figure.querySelector("canvas").setAttribute("aria-label", plot.title);
  }
}

function redrawPlots() {
  for (const plot of PLOTS) plot.names = undefined;
  drawPlots();
}
addEventListener("resize", () => { clearTimeout(redrawPlots.later); redrawPlots.later = setTimeout(redrawPlots, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawPlots);

// The table of requests, its filters, and the record of one.

const failed = (request) => request.outcome !== "ok";
const shown = (value) => (value === null || value === undefined ? "" : String(value));

function matches(request) {
  const outcome = byId("filter-outcome").value;
  const caller = byId("filter-caller").value;
  const text = byId("filter-text").value.trim().toLowerCase();
  return (
    (!outcome || request.outcome === outcome) &&
    (!caller || request.caller === caller) &&
    (!text || Object.values(request).some((value) => shown(value).toLowerCase().includes(text)))
  );
}

function row(request) {
  const made = element("tr");
  const opener = element("button", request.request_id);
  opener.type = "button";
  opener.addEventListener("click", () => open(request));
  const cell = element("td");
  cell.append(opener);
  const tokens = request.usage_source === "none" ? "" : `${request.prompt_tokens}+${request.completion_tokens}`;
  made.append(
    element("td", new Date(request.time).toTimeString().slice(0, 8)),
    element("td", request.outcome, failed(request) ? "poor" : "good"),
    element("td", shown(request.status), "number"),
    element("td", request.operation ?? request.path ?? ""),
    element("td", shown(request.model)),
    element("td", milliseconds(request.latency_ms), "number"),
    element("td", milliseconds(request.ttft_ms), "number"),
    element("td", tokens, "number"),
    element("td", shown(request.caller)),
    cell,
  );
  return made;
}

function choose(select, values) {
  for (const value of values) {
    if (value && ![...select.options].some((option) => option.value === value)) {
      const option = element("option", value);
      option.value = value;
      select.append(option);
    }
  }
}

function drawRequests() {
  choose(byId("filter-outcome"), requests.map((request) => request.outcome));
  choose(byId("filter-caller"), requests.map((request) => request.caller));
  byId("requests").replaceChildren(...requests.filter(matches).map(row));
}

function addRequests(added) {
  requests = [...added].reverse().concat(requests).slice(0, KEPT);
  // The rows that a keyboard stands on stay where they are: new ones go in above them.
  const body = byId("requests");
  choose(byId("filter-outcome"), added.map((request) => request.outcome));
  choose(byId("filter-caller"), added.map((request) => request.caller));
  for (const request of added) if (matches(request)) body.prepend(row(request));
  while (body.children.length > KEPT) body.lastChild.remove();
}

function open(request) {
  byId("detail-title").textContent = `Request ${request.request_id}`;
  byId("detail-advice").textContent = failed(request)
    ? ADVICE[request.error] ?? ADVICE[request.outcome] ?? "The code in error says what was wrong with the request; the client was told."
    : "All went well.";
  byId("detail-fields").replaceChildren(
    ...Object.entries(request).map(([name, value]) => {
      const line = element("tr");
      const head = element("th", name);
      head.scope = "row";
      line.append(head, element("td", value === null ? "null" : String(value)));
      return line;
    }),
  );
  byId("detail").showModal();
}

byId("filters").addEventListener("input", drawRequests);
byId("filters").addEventListener("submit", (event) => event.preventDefault());

// The prompt box: each operation that streams, what is sent, and the text of one of its events.

const message = (prompt) => [{ role: "user", content: prompt }];
const OPERATIONS = {
  chat: ["/v1/chat/completions", (prompt) => ({ messages: message(prompt) }), (e) => { const d = e.choices?.[0]?.delta ?? {}; return d.content ?? d.reasoning_content ?? d.reasoning; }],
  completions: ["/v1/completions", (prompt) => ({ prompt }), (e) => e.choices?.[0]?.text],
  responses: ["/v1/responses", (prompt) => ({ input: prompt }), (e) => (typeof e.delta === "string" && e.type.endsWith("text.delta") ? e.delta : "")],
  messages: ["/v1/messages", (prompt) => ({ messages: message(prompt), max_tokens: 1024 }), (e) => e.delta?.text ?? e.delta?.thinking],
  infill: ["/completion", (prompt) => ({ prompt, n_predict: 256 }), (e) => e.content],
};
let sending = null;

function drawBox() {
  byId("box-section").hidden = !state.prompt_box;
  byId("box-key-label").hidden = !state.keys_needed;
  const select = byId("box-operation");
  if (!select.options.length) choose(select, (state.operations ?? ["chat"]).filter((name) => name in OPERATIONS));
}

function failure(event) {
  const error = event.error ?? event.response?.error;
  if (!error) return null;
  return typeof error === "string" ? `${error}: ${event.message ?? ""}` : `${error.code ?? error.type ?? "error"}: ${error.message ?? ""}`;
}

async function send(prompt) {
  const [path, body, textOf] = OPERATIONS[byId("box-operation").value];
  const model = byId("box-model").value.trim();
  const key = byId("box-key").value;
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = byId("box-answer");
  const times = byId("box-times");
  answer.textContent = "";
  times.textContent = "";
  const began = performance.now();
  let first = null;
  let deltas = 0;
  const response = await fetch(path, {
    method: "POST",
    headers,
    signal: sending.signal,
    credentials: "omit",
    body: JSON.stringify({ ...body(prompt), ...(model && { model }), stream: true }),
  });
  if (!response.ok) throw new Error(failure(await response.json()) ?? `status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    held += value.replaceAll("\r\n", "\n");
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (!data || data === "[DONE]") continue;
      const said = JSON.parse(data);
      if (said === null) continue;
      if (failure(said)) throw new Error(failure(said));
      const text = textOf(said);
      if (!text) continue;
      first ??= performance.now();
      deltas += 1;
      answer.append(text);
      answer.scrollTop = answer.scrollHeight;
      const passed = (performance.now() - first) / 1000;
      times.textContent = `first token ${seconds((first - began) / 1000)}` + (deltas > 1 && passed > 0 ? ` · ${((deltas - 1) / passed).toFixed(1)} tokens/s` : "");
    }
  }
}

byId("box").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  sending = new AbortController();
  byId("box-stop").hidden = false;
  byId("box-send").disabled = true;
  try {
    await send(byId("box-prompt").value);
  } catch (error) {
    byId("box-times").textContent = error.name === "AbortError" ? "stopped" : error.message;
  } finally {
    sending = null;
    byId("box-stop").hidden = true;
    byId("box-send").disabled = false;
  }
});
byId("box-stop").addEventListener("click", () => sending?.abort());

// The feed.

function hear(line) {
  state = line.state;
  if (line.history) {
    points = line.history;
    requests = [];
    byId("requests").replaceChildren();
  }
  const known = new Set(line.points.map((point) => point.time));
  points = points.filter((point) => !known.has(point.time)).concat(line.points);
  points = points.filter((point) => point.time > line.time - HOUR);
  drawState(line.time);
  drawCallers();
  drawBox();
  drawPlots();
  if (line.requests.length) addRequests(line.requests);
}

const feed = new EventSource("status/events");
feed.addEventListener("message", (event) => hear(JSON.parse(event.data)));
feed.addEventListener("error", () => {
  byId("state").textContent = "not reachable";
  byId("state").className = "badge poor";
});
