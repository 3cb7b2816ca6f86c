/** The panel at the side: the experts, what the server does now, and what it is. */

import { getJson, getText, inWords, request } from "./api.js";
import { byId, el, icon, notice, svg } from "./dom.js";
import { experts, onExperts, readExperts, short, tone } from "./experts.js";
import { expertWords, picker } from "./picker.js";
import { samples, valueOf } from "./prometheus.js";

const TABS = ["experts", "live", "server"];
const LIVE_EVERY = 2000;
/** Points of the line of tokens/s: two minutes. */
const MAX_POINTS = 60;

/** The panel: `useExpert` chooses an expert for the next answer. */
export function startPanel(useExpert) {
  const panes = { experts: expertsPane(useExpert), live: livePane(), server: serverPane() };
  let open = null;
  const select = name => {
    if (open) panes[open].close?.();
    open = name;
    for (const tab of TABS) {
      byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
      byId(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
      byId(`pane-${tab}`).hidden = tab !== name;
    }
    panes[name].open();
  };
  TABS.forEach((tab, i) => {
    const button = byId(`tab-${tab}`);
    button.setAttribute("aria-selected", "false");
    button.addEventListener("click", () => select(tab));
    button.addEventListener("keydown", event => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: TABS.length - 1 }[event.key];
      if (to === undefined) return;
      const next = TABS[(to + TABS.length) % TABS.length];
      select(next);
      byId(`tab-${next}`).focus();
    });
  });
  let last = TABS[0];
  return {
    open: () => select(last),
    close: () => {
      last = open ?? last;
      panes[last].close?.();
      open = null;
    },
  };
}

/** Runs `work`; a failure is told in words. */
async function told(work) {
  try {
    await work();
  } catch (error) {
    notice(inWords(error));
  }
}

function expertsPane(useExpert) {
  const { element, update } = picker({ label: "Find an expert", row: expert => expertView(expert, useExpert) });
  const form = loadForm();
  byId("pane-experts").append(element, form);
  onExperts(({ can_load: canLoad }) => {
    form.hidden = !canLoad;
    update();
  });
  return { open: () => told(readExperts) };
}

function expertView(expert, useExpert) {
  const unload = () =>
    told(async () => {
      await request("v1/unload_lora_adapter", { body: { lora_name: expert.name } });
      await readExperts();
      notice(
        `${expert.name} is unloaded.`,
        expert.path ? { words: "Load again", run: () => told(() => loadExpert(expert.name, expert.path)) } : null,
      );
    });
  // What this server cannot load again stays.
  const button = experts().can_load ? el("button", { type: "button", onclick: unload }, "Unload") : null;
  return el(
    "details",
    { class: "expert" },
    el("summary", {}, expertWords(expert)),
    table({ values: expert.n_values, ...expert.training, file: expert.path }),
    el(
      "div",
      { class: "buttons" },
      button,
      el("button", { type: "button", class: "primary", onclick: () => useExpert(expert.name) }, "Let it answer"),
    ),
  );
}

async function loadExpert(name, path) {
  await request("v1/load_lora_adapter", { body: { lora_name: name, lora_path: path } });
  await readExperts();
  notice(`${name} is loaded.`);
}

function loadForm() {
  const name = el("input", { required: true, name: "name", autocomplete: "off", spellcheck: false });
  const path = el("input", {
    required: true,
    name: "path",
    autocomplete: "off",
    spellcheck: false,
    placeholder: "in the server's folder of experts",
  });
  const load = event => {
    event.preventDefault();
    told(async () => {
      await loadExpert(name.value.trim(), path.value.trim());
      form.reset();
    });
  };
  const form = el(
    "form",
    { class: "load", onsubmit: load },
    el("h3", {}, "Load an expert"),
    el("label", {}, "Name ", name),
    el("label", {}, "File ", path),
    el("div", { class: "buttons" }, el("button", { type: "submit" }, icon("plus"), "Load")),
  );
  return form;
}

/** Names with their values, long ones folded. */
function table(facts) {
  const rows = Object.entries(facts)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => {
      const text =
        typeof value === "object"
          ? JSON.stringify(value, null, 1)
          : typeof value === "number"
            ? String(+value.toFixed(6))
            : String(value);
      const shown =
        text.length > 160 || text.includes("\n")
          ? el("details", {}, el("summary", {}, "Show"), el("pre", { tabIndex: 0 }, text))
          : text;
      return el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, shown));
    });
  return el("dl", { class: "facts" }, rows);
}

function serverPane() {
  const pane = byId("pane-server");
  const open = async () => {
    try {
      const {
        default_generation_settings: { params, ...settings } = {},
        chat_template: template,
        ...props
      } = await getJson("props");
      pane.replaceChildren(table({ ...props, ...settings, sampling: params, chat_template: template }));
    } catch (error) {
      pane.replaceChildren(el("p", { class: "hint" }, inWords(error)));
    }
  };
  return { open };
}

function livePane() {
  const pane = byId("pane-live");
  let opened = 0;

  const watch = async () => {
    const mine = ++opened;
    let points = [];
    let last = null;
    while (mine === opened) {
      try {
        const found = samples(await getText("metrics", { quiet: true }));
        if (mine !== opened) return;
        const now = performance.now();
        const total = valueOf(found, "llamacpp:tokens_predicted_total");
        if (last)
          points = [...points, Math.max(0, (1000 * (total - last.total)) / (now - last.now))].slice(-MAX_POINTS);
        last = { total, now };
        drawLive(pane, found, points);
      } catch (error) {
        pane.replaceChildren(el("p", { class: "hint" }, inWords(error)));
      }
      await new Promise(resolve => setTimeout(resolve, LIVE_EVERY));
    }
  };
  return {
    open: watch,
    close: () => {
      opened++;
    },
  };
}

function drawLive(pane, found, points) {
  const tile = (words, value) =>
    el("div", { class: "tile" }, el("b", {}, value === null ? "–" : short(value)), el("span", {}, words));
  const unfolded = pane.querySelector("details")?.open;
  pane.replaceChildren(
    el(
      "div",
      { class: "tiles" },
      tile("tokens/s", points.at(-1) ?? null),
      tile("at work", valueOf(found, "llamacpp:requests_processing")),
      tile("waiting", valueOf(found, "llamacpp:requests_deferred")),
    ),
    sparkline(points),
    ...expertBars(found),
    el("details", { open: unfolded }, el("summary", {}, "All metrics"), allMetrics(found)),
  );
}

/** The tokens/s of the last two minutes. */
function sparkline(points) {
  const most = Math.max(1, ...points);
  const [width, height] = [300, 56];
  const x = i => width - (points.length - 1 - i) * (width / (MAX_POINTS - 1));
  const y = value => height - 2 - (value / most) * (height - 6);
  const line = points.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const area = points.length > 1 ? `${x(0).toFixed(1)},${height} ${line} ${width},${height}` : "";
  const words = `Tokens per second in the last two minutes, at most ${short(Math.max(0, ...points))}`;
  return el(
    "figure",
    { class: "spark" },
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
      svg("polygon", { points: area }),
      svg("polyline", { points: line }),
    ),
    el("figcaption", { class: "hint" }, `Tokens/s, two minutes, at most ${short(Math.max(0, ...points))}`),
  );
}

/** How many requests each expert answered, as far as the server counts them. */
function expertBars(found) {
  const counted = found.filter(
    ({ name, labels }) => name.startsWith("svf:") && /requests/.test(name) && labels.expert !== undefined,
  );
  const bars = counted.sort((a, b) => b.value - a.value).slice(0, 12);
  if (!bars.length) return [];
  const most = Math.max(1, ...bars.map(({ value }) => value));
  const rows = bars.map(({ labels: { expert }, value }) => {
    const filled = el("span", { class: `filled ${tone(expert)}` });
    filled.style.width = `${(100 * value) / most}%`;
    return el(
      "div",
      { class: "bar" },
      el("dt", {}, expert),
      el("dd", { class: "track", "aria-hidden": "true" }, filled),
      el("dd", { class: "value" }, short(value)),
    );
  });
  return [el("h3", {}, "Requests by expert"), el("dl", { class: "bars" }, rows)];
}

function allMetrics(found) {
  const label = ({ name, labels }) =>
    name +
    Object.entries(labels)
      .map(([key, value]) => ` ${key}=${value}`)
      .join("");
  return el(
    "dl",
    { class: "facts" },
    found.map(sample => el("div", {}, el("dt", {}, label(sample)), el("dd", {}, short(sample.value)))),
  );
}
