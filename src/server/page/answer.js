/** Answers at work: from a conversation's messages to a message that grows. */

import { chat, inWords, wasStopped } from "./api.js";
import { path } from "./conversation.js";
import { save } from "./store.js";

/** How often a growing answer is kept, in milliseconds. */
const KEPT_EVERY = 300;

/** The answers that this page is streaming: by conversation. */
const running = new Map();

export const isRunning = conversation => running.has(conversation.id);
export const isGrowing = node => [...running.values()].some(({ node: growing }) => growing.id === node.id);

/** Ends a conversation's answer; what came stays. */
export const stop = conversation => running.get(conversation.id)?.controller.abort();

/** The browser ends requests when the page closes: that is no failure of theirs. */
let isClosing = false;

/** Lets what has come be kept when the page closes. */
export function startAnswers() {
  const close = () => {
    isClosing = true;
    running.forEach(({ conversation }) => save(conversation));
  };
  // Firefox ends requests between the two; phones know the second only.
  addEventListener("beforeunload", close);
  addEventListener("pagehide", close);
  addEventListener("pageshow", () => {
    isClosing = false;
  });
}

/**
 * Streams an answer into `node`, the last of the conversation's shown messages; what it holds already is gone on with.
 * `fields` are the request's, other than its messages. Calls `changed` after each piece, and when it ended.
 */
export async function answer(conversation, node, fields, changed) {
  const controller = new AbortController();
  running.set(conversation.id, { conversation, node, controller });
  const body = { ...fields, messages: messages(conversation, node), timings_per_token: true, return_progress: true };
  Object.assign(node, { state: "streaming", finish: "", error: "", waitsForChoice: Boolean(fields.svf?.adapt) });
  save(conversation);
  changed();
  let kept = Date.now();
  try {
    for await (const chunk of chat(body, controller.signal)) {
      take(chunk, node);
      if (Date.now() - kept > KEPT_EVERY) {
        save(conversation);
        kept = Date.now();
      }
      changed();
    }
    node.state = "done";
  } catch (error) {
    if (!isClosing) node.state = wasStopped(error) ? "stopped" : "failed";
    if (node.state === "failed") node.error = inWords(error);
  } finally {
    delete node.progress;
    delete node.waitsForChoice;
    running.delete(conversation.id);
    conversation.updated = Date.now();
    save(conversation);
    changed();
  }
}

/** Puts what a chunk brings into the message. */
function take(chunk, node) {
  if (chunk.svf) {
    node.svf = chunk.svf;
    delete node.waitsForChoice;
  }
  if (chunk.timings) node.timings = chunk.timings;
  if (chunk.prompt_progress) node.progress = chunk.prompt_progress;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  const { content, reasoning_content: reasoning, tool_calls: calls } = choice.delta ?? {};
  if (content || reasoning || calls) delete node.progress;
  node.content += content ?? "";
  node.reasoning += reasoning ?? "";
  for (const call of calls ?? []) takeToolCall(call, node.toolCalls);
  if (choice.finish_reason) node.finish = choice.finish_reason;
}

function takeToolCall({ index = 0, id, function: called }, calls) {
  const call = (calls[index] ??= { id: "", name: "", arguments: "" });
  if (id) call.id = id;
  call.name += called?.name ?? "";
  call.arguments += called?.arguments ?? "";
}

/** The shown messages up to `last` as the API wants them; empty answers, as `last` is at first, are left out. */
function messages(conversation, last) {
  const shown = path(conversation);
  const asked = shown.slice(0, shown.indexOf(last) + 1);
  const sent = asked.map((node, i) => message(node, asked[i + 1]?.role === "tool"));
  const system = conversation.system ? [{ role: "system", content: conversation.system }] : [];
  return [
    ...system,
    ...sent.filter(({ role, content, tool_calls: calls }) => role !== "assistant" || content || calls),
  ];
}

/** One message; calls of tools that nothing answered are left out. */
function message({ role, content, toolCalls, callId }, isAnswered) {
  if (role === "tool") return { role, content, tool_call_id: callId };
  if (role !== "assistant" || !isAnswered) return { role, content };
  const calls = toolCalls.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: given },
  }));
  return { role, content, tool_calls: calls };
}
