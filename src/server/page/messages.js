/** The messages of the conversation that is shown. */

import { isGrowing, isRunning } from "./answer.js";
import { path, siblings } from "./conversation.js";
import { byId, copy, el, icon, iconButton } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { costs, strip } from "./strip.js";

/** Nearer to the end than this, in pixels, the page follows the answer. */
const NEAR_END = 60;

/** The elements of the messages shown, by id. */
let views = new Map();
let drawn = null;

const scroller = () => byId("scroll");
/** Whether the page follows the end: so it does until a person goes up. */
let isFollowing = true;

/** Goes to the end of the messages, and stays there as they grow. */
export function followEnd() {
  isFollowing = true;
  scroller().scrollTop = scroller().scrollHeight;
}

const keepUp = () => {
  if (isFollowing) followEnd();
};

/** Watches where a person scrolls to, and offers the way back. */
export function startMessages() {
  scroller().addEventListener(
    "scroll",
    () => {
      const { scrollHeight, scrollTop, clientHeight } = scroller();
      isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END;
      byId("latest").hidden = isFollowing;
    },
    { passive: true },
  );
  byId("latest").addEventListener("click", followEnd);
  new ResizeObserver(keepUp).observe(scroller());
}

/** Draws `conversation`. `actions` is what can be done to a message. */
export function drawMessages(conversation, actions) {
  if (drawn !== conversation.id) {
    views = new Map();
    isFollowing = true;
  }
  drawn = conversation.id;
  const nodes = path(conversation);
  const before = views;
  const focused = focusIn(byId("messages"));
  const made = node => before.get(node.id) ?? VIEWS[node.role](actions);
  views = new Map(nodes.map(node => [node.id, made(node)]));
  nodes.forEach((node, i) =>
    views.get(node.id).update(node, {
      isLast: i === nodes.length - 1,
      branches: siblings(conversation, node),
      isBusy: isRunning(conversation),
    }),
  );
  placeIn(
    byId("messages"),
    [...views.values()].map(view => view.element),
  );
  focused?.();
  keepUp();
}

/** Draws again the message that grows. */
export function drawGrowing(conversation, node) {
  const view = views.get(node.id);
  if (!view || drawn !== conversation.id) return;
  view.grow(node);
  keepUp();
}

/** Buttons are made anew: gives back the focus to the one that does the same in the same place, or at least stays near. */
function focusIn(messages) {
  const button = document.activeElement?.closest("#messages button");
  if (!button) return null;
  const at = [...messages.children].indexOf(button.closest("article"));
  const name = button.getAttribute("aria-label");
  return () => {
    if (document.activeElement !== document.body) return;
    const same = [...(messages.children[at]?.querySelectorAll("button:not(:disabled)") ?? [])].find(
      other => other.getAttribute("aria-label") === name,
    );
    (same ?? scroller()).focus({ preventScroll: true });
  };
}

/** Makes `elements` the children, and moves none that is in its place, so that what has the focus keeps it. */
function placeIn(parent, elements) {
  elements.forEach((element, i) => {
    if (parent.childNodes[i] !== element) parent.insertBefore(element, parent.childNodes[i] ?? null);
  });
  while (parent.childNodes.length > elements.length) parent.lastChild.remove();
}

const VIEWS = { user: questionView, assistant: answerView, tool: toolView };

/** Buttons to go from one branch to the next. */
function branchButtons(node, branches, isBusy, actions) {
  if (branches.length < 2) return [];
  const at = branches.indexOf(node);
  const step = (name, words, to) => {
    const button = iconButton(name, words, () => actions.show(branches[to]));
    button.disabled = isBusy || !branches[to];
    return button;
  };
  return [
    el(
      "span",
      { class: "branches" },
      step("left", "The version before", at - 1),
      `${at + 1}/${branches.length}`,
      step("right", "The version after", at + 1),
    ),
  ];
}

function disabled(button, isDisabled) {
  button.disabled = isDisabled;
  return button;
}

function questionView(actions) {
  const text = el("div", { class: "text" });
  const foot = el("div", { class: "foot" });
  const element = el("article", { class: "question", "aria-label": "Your question" }, text, foot);
  const update = (node, { branches, isBusy }) => {
    text.textContent = node.content;
    const copyButton = iconButton("copy", "Copy the question", () => copy(node.content, copyButton));
    foot.replaceChildren(
      ...branchButtons(node, branches, isBusy, actions),
      copyButton,
      disabled(
        iconButton("edit", "Edit the question", () => editIn(element, node, actions)),
        isBusy,
      ),
      disabled(
        iconButton("trash", "Delete the question and what follows", () => actions.remove(node)),
        isBusy,
      ),
    );
  };
  return { element, update, grow: () => {} };
}

/** Puts a field over a question; what is sent is a branch of its own. */
function editIn(element, node, actions) {
  const field = el("textarea", {
    value: node.content,
    rows: Math.min(12, node.content.split("\n").length + 1),
    "aria-label": "The question",
  });
  const close = () => {
    form.remove();
    element.classList.remove("edited");
    element.querySelector(".foot button:not(:disabled)")?.focus();
  };
  const send = () => {
    const text = field.value.trim();
    if (!text) return;
    close();
    actions.edit(node, text);
  };
  const form = el(
    "form",
    {
      class: "edit",
      onsubmit: event => {
        event.preventDefault();
        send();
      },
    },
    field,
    el(
      "div",
      { class: "buttons" },
      el("button", { type: "button", onclick: close }, "Cancel"),
      el("button", { type: "submit", class: "primary" }, "Send"),
    ),
  );
  field.addEventListener("keydown", event => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  element.classList.add("edited");
  element.append(form);
  field.focus();
}

function toolView(actions) {
  const text = el("pre", { tabIndex: 0 });
  const foot = el("div", { class: "foot" });
  const element = el(
    "article",
    { class: "tool", "aria-label": "A tool's result" },
    el("p", { class: "hint" }, "The tool's result"),
    text,
    foot,
  );
  const update = (node, { isBusy }) => {
    text.textContent = node.content;
    foot.replaceChildren(
      disabled(
        iconButton("trash", "Delete the result and what follows", () => actions.remove(node)),
        isBusy,
      ),
    );
  };
  return { element, update, grow: () => {} };
}

function answerView(actions) {
  const who = el("div");
  const thought = el("div", { class: "markdown" });
  const thoughtWords = el("summary");
  const thinking = el("details", { class: "thought" }, thoughtWords, thought);
  const text = el("div", { class: "markdown text" });
  const calls = el("div");
  const state = el("div");
  const foot = el("div", { class: "foot" });
  const element = el(
    "article",
    { class: "answer", "aria-label": "The model's answer" },
    who,
    thinking,
    text,
    calls,
    state,
    foot,
  );
  let shownSvf;
  let isNewest = true;

  const grow = node => {
    if (node.svf !== shownSvf) {
      who.replaceChildren(...(node.svf ? [strip(node.svf, isNewest)] : []));
      shownSvf = node.svf;
    }
    thinking.hidden = !node.reasoning;
    thoughtWords.textContent = isGrowing(node) && !node.content ? "Thinking…" : "What it thought";
    renderMarkdown(thought, node.reasoning);
    renderMarkdown(text, node.content);
    calls.replaceChildren(...node.toolCalls.map(callView));
    state.replaceChildren(...stateOf(node, actions));
    if (isGrowing(node)) foot.replaceChildren(costLine(node));
  };
  const update = (node, { isLast, branches, isBusy }) => {
    if (isNewest && !isLast) who.querySelector("details")?.removeAttribute("open");
    isNewest = isLast;
    element.classList.toggle("growing", isGrowing(node));
    text.setAttribute("aria-busy", isGrowing(node));
    text.setAttribute("aria-live", isLast ? "polite" : "off");
    grow(node);
    if (isGrowing(node)) return;
    if (isLast && node.toolCalls.length && !isBusy) calls.append(resultForm(node, actions));
    const copyButton = iconButton("copy", "Copy the answer", () => copy(node.content, copyButton));
    foot.replaceChildren(
      costLine(node),
      ...branchButtons(node, branches, isBusy, actions),
      copyButton,
      disabled(
        iconButton("again", "Answer again", () => actions.again(node)),
        isBusy,
      ),
      ...(isLast && canGoOn(node)
        ? [
            disabled(
              iconButton("on", "Go on with the answer", () => actions.goOn(node)),
              isBusy,
            ),
          ]
        : []),
      disabled(
        iconButton("trash", "Delete the answer and what follows", () => actions.remove(node)),
        isBusy,
      ),
    );
  };
  return { element, update, grow };
}

/** Answers that were broken off can be gone on with. */
const canGoOn = node => Boolean(node.content) && (node.state !== "done" || node.finish === "length");

const costLine = node =>
  el(
    "p",
    { class: "costs" },
    costs(node.svf, node.timings).map(part => el("span", {}, part)),
  );

/** What there is to say of an answer that is not, or not yet, whole. */
function stateOf(node, actions) {
  if (isGrowing(node))
    return node.content || node.reasoning || node.toolCalls.length
      ? []
      : [el("p", { class: "waiting" }, waitingFor(node))];
  const note = words => [el("p", { class: "note" }, words)];
  switch (node.state) {
    case "failed": {
      const again = el("button", { type: "button", onclick: () => actions.retry(node) }, icon("again"), "Try again");
      return [
        el("div", { class: "problem", role: "alert" }, el("span", {}, node.error || "Something went wrong."), again),
      ];
    }
    case "stopped":
      return note("You stopped this answer.");
    case "streaming":
      return note("The page was closed while this answer was written. This is what had come.");
    default:
      return node.finish === "length" ? note("The answer is cut: it reached the most tokens that it may have.") : [];
  }
}

function waitingFor({ waitsForChoice, progress }) {
  if (waitsForChoice) return "Choosing who answers…";
  if (progress?.total > 0) return `Reading the prompt: ${Math.round((100 * progress.processed) / progress.total)} %`;
  return "Reading the prompt…";
}

function callView({ name, arguments: given }) {
  return el(
    "figure",
    { class: "code" },
    el("figcaption", {}, el("span", {}, "Calls ", el("b", {}, name))),
    el("pre", { tabIndex: 0 }, el("code", {}, indented(given))),
  );
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // Not whole yet.
  }
}

/** Fields for what the tools gave, as this page runs none. */
function resultForm(node, actions) {
  const fields = node.toolCalls.map(({ name }) =>
    el("textarea", { rows: 2, required: true, "aria-label": `What ${name} gave`, placeholder: `What ${name} gave` }),
  );
  const give = event => {
    event.preventDefault();
    actions.giveResults(
      node,
      fields.map(field => field.value),
    );
  };
  return el(
    "form",
    { class: "edit", onsubmit: give },
    fields,
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Go on with this")),
  );
}
