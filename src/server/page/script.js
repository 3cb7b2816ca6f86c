/** The page: brings the conversations, the choice of who answers, and the server together. */

import { answer, isGrowing, isRunning, startAnswers, stop } from "./answer.js";
import { inWords, ServerError } from "./api.js";
import { chosen, startChooser } from "./chooser.js";
import { focusQuestion, setQuestion, startComposer } from "./composer.js";
import { add, newConversation, remove, show, titleOf } from "./conversation.js";
import { byId, icon, notice } from "./dom.js";
import { mixtureParts, onExperts, readExperts } from "./experts.js";
import { drawList, exportAll } from "./list.js";
import { drawGrowing, drawMessages, followEnd, startMessages } from "./messages.js";
import { startPanel } from "./panel.js";
import { editSettings, firstSystem, requestFields, startSettings, toggleTheme } from "./settings.js";
import { closeDrawers, startSides } from "./sides.js";
import * as store from "./store.js";
import { drawWelcome } from "./welcome.js";

/** How long to wait for a server that is still loading its model. */
const RETRY_MS = 1500;

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

// Conversations.

function open(id) {
  current = store.get(id) ?? newConversation(firstSystem());
  store.keep("open", current.id);
  setQuestion(current.nodes.length ? current.draft : store.load("draft", ""));
  draw();
}

function begin() {
  open(null);
  closeDrawers();
  focusQuestion();
}

function forget(conversation) {
  stop(conversation);
  store.forget(conversation);
  if (conversation.id === current.id) open(store.all()[0]?.id);
  else draw();
  notice("The conversation is deleted.", {
    words: "Undo",
    run: () => {
      store.save(conversation);
      open(conversation.id);
    },
  });
}

const conversationActions = {
  open: id => {
    open(id);
    closeDrawers();
  },
  forget,
  rename(conversation, title) {
    conversation.title = title;
    store.save(conversation);
    draw();
  },
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
  const svf = chosen();
  const fields = { ...requestFields(), ...(svf ? { svf } : {}) };
  await answer(conversation, node, fields, changed);
  if (conversation === current) say(node);
}

/** Tells readers of the screen how an answer ended. */
function say(node) {
  const who = node.svf
    ? mixtureParts(node.svf.mixture ?? {})
        .map(part => part.words)
        .join(", ")
    : "the model";
  byId("spoken").textContent =
    node.state === "done" ? `Answered by ${who}.` : node.state === "stopped" ? "Stopped." : node.error;
}

/** Adds an empty answer below `parent` and asks for it. */
function answerBelow(parent) {
  ask(
    current,
    add(current, parent, {
      role: "assistant",
      content: "",
      reasoning: "",
      state: "",
      toolCalls: [],
      svf: null,
      timings: null,
    }),
  );
}

function askBelow(parent, content) {
  answerBelow(add(current, parent, { role: "user", content, toolCalls: [] }).id);
}

/** What can be done to a message; nothing while the conversation has an answer at work. */
const actions = {
  show(node) {
    show(current, node);
    store.save(current);
    draw();
  },
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
    const put = fields => {
      Object.assign(conversation, fields);
      store.save(conversation);
      draw();
    };
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

function send(content) {
  if (isRunning(current)) return false;
  keepDraft("");
  askBelow(current.leaf, content);
  followEnd();
  return true;
}

/** A question that is not sent yet stays with its conversation; that of a new one, by itself. */
function keepDraft(text) {
  if (current.nodes.length === 0) store.keep("draft", text || null);
  else if (current.draft !== text) store.save(Object.assign(current, { draft: text }));
}

// Files, dialogs, the server.

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
    if ((await editSettings(current)) && current.nodes.length) store.save(current);
  });
  byId("delete-all").addEventListener("click", () => {
    if (!confirm("Delete all conversations? This cannot be undone.")) return;
    for (const conversation of store.all()) {
      stop(conversation);
      store.forget(conversation);
    }
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
  onExperts(() => drawWelcome(chooser));
  startMessages();
  startAnswers();
  startComposer({ send, keepDraft, stop: () => stop(current), escape: closeDrawers });
  startSides(
    startPanel(expert => {
      chooser.useExpert(expert);
      notice(`${expert} answers the next question.`);
    }),
  );
  byId("new").addEventListener("click", begin);
  byId("find").addEventListener("input", () => drawList(current, conversationActions));
  startFiles();
  startDialogs();
  open(store.load("open", null));
  meetServer();
}

start();
