/** The page: brings the conversations, the choice of who answers, and the server together. */

import { answer, isGrowing, isRunning, keepAll, stop } from "./answer.js";
import { inWords, ServerError } from "./api.js";
import { chosen, startChooser } from "./chooser.js";
import { add, newConversation, path, remove, show, titleOf } from "./conversation.js";
import { byId, el, icon, notice } from "./dom.js";
import { areKnown, experts, mixtureParts, onExperts, readExperts, tone } from "./experts.js";
import { drawList, exportAll } from "./list.js";
import { drawGrowing, drawMessages, followEnd, startMessages } from "./messages.js";
import { startPanel } from "./panel.js";
import { editSettings, firstSystem, requestFields, startSettings, toggleTheme } from "./settings.js";
import * as store from "./store.js";

/** How long to wait for a server that is still loading its model. */
const RETRY_MS = 1500;
/** The experts that the first page shows. */
const MAX_WELCOMED = 6;

const question = byId("question");
const isNarrow = matchMedia("(max-width: 900px)");
let current = null;
let chooser = null;

// What is drawn.

/** A growing answer is drawn once a frame, however fast its pieces come. */
const waiting = new Map();

function grow(conversation, node) {
  if (waiting.size === 0) requestAnimationFrame(drawWaiting);
  waiting.set(node.id, { conversation, node });
}

function drawWaiting() {
  for (const { conversation, node } of waiting.values()) if (isGrowing(node)) drawGrowing(conversation, node);
  waiting.clear();
}

function draw() {
  drawMessages(current, actions);
  const isEmpty = current.nodes.length === 0;
  byId("welcome").hidden = !isEmpty;
  byId("messages").hidden = isEmpty;
  byId("title").textContent = isEmpty ? "llama-svf" : titleOf(current);
  document.title = isEmpty ? "llama-svf" : `${titleOf(current)} – llama-svf`;
  byId("send").hidden = isRunning(current);
  byId("stop").hidden = !isRunning(current);
  drawList(current, conversationActions);
}

function drawWelcome() {
  const { data, base, strategies } = experts();
  byId("model").textContent = base;
  byId("welcome-text").textContent = data.length === 0
    ? "This server has no experts now: the model answers alone."
    : "Each question can have an expert of its own, or a mixture. Press one, or ask: the button below the field says who answers.";
  const press = expert => { chooser.useExpert(expert); question.focus(); };
  const cards = data.slice(0, MAX_WELCOMED).map(({ name, description }) => el("button", { type: "button", class: "card", onclick: () => press(name) },
    el("b", { class: tone(name) }, name), el("span", { class: "hint" }, description ?? "")));
  const auto = el("button", { type: "button", class: "card", onclick: () => { chooser.useAuto(); question.focus(); } },
    el("b", {}, "Choose for me"), el("span", { class: "hint" }, "The model reads the question first, and says which expert fits."));
  byId("welcome-experts").replaceChildren(...(strategies.length ? [auto] : []), ...cards);
}

// Conversations.

function open(id) {
  current = store.get(id) ?? newConversation(firstSystem());
  store.keep("open", current.id);
  question.value = current.nodes.length ? current.draft : store.load("draft", "");
  fitQuestion();
  draw();
}

function begin() {
  open(null);
  closeDrawers();
  question.focus();
}

function forget(conversation) {
  stop(conversation);
  store.forget(conversation);
  if (conversation.id === current.id) open(store.all()[0]?.id);
  else draw();
  notice("The conversation is deleted.", { words: "Undo", run: () => { store.save(conversation); open(conversation.id); } });
}

const conversationActions = {
  open: id => { open(id); closeDrawers(); },
  forget,
  rename(conversation, title) { conversation.title = title; store.save(conversation); draw(); },
  redraw: draw,
};

// Messages.

async function ask(conversation, node) {
  let last = node.state;
  const changed = () => {
    const isNew = node.state !== last;
    last = node.state;
    if (isNew || !isRunning(conversation)) draw();
    else grow(conversation, node);
  };
  let fields;
  try {
    const svf = chosen();
    fields = { ...requestFields(), ...(svf ? { svf } : {}) };
  } catch {
    notice("The settings' other fields are no JSON object.");
    return;
  }
  await answer(conversation, node, fields, changed);
  if (conversation === current) say(node);
}

/** Tells readers of the screen how an answer ended. */
function say(node) {
  const who = node.svf ? mixtureParts(node.svf.mixture ?? {}).map(part => part.words).join(", ") : "the model";
  byId("spoken").textContent = node.state === "done" ? `Answered by ${who}.` : node.state === "stopped" ? "Stopped." : node.error;
}

/** Adds an empty answer below `parent` and asks for it. */
function answerBelow(parent) {
  ask(current, add(current, parent, { role: "assistant", content: "", reasoning: "", state: "", toolCalls: [], svf: null, timings: null }));
}

function askBelow(parent, content) {
  answerBelow(add(current, parent, { role: "user", content, toolCalls: [] }).id);
}

/** What can be done to a message; nothing while the conversation has an answer at work. */
const actions = {
  show(node) { show(current, node); store.save(current); draw(); },
  again: node => answerBelow(node.parent),
  goOn: node => ask(current, node),
  edit: (node, content) => askBelow(node.parent, content),
  retry(node) {
    if (isRunning(current)) return;
    if (!node.content && !node.reasoning) remove(current, node);
    answerBelow(node.parent);
  },
  remove(node) {
    const before = { nodes: current.nodes, leaf: current.leaf };
    const conversation = current;
    const put = fields => { Object.assign(conversation, fields); store.save(conversation); draw(); };
    remove(conversation, node);
    put({});
    notice("The message and what followed are deleted.", { words: "Undo", run: () => put(before) });
  },
  giveResults(node, results) {
    let parent = node.id;
    results.forEach((content, i) => {
      parent = add(current, parent, { role: "tool", content, callId: node.toolCalls[i].id, toolCalls: [] }).id;
    });
    answerBelow(parent);
  },
};

function sendQuestion() {
  const content = question.value.trim();
  if (!content || isRunning(current)) return;
  question.value = "";
  keepDraft();
  fitQuestion();
  showChooser(false);
  askBelow(current.leaf, content);
  followEnd();
}

// The field and its keys.

function fitQuestion() {
  question.style.height = "auto";
  question.style.height = `${Math.min(question.scrollHeight + 2, innerHeight * 0.4)}px`;
}

/** A question that is not sent yet stays with its conversation; that of a new one, by itself. */
function keepDraft() {
  if (current.nodes.length === 0) store.keep("draft", question.value || null);
  else if (current.draft !== question.value) store.save(Object.assign(current, { draft: question.value }));
}

function showChooser(isShown) {
  byId("chooser").hidden = !isShown;
  byId("who").setAttribute("aria-expanded", String(isShown));
}

function onEscape() {
  if (!byId("chooser").hidden) {
    showChooser(false);
    byId("who").focus();
  } else if (document.body.dataset.drawer) {
    closeDrawers();
  } else {
    stop(current);
  }
}

function startComposer() {
  byId("composer").addEventListener("submit", event => { event.preventDefault(); sendQuestion(); });
  byId("stop").addEventListener("click", () => { stop(current); question.focus(); });
  byId("who").addEventListener("click", () => showChooser(byId("chooser").hidden));
  question.addEventListener("input", fitQuestion);
  question.addEventListener("change", keepDraft);
  question.addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    sendQuestion();
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) onEscape();
  });
  document.addEventListener("pointerdown", event => {
    if (!byId("composer").contains(event.target)) showChooser(false);
  });
}

// The sides.

/** On a narrow page the sides are drawers over the messages, one at a time; on a wide one they stand beside them. */
function openDrawer(name) {
  document.body.dataset.drawer = name;
  byId(name).querySelector("button, input")?.focus();
}

function closeDrawers() {
  const was = document.body.dataset.drawer;
  delete document.body.dataset.drawer;
  if (was === "panel") byId("panel").hidden = true;
  if (was) byId(`show-${was}`).focus();
}

function startSides(panel) {
  const list = byId("list");
  const showList = () => {
    if (isNarrow.matches) openDrawer("list");
    else document.body.classList.toggle("without-list");
  };
  const showPanel = isShown => {
    byId("panel").hidden = !isShown;
    byId("show-panel").setAttribute("aria-expanded", String(isShown));
    if (!isShown) { panel.close(); closeDrawers(); return; }
    panel.open();
    if (isNarrow.matches) openDrawer("panel");
  };
  byId("show-list").addEventListener("click", showList);
  byId("show-panel").addEventListener("click", () => showPanel(byId("panel").hidden));
  byId("panel").querySelector(".close").addEventListener("click", () => showPanel(false));
  list.querySelector(".close").addEventListener("click", closeDrawers);
  byId("new").addEventListener("click", begin);
  byId("find").addEventListener("input", () => drawList(current, conversationActions));
  document.querySelector("main").addEventListener("click", event => {
    if (document.body.dataset.drawer && !event.target.closest("#show-list, #show-panel")) closeDrawers();
  });
}

function startFiles() {
  const file = byId("import-file");
  byId("export").addEventListener("click", exportAll);
  byId("import").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    try {
      const n = store.imported(await file.files[0].text());
      notice(`${n} ${n === 1 ? "conversation" : "conversations"} imported.`);
      draw();
    } catch (error) {
      notice(error.message);
    }
    file.value = "";
  });
}

function startDialogs() {
  byId("theme").addEventListener("click", toggleTheme);
  byId("show-settings").addEventListener("click", async () => {
    if (await editSettings(current) && current.nodes.length) store.save(current);
  });
  byId("delete-all").addEventListener("click", () => {
    if (!confirm("Delete all conversations? This cannot be undone.")) return;
    for (const conversation of store.all()) { stop(conversation); store.forget(conversation); }
    open(null);
  });
}

/** Reads the experts; waits for a server that is still loading its model. */
async function meetServer() {
  for (;;) {
    try {
      await readExperts();
      return;
    } catch (error) {
      const isLoading = error instanceof ServerError && error.status === 503;
      byId("model").textContent = isLoading ? "loading the model…" : "";
      if (!isLoading) {
        notice(inWords(error), { words: "Try again", run: meetServer });
        return;
      }
      await new Promise(resolve => setTimeout(resolve, RETRY_MS));
    }
  }
}

function start() {
  for (const button of document.querySelectorAll("[data-icon]")) button.prepend(icon(button.dataset.icon));
  startSettings();
  store.open({
    problem: notice,
    changed(id) {
      // What is typed here stays.
      if (id === current.id && !isRunning(current)) current = store.get(id) ?? current;
      draw();
    },
  });
  chooser = startChooser(byId("who"), byId("chooser"));
  onExperts(drawWelcome);
  startMessages();
  startComposer();
  startSides(startPanel(expert => { chooser.useExpert(expert); notice(`${expert} answers the next question.`); }));
  startFiles();
  startDialogs();
  open(store.load("open", null));
  addEventListener("pagehide", () => { keepDraft(); keepAll(); });
  meetServer();
  if (!isNarrow.matches) question.focus();
}

start();
