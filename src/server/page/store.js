/** What the browser keeps: settings and conversations, each under a key of its own. */

import { adopt, copied } from "./conversation.js";

const PREFIX = "llama-svf:";
const CONVERSATION = `${PREFIX}conversation:`;
const FORMAT = "llama-svf conversations";

let onProblem = () => {};
const conversations = new Map();
/** Ids that cannot be kept; said once each. */
const unkept = new Set();

/** A value under a name, or `otherwise`. */
export function load(name, otherwise) {
  return parse(stored(PREFIX + name)) ?? otherwise;
}

/** Keeps a value under a name; `null` removes it. */
export function keep(name, value) {
  return write(PREFIX + name, value);
}

function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // Storage can be switched off.
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
    unkept.delete(key);
  } catch {
    if (!unkept.has(key))
      onProblem("The browser has no room to keep this. Export what you need, then delete conversations.");
    unkept.add(key);
  }
}

/** Reads all conversations; `changed` hears of an id that another tab changed, `problem` of what cannot be kept. */
export function open({ changed, problem }) {
  onProblem = problem;
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(CONVERSATION)) take(key, localStorage[key]);
  } catch {
    problem("This browser keeps nothing: conversations are gone when the page closes.");
  }
  addEventListener("storage", event => {
    if (!event.key?.startsWith(CONVERSATION)) return;
    take(event.key, event.newValue);
    changed(event.key.slice(CONVERSATION.length));
  });
}

function take(key, text) {
  const id = key.slice(CONVERSATION.length);
  const conversation = adopt(parse(text));
  if (conversation?.id === id) conversations.set(id, conversation);
  else if (text === null) conversations.delete(id);
}

/** All conversations, the newest first. */
export const all = () => [...conversations.values()].sort((a, b) => b.updated - a.updated);
export const get = id => conversations.get(id);

/** Keeps a conversation as it is now. */
export function save(conversation) {
  conversations.set(conversation.id, conversation);
  write(CONVERSATION + conversation.id, conversation);
}

/** Forgets a conversation. */
export function forget(conversation) {
  conversations.delete(conversation.id);
  write(CONVERSATION + conversation.id, null);
}

/** All conversations as the text of a file. */
export const exported = () => JSON.stringify({ format: FORMAT, version: 1, conversations: all() }, null, 1);

/** Adds a file's conversations to those that are here and gives their number; throws where it is no such file. */
export function imported(text) {
  const file = parse(text);
  if (file?.format !== FORMAT || !Array.isArray(file.conversations))
    throw new Error("This is no file of conversations.");
  const found = file.conversations.map(adopt).filter(Boolean);
  const added = found.filter(conversation => get(conversation.id)?.updated !== conversation.updated);
  for (const conversation of added) save(get(conversation.id) ? copied(conversation) : conversation);
  return added.length;
}
