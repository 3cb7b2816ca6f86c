/** A conversation is a tree of messages: a question put differently, or an answer given again, is a branch of its own. */

const ROLES = ["user", "assistant", "tool"];
const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, "0")).join("");

/** An empty conversation. `leaf` is the last message of the branch that is shown. */
export function newConversation(system = "") {
  const now = Date.now();
  return { id: newId(), title: "", system, draft: "", created: now, updated: now, leaf: null, nodes: [] };
}

/** The messages that are shown, the first one first. */
export function path(conversation) {
  const byId = new Map(conversation.nodes.map(node => [node.id, node]));
  const found = [];
  for (let node = byId.get(conversation.leaf); node; node = byId.get(node.parent)) found.push(node);
  return found.reverse();
}

/** Adds a message below `parent` (an id, `null` for the first) and shows it. */
export function add(conversation, parent, fields) {
  const node = { id: newId(), parent, time: Date.now(), ...fields };
  conversation.nodes.push(node);
  conversation.leaf = node.id;
  conversation.updated = node.time;
  return node;
}

/** The branches at a message, itself among them. */
export const siblings = (conversation, node) => conversation.nodes.filter(other => other.parent === node.parent);

/** Shows the branch through `node`, down to the newest message below it. */
export function show(conversation, node) {
  let leaf = node;
  // Messages stand in the order in which they came, so a child stands behind its parent.
  for (const other of conversation.nodes) if (other.parent === leaf.id) leaf = lastChild(conversation, leaf);
  conversation.leaf = leaf.id;
}

const lastChild = (conversation, node) => conversation.nodes.findLast(other => other.parent === node.id);

/** Removes a message with everything below it, and shows a branch beside it, or what stood before it. */
export function remove(conversation, node) {
  const gone = new Set([node.id]);
  for (const other of conversation.nodes) if (gone.has(other.parent)) gone.add(other.id);
  const wasShown = gone.has(conversation.leaf);
  conversation.nodes = conversation.nodes.filter(other => !gone.has(other.id));
  const beside = siblings(conversation, node).at(-1);
  if (!wasShown) return;
  if (beside) show(conversation, beside);
  else conversation.leaf = node.parent;
}

/** What the list calls a conversation. */
export function titleOf(conversation) {
  const first = conversation.nodes.find(node => node.role === "user")?.content ?? "";
  return conversation.title || first.replace(/\s+/g, " ").trim().slice(0, 80) || "New conversation";
}

const isObject = value => typeof value === "object" && value !== null && !Array.isArray(value);
const text = value => (typeof value === "string" ? value : "");
const object = value => (isObject(value) ? value : null);
const time = value => (Number.isFinite(value) ? value : Date.now());
const toolCall = call => ({ id: text(call?.id), name: text(call?.name), arguments: text(call?.arguments) });

/** A message with what this page knows of it, each of the type that it has to be. */
function adoptNode(raw) {
  return {
    id: raw.id,
    parent: raw.parent,
    time: time(raw.time),
    role: raw.role,
    content: raw.content,
    reasoning: text(raw.reasoning),
    state: text(raw.state),
    finish: text(raw.finish),
    error: text(raw.error),
    callId: text(raw.callId),
    svf: object(raw.svf),
    timings: object(raw.timings),
    toolCalls: Array.isArray(raw.toolCalls) ? raw.toolCalls.map(toolCall) : [],
  };
}

/** A conversation from a file or the browser's storage, or `null` where it is none. */
export function adopt(raw) {
  if (!isObject(raw) || !text(raw.id) || !Array.isArray(raw.nodes)) return null;
  const known = new Set([null]);
  const nodes = [];
  for (const node of raw.nodes) {
    // Each message stands below one before it: so there is no circle.
    if (!isObject(node) || !text(node.id) || known.has(node.id) || !known.has(node.parent)) continue;
    if (!ROLES.includes(node.role) || typeof node.content !== "string") continue;
    known.add(node.id);
    nodes.push(adoptNode(node));
  }
  return {
    id: raw.id,
    title: text(raw.title),
    system: text(raw.system),
    draft: text(raw.draft),
    created: time(raw.created),
    updated: time(raw.updated),
    leaf: known.has(raw.leaf) ? raw.leaf : (nodes.at(-1)?.id ?? null),
    nodes,
  };
}

/** The same conversation under an id of its own. */
export const copied = conversation => ({ ...conversation, id: newId() });
