/** Settings, and the API key. */

import { getKey, onKeyWanted, setKey } from "./api.js";
import { byId } from "./dom.js";
import { keep, load } from "./store.js";

/** Fields of the request with a setting of their own. */
const SAMPLING = ["temperature", "top_p", "max_tokens", "seed"];
/** What the page itself fills in. */
const OURS = ["messages", "stream"];

let settings = { theme: "", system: "", extra: {}, ...load("settings", {}) };

/** The system message of new conversations. */
export const firstSystem = () => settings.system;

/** The request's fields by the settings. */
export function requestFields() {
  const given = SAMPLING.filter(name => typeof settings[name] === "number").map(name => [name, settings[name]]);
  return { ...settings.extra, ...Object.fromEntries(given) };
}

/** The fields of a JSON object in a text; throws where it is none. */
function extraFields(text) {
  if (!text.trim()) return {};
  const fields = JSON.parse(text);
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) throw new Error("an object was expected");
  for (const name of OURS) delete fields[name];
  return fields;
}

function keepSettings(changed) {
  settings = { ...settings, ...changed };
  keep("settings", settings);
  applyTheme();
}

function applyTheme() {
  document.documentElement.dataset.theme = settings.theme;
}

/** Turns dark to light and back. */
export function toggleTheme() {
  const isDark = settings.theme ? settings.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  keepSettings({ theme: isDark ? "light" : "dark" });
}

/** Uses a key, and keeps it only where that is wanted. */
function takeKey(value, isKept) {
  setKey(value);
  keep("key", isKept && value ? value : null);
}

/** Brings back what was kept, and lets a server's wish for a key be answered. */
export function startSettings() {
  applyTheme();
  setKey(load("key", ""));
  onKeyWanted(askForKey);
}

/** A dialog's form as a promise: its fields when it is sent, `null` when it is given up. `check` may refuse it. */
function filled(dialog, check = () => true) {
  const form = dialog.querySelector("form");
  return new Promise(resolve => {
    const end = value => {
      form.onsubmit = dialog.onclose = null;
      dialog.close();
      resolve(value);
    };
    form.onsubmit = event => {
      event.preventDefault();
      if (check(form.elements)) end(form.elements);
    };
    form.querySelector("[value=cancel]").onclick = () => end(null);
    dialog.onclose = () => end(null);
    dialog.showModal();
  });
}

async function askForKey() {
  const dialog = byId("ask-key");
  dialog.querySelector("form").reset();
  const fields = await filled(dialog);
  if (!fields) return null;
  takeKey(fields.key.value.trim(), fields.keepKey.checked);
  return getKey();
}

/** Shows the settings; `conversation` gets its system message, and `true` is given where something was saved. */
export async function editSettings(conversation) {
  const dialog = byId("settings");
  const { elements } = dialog.querySelector("form");
  for (const name of SAMPLING) elements[name].value = settings[name] ?? "";
  elements.system.value = conversation.system;
  elements.keepSystem.checked = settings.system !== "" && settings.system === conversation.system;
  elements.extra.value = Object.keys(settings.extra).length ? JSON.stringify(settings.extra) : "";
  elements.theme.value = settings.theme;
  elements.key.value = getKey();
  elements.keepKey.checked = load("key", "") !== "";
  const problem = dialog.querySelector(".problem");
  problem.hidden = true;
  const fields = await filled(dialog, ({ extra }) => {
    try {
      extraFields(extra.value);
      return true;
    } catch (error) {
      problem.textContent = `The other fields are no JSON object: ${error.message}`;
      problem.hidden = false;
      extra.focus();
      return false;
    }
  });
  if (!fields) return false;
  conversation.system = fields.system.value.trim();
  const number = name => [name, fields[name].value === "" ? null : Number(fields[name].value)];
  keepSettings({
    ...Object.fromEntries(SAMPLING.map(number)),
    extra: extraFields(fields.extra.value),
    theme: fields.theme.value,
    system: fields.keepSystem.checked
      ? conversation.system
      : settings.system === elements.system.value
        ? ""
        : settings.system,
  });
  takeKey(fields.key.value.trim(), fields.keepKey.checked);
  return true;
}
